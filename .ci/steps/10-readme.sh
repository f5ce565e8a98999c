#!/usr/bin/env bash
# README's commands pasted literally into a bare account: the demo, and a first unlock
source .ci/common.sh

copy_sources "$SCRATCH/readme"
# An account with nothing but a system's Python.
account=(env -i -C "$SCRATCH/readme" "HOME=$SCRATCH/readme" "PATH=$(dirname "$(command -v python3)"):/usr/bin:/bin")
for variable in PIP_INDEX_URL PIP_CONFIG_FILE SSL_CERT_FILE REQUESTS_CA_BUNDLE https_proxy; do
    [[ -z ${!variable:-} ]] || account+=("$variable=${!variable}")
done
"${account[@]}" bash -c "$(readme 'python3 -m venv venv')" >"$SCRATCH/install.log" 2>&1 || { cat "$SCRATCH/install.log"; exit 1; }
in_background "$SCRATCH/demo.log" "${account[@]}" PYTHONUNBUFFERED=1 bash -c "exec $(readme 'jt709c-gateway --demo')"
wait_for 'Ctrl-C ends everything' "$SCRATCH/demo.log"
unlock="$(readme 'export JT709C_REDIS=embedded:jt709c-demo') && $(readme 'jt709c send unlock')"
"${account[@]}" python3 "$PWD/.ci/answer_prompt.py" 888888 "$unlock" | tee "$SCRATCH/unlock.log"
grep -q confirmed "$SCRATCH/unlock.log"
no_traceback "$SCRATCH/demo.log"
stop_started
[[ ! -e $SCRATCH/readme/jt709c-demo ]]
"$SCRATCH/readme/venv/bin/twistd" --help >"$SCRATCH/help"
grep jt709c-gateway "$SCRATCH/help"
"$SCRATCH/readme/venv/bin/jt709c" decode 7e0002000308155885891510deead3ce647e
