#!/usr/bin/env bash
# README's first commands pasted literally into one terminal of a bare account: the demo, and a first unlock
source .ci/common.sh

copy_sources "$SCRATCH/readme"
# An account with nothing but a system's Python.
account=(env -i -C "$SCRATCH/readme" "HOME=$SCRATCH/readme" "PATH=$(dirname "$(command -v python3)"):/usr/bin:/bin")
for variable in PIP_INDEX_URL PIP_CONFIG_FILE SSL_CERT_FILE REQUESTS_CA_BUNDLE https_proxy; do
    [[ -z ${!variable:-} ]] || account+=("$variable=${!variable}")
done
pasted=$(sed -n '/^Try it$/,/^The command is/s/^    //p' README.rst)
grep -q 'venv/bin/pip install' <<<"$pasted"
grep -qF '``kill %1`` ends everything' README.rst
"${account[@]}" timeout 300 python3 "$PWD/.ci/answer_prompt.py" 888888 "$pasted"$'\nkill %1\nwait' >"$SCRATCH/readme.log" 2>&1 ||
    true
grep -q confirmed "$SCRATCH/readme.log" || { cat "$SCRATCH/readme.log"; exit 1; }
no_traceback "$SCRATCH/readme.log"
[[ ! -e $SCRATCH/readme/jt709c-demo ]]
"$SCRATCH/readme/venv/bin/twistd" --help >"$SCRATCH/help"
grep jt709c-gateway "$SCRATCH/help"
"$SCRATCH/readme/venv/bin/jt709c" decode 7e0002000308155885891510deead3ce647e
