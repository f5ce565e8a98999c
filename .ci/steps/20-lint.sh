#!/usr/bin/env bash
# linters and types, and the twisted plugin in an editable environment
source .ci/common.sh

environment test -e '.[test,lint]'
twistd --help >"$SCRATCH/help"
grep jt709c-gateway "$SCRATCH/help"
ruff check .
ruff format --check .
mypy --strict jt709c_gateway
