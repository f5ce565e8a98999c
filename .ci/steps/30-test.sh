#!/usr/bin/env bash
# README's test command, with the highest versions of all dependencies
source .ci/common.sh

environment test
command=$(readme "pip install '.[test]'")
eval "${command%% && *} --quiet"
pip install --quiet -e '.[test]'
eval "${command#* && }"
