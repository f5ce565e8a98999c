#!/usr/bin/env bash
# README's first two commands in a bare environment: run the gateway, and a first unlock
source .ci/common.sh

environment readme
command=$(readme 'twistd -n jt709c-gateway --redis embedded')
eval "${command%% && *} --quiet"
twistd --help >"$SCRATCH/help"
grep jt709c-gateway "$SCRATCH/help"
mkdir "$SCRATCH/readme"
in_background "$SCRATCH/gateway.log" env -C "$SCRATCH/readme" bash -c "exec ${command#* && }"
first_unlock "$SCRATCH/gateway.log"
jt709c decode 7e0002000308155885891510deead3ce647e
no_traceback "$SCRATCH/gateway.log"
