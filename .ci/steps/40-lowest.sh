#!/usr/bin/env bash
# what the dependencies have to do with, with the lowest versions that setup.cfg allows
source .ci/common.sh

environment lowest
uv pip install --quiet --resolution lowest-direct -e '.[test]'
uv pip freeze --exclude-editable | grep -iE '^(twisted|attrs|txredisapi|service.identity|msgspec|prometheus|click|rich|valkey)'
# What touches an interface of theirs: the daemon, Redis, sockets, options, the page's server, the command line.
# 30-test runs the rest.
python -m pytest -q -n 4 tests/unit/{transport,config,client} tests/unit/web/test_{access,api,limits,live,redis}.py \
    tests/unit/redis/test_{connection,protocol,tls,scripts,committer,late_connection}.py tests/unit/redis/embedded/test_server.py \
    tests/integration/test_{daemon_lifecycle,web}.py tests/unit/cli/test_{main,send}.py
