#!/usr/bin/env bash
# nothing creeps: memory, descriptors and latency for a minute
source .ci/common.sh

environment test -e '.[test]'
python benchmarks/soak.py --minutes 1
