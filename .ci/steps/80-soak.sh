#!/usr/bin/env bash
# nothing creeps: memory, descriptors and latency for a minute and a half
source .ci/common.sh

environment test -e '.[test]'
python benchmarks/soak.py --minutes 1.5
