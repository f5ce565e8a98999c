#!/bin/sh
# Open a lock and tell what became of it, with redis-cli (or CLI=valkey-cli) and jq:
#     JT709C_REDIS=redis://127.0.0.1:6379 sh command.sh DEVICE < password-file
# The exit status is 0 when it was opened, 1 when it was not, and 2 when nobody knows.
set -eu
cli() { "${CLI:-redis-cli}" -u "${JT709C_REDIS:-redis://127.0.0.1:6379}" --no-auth-warning -e "$@"; }
if [ $# -ne 1 ]; then
    echo "usage: command.sh DEVICE < password-file" >&2
    exit 1
fi
id=$(cat /proc/sys/kernel/random/uuid)
command=$(head -n 1 | jq -Rc --arg id "$id" --arg device "$1" '{
    $id, $device, command: "unlock", params: {password: .},
    ttl: 60, timeout: 30, reply_to: $id, issued_by: "command.sh"
}')
if [ -z "$command" ]; then
    echo "command.sh: no password on standard input" >&2
    exit 1
fi
# The command goes through standard input (-x): on a command line its password would show in the process list.
printf '%s' "$command" | cli -x RPUSH jt709c:commands >/dev/null

# ttl, timeout and --confirm-timeout are 210 seconds at most. Behind the name of the list comes the outcome.
reply=$(cli BLPOP "jt709c:reply:$id" 240 | tail -n 1)
if [ -n "$reply" ]; then
    state=$(printf '%s' "$reply" | jq -r .state)
    printf '%s' "$reply" | jq -r '"\(.state) \(.reason // "")"'
else
    state=$(cli HGET "jt709c:command:$id" state)
    echo "${state:-unknown}"
fi
case $state in
    confirmed) exit 0 ;;
    rejected | failed | expired | cancelled | invalid) exit 1 ;;
    # unconfirmed, uncertain: it may be open. Look before you command again.
    *) exit 2 ;;
esac
