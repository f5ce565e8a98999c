#!/usr/bin/env bash
# documentation: built without a warning, and the programs in it run, for which it brings what they need
source .ci/common.sh

# need COMMAND PACKAGE...: install the Debian packages that bring a command, or fail.
need() {
    command -v "$1" >/dev/null && return
    apt-get install --yes -qq --no-install-recommends "${@:2}" >"$SCRATCH/apt.log" 2>&1 ||
        { apt-get update -qq && apt-get install --yes -qq --no-install-recommends "${@:2}"; } >"$SCRATCH/apt.log" 2>&1 ||
        { cat "$SCRATCH/apt.log"; echo "the tests of the documentation need $1"; exit 1; }
}

environment test -e '.[test,docs]'
sphinx-build -q -W --keep-going -n docs "$SCRATCH/html"

need node nodejs
need npm npm
need redis-cli redis-tools
need jq jq
need curl curl
need systemd-analyze systemd
without=()
if [[ ${CI:-} ]]; then
    need haproxy haproxy
    need nginx nginx-light libnginx-mod-stream
    need mosquitto mosquitto
else
    # On a machine of somebody's, installing them would start them.
    if ! command -v haproxy >/dev/null || ! command -v nginx >/dev/null; then
        echo "************ NO haproxy AND nginx HERE: THE BALANCERS ARE NOT TRIED OUT ************"
        without+=(--deselect tests/docs/test_deployment.py::BalancerTests)
    fi
    if ! command -v mosquitto >/dev/null; then
        echo "************ NO mosquitto HERE: EVENTS OVER MQTT ARE NOT TRIED OUT ************"
        without+=(--deselect tests/docs/test_forwarding.py::MqttTests)
    fi
fi
mkdir "$SCRATCH/node"
cp docs/examples/package.json "$SCRATCH/node"
npm --prefix "$SCRATCH/node" install --no-audit --no-fund --loglevel=error
JT709C_REQUIRE_TOOLS=1 JT709C_TEST_NODE=$SCRATCH/node python -m pytest -q "${without[@]}" tests/docs
deactivate

echo "-- the quick start's first block, in a copy of the sources"
copy_sources "$SCRATCH/quickstart"
sed -n '/:caption: Install/,/^[^ ]/s/^   \([^:]\)/\1/p' docs/quickstart.rst >"$SCRATCH/install"
grep -q pip "$SCRATCH/install"
cd "$SCRATCH/quickstart"
# shellcheck disable=SC1091
. "$SCRATCH/install" >"$SCRATCH/install.log"
jt709c --version
twistd --help >"$SCRATCH/help"
grep jt709c-gateway "$SCRATCH/help"
