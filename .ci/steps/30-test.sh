#!/usr/bin/env bash
# README's test command with the highest versions, the status page in Chromium and Firefox; 40-docs tests the documentation
source .ci/common.sh

# A machine that has no browser, and may not get one, fails at the page's tests and is told what to install.
if ! command -v chromium >/dev/null && ((EUID == 0)) && command -v apt-get >/dev/null; then
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
        >"$SCRATCH/chromium.log" 2>&1 || cat "$SCRATCH/chromium.log"
fi
export JT709C_REQUIRE_BROWSER=1
if ! command -v firefox-esr firefox >/dev/null && ((EUID == 0)) && command -v apt-get >/dev/null; then
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends firefox-esr; } \
        >"$SCRATCH/firefox.log" 2>&1 || true
fi
if command -v firefox-esr firefox >/dev/null; then
    export JT709C_REQUIRE_FIREFOX=1
else
    echo "************ NO firefox HERE, AND NO PACKAGE OF IT: THE STATUS PAGE IS NOT TRIED IN IT ************"
fi

environment test
command=$(readme "pip install '.[test]'")
eval "${command%% && *} --quiet"
uv pip install --quiet -e '.[test,browser]'
# Four at once: most of the time they wait, for daemons that start and for what is to time out.
export PYTEST_ADDOPTS="-n 4 --ignore=tests/docs"
eval "${command#* && }"
# By default a report waits for others before it is written. The promises hold without that, too.
PYTEST_ADDOPTS="-n 4" JT709C_TEST_OPTIONS="--commit-window 0" python -m pytest -q \
    tests/promises/test_{acknowledgement_is_the_commit,latecomers}.py \
    tests/promises/test_command_never_opens_a_lock_twice.py::KilledGatewayTests
