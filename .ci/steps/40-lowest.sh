#!/usr/bin/env bash
# the whole suite with the lowest versions that setup.cfg allows
source .ci/common.sh

# pip knows no way to ask for them.
environment lowest 'uv >= 0.5, < 1'
uv pip install --quiet --resolution lowest-direct -e '.[test]'
uv pip freeze --exclude-editable | grep -iE '^(twisted|attrs|txredisapi|service.identity|msgspec|prometheus|click|rich|valkey)'
python -m pytest -q -n 4
