#!/usr/bin/env bash
# alert rules and dashboard, also by promtool, which Debian has in its package prometheus
source .ci/common.sh

environment test -e '.[test]'
if ! command -v promtool >/dev/null && command -v apt-get >/dev/null; then
    # Not installed: the package would start a server.
    mkdir "$SCRATCH/prometheus"
    cd "$SCRATCH/prometheus"
    ((EUID)) || apt-get update -qq
    apt-get download -qq prometheus
    dpkg-deb --extract prometheus_*.deb .
    mv usr/bin/promtool "$SCRATCH/bin"
    cd "$OLDPWD"
fi
if command -v promtool >/dev/null; then
    export JT709C_REQUIRE_PROMTOOL=1
else
    echo "************ NO promtool, AND NO apt-get TO GET IT: THE ALERT RULES ARE NOT TRIED OUT ************"
fi
python -m pytest -q tests/unit/gateway/test_metrics.py
