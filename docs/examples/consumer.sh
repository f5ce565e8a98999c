#!/bin/sh
# Follow the events of all locks and miss none, with redis-cli (or CLI=valkey-cli) from 7.0 and jq:
#     JT709C_REDIS=redis://127.0.0.1:6379 sh consumer.sh
# A password is better in REDISCLI_AUTH than in the address, where the process list would show it.
set -eu
stream=jt709c:events group=logbook consumer=logbook-1
cli() { "${CLI:-redis-cli}" -u "${JT709C_REDIS:-redis://127.0.0.1:6379}" --no-auth-warning -e "$@"; }

# Yours. Each event comes here at least once; after a crash perhaps again, with the same id.
handle() { printf '%s\n' "$1" | jq -r '"\(.id) \(.kind) \(.device)"'; }

# One that is there is as good as a new one.
cli XGROUP CREATE "$stream" "$group" 0 MKSTREAM >/dev/null 2>&1 || true

# First what we were given before and never acknowledged (from 0 on), then what is new (>).
after=0
while true; do
    reply=$(cli --json XREADGROUP GROUP "$group" "$consumer" COUNT 1 BLOCK 5000 STREAMS "$stream" "$after") || {
        # What was on its way to us is ours still: begin anew.
        after=0
        sleep 1
        continue
    }
    entry=$(printf '%s' "$reply" | jq -r --arg stream "$stream" '.[$stream][0][0] // empty')
    if [ -n "$entry" ]; then
        # The fields are name, value, name, value; none are left where the stream was cut off.
        event=$(printf '%s' "$reply" | jq -r --arg stream "$stream" '
            (.[$stream][0][1] // []) as $fields | $fields | index("event") as $at
            | if $at then $fields[$at + 1] else empty end')
        [ -z "$event" ] || handle "$event"
        cli XACK "$stream" "$group" "$entry" >/dev/null || after=0
    elif [ "$after" != ">" ]; then
        after=">"
    fi
done
