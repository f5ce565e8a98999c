#!/usr/bin/env bash
# the image and its compose file: built and run where there is a container tool, else its steps done by hand
source .ci/common.sh

tool=""
for candidate in docker podman; do
    if timeout 20 "$candidate" info >/dev/null 2>&1; then tool=$candidate && break; fi
done
if [[ $tool ]] && "$tool" pull --quiet docker.io/library/python:3.13-slim >"$SCRATCH/pull.log" 2>&1; then
    format=()
    [[ $tool != podman ]] || format=(--format docker)
    "$tool" build --quiet "${format[@]}" -f etc/container/Containerfile -t jt709c-gateway-ci .
    "$tool" run --rm jt709c-gateway-ci --version
    if "$tool" compose version >/dev/null 2>&1; then
        export REDIS_PASSWORD=ci COMPOSE_PROJECT_NAME=jt709c-ci
        trap '"$tool" compose -f etc/container/compose.yaml down --volumes >/dev/null 2>&1; stop_started' EXIT
        "$tool" compose -f etc/container/compose.yaml up --build --detach --wait
        curl --silent --fail http://127.0.0.1:8089/readyz
    fi
else
    echo "************ NO CONTAINER TOOL WITH IMAGES HERE: THE IMAGE'S STEPS ARE DONE BY HAND ************"
    # What COPY takes out of the sources, and the install of RUN.
    mkdir "$SCRATCH/image"
    grep '^COPY [^-]' etc/container/Containerfile | while read -r _ line; do
        read -ra words <<<"$line"
        target=$SCRATCH/image${words[-1]}
        unset 'words[-1]'
        mkdir -p "$(dirname "$target")" && [[ $target != */ ]] || mkdir -p "$target"
        cp -r "${words[@]}" "$target"
    done
    python3 -m venv "$SCRATCH/image/opt"
    "$SCRATCH/image/opt/bin/pip" install --quiet "$SCRATCH/image/src"
    "$SCRATCH/image/opt/bin/jt709c-gateway" --version
    "$SCRATCH/image/opt/bin/jt709c" --version
fi
