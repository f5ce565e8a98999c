#!/usr/bin/env bash
# README's test command, with the highest versions of all dependencies
source .ci/common.sh

environment test
command=$(readme "pip install '.[test]'")
eval "${command%% && *} --quiet"
pip install --quiet -e '.[test]'
# Four at once: most of the time they wait, for daemons that start and for what is to time out.
export PYTEST_ADDOPTS="-n 4"
eval "${command#* && }"
