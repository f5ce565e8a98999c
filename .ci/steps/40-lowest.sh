#!/usr/bin/env bash
# what the dependencies have to do with, with the lowest versions that setup.cfg allows
source .ci/common.sh

# pip knows no way to ask for them.
environment lowest 'uv >= 0.5, < 1'
uv pip install --quiet --resolution lowest-direct -e '.[test]'
uv pip freeze --exclude-editable | grep -iE '^(twisted|attrs|txredisapi|service.identity|msgspec|prometheus|click|rich|valkey)'
# Left out is what tells nothing of a version: bytes taken apart, models, figures, and what takes long and uses
# nothing that others don't. 30-test runs all of it.
without=(tests/{faults,browser,docs,promises,unit/protocol} tests/integration/test_benchmarks.py)
without+=(tests/unit/gateway/commands/test_matrix.py tests/unit/redis/test_commit_matrix.py)
python -m pytest -q -n 4 "${without[@]/#/--ignore=}"
