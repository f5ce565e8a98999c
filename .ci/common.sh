# For the steps: `source .ci/common.sh` first. They run in the top directory, each in a shell of its own, and
# may keep files in $SCRATCH, which all of them share and which goes away at the end; commands in $SCRATCH/bin
# are found by all that come after.
# shellcheck shell=bash
set -euo pipefail

started=()
stop_started() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    started=()
}
trap stop_started EXIT

# in_background LOG COMMAND...: run it until the step ends; LOG gets what it says.
in_background() {
    "${@:2}" >"$1" 2>&1 &
    started+=($!)
}

# The line of README.rst that holds this text.
readme() { grep -m1 -F -- "$1" README.rst | sed 's/^ *//'; }

# environment NAME [REQUIREMENT...]: make a bare virtual environment, or take the one that an earlier step
# made by this name; activate it and install into it. By uv, which takes a fifth of pip's time; README's commands
# are tried with pip.
environment() {
    local path=$SCRATCH/environment-$1
    if ! command -v uv >/dev/null; then
        python3 -m venv "$SCRATCH/uv"
        "$SCRATCH/uv/bin/python" -m pip install --quiet 'uv >= 0.5, < 1'
        ln -s "$SCRATCH/uv/bin/uv" "$SCRATCH/bin/uv"
    fi
    [[ -d $path ]] || uv venv --quiet --seed --python python3 "$path"
    # shellcheck disable=SC1091
    . "$path/bin/activate"
    if (($# > 1)); then uv pip install --quiet "${@:2}"; fi
}

# Whether this is a checkout, and not sources that were unpacked.
is_checkout() { git rev-parse --is-inside-work-tree >/dev/null 2>&1; }

# wait_for TEXT FILE: until FILE holds TEXT, or fail after 30 s.
wait_for() {
    for _ in $(seq 300); do
        if grep -q -- "$1" "$2" 2>/dev/null; then return; fi
        sleep 0.1
    done
    echo "not seen within 30 s: $1"
    cat "$2"
    return 1
}

# no_traceback FILE: fail, and show FILE, if a traceback is in it.
no_traceback() { if grep -q Traceback "$1"; then cat "$1"; return 1; fi; }

# copy_sources DIRECTORY: what git has of them, in a new directory.
copy_sources() {
    mkdir "$1"
    if is_checkout; then git ls-files -z | xargs -0 cp --parents --target-directory="$1"; else cp -a . "$1"; fi
}

# first_unlock LOG: with the gateway whose log this is, let simulated locks carry out a first unlock.
first_unlock() {
    wait_for 'connected to Redis' "$1"
    eval "$(grep -o -m1 'export JT709C_REDIS=embedded:[^ ]*' "$1")"
    in_background "$SCRATCH/simulate.log" jt709c simulate --locks 3
    echo 888888 >"$SCRATCH/password"
    jt709c send unlock 794308010001 --wait --password-file "$SCRATCH/password" | tee "$SCRATCH/unlock.log"
    grep -q confirmed "$SCRATCH/unlock.log"
}
