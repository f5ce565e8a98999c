"""Open a lock and tell what became of it, without a library: python command_plain.py DEVICE < password-file

The exit status is 0 when it was opened, 1 when it was not, and 2 when nobody knows.
"""

import json
import sys
import time
import uuid

from resp import Redis

NOT_OPENED = {"rejected", "failed", "expired", "cancelled", "invalid"}
TTL, TIMEOUT, CONFIRM = 60, 30, 120


def carry_out(command):
    """Push the command and wait for its end. Doing so again is harmless: it is carried out once."""
    server = Redis()
    server.call("RPUSH", "jt709c:commands", json.dumps(command))
    deadline = time.monotonic() + TTL + TIMEOUT + CONFIRM + 30
    while time.monotonic() < deadline:
        reply = server.call("BLPOP", f"jt709c:reply:{command['reply_to']}", 5)
        if reply:
            return json.loads(reply[1])
    state, reason = server.call("HMGET", f"jt709c:command:{command['id']}", "state", "reason")
    return {"state": state or "unknown", "reason": reason}


name = uuid.uuid4().hex
command = {
    "id": name,
    "device": sys.argv[1],
    "command": "unlock",
    "params": {"password": sys.stdin.readline().strip()},
    "ttl": TTL,
    "timeout": TIMEOUT,
    "reply_to": name,
    "issued_by": "command_plain.py",
}
while True:
    try:
        end = carry_out(command)
        break
    except OSError:
        time.sleep(1)
print(end["state"], end["reason"] or "")
# Anything else: it may be open. Look before you command again; later evidence still makes it "confirmed".
sys.exit(0 if end["state"] == "confirmed" else 1 if end["state"] in NOT_OPENED else 2)
