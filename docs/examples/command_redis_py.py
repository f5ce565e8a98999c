"""Open a lock and tell what became of it, with redis-py: python command_redis_py.py DEVICE < password-file

The exit status is 0 when it was opened, 1 when it was not, and 2 when nobody knows.
"""

import json
import os
import sys
import time
import uuid

import redis

NOT_OPENED = {"rejected", "failed", "expired", "cancelled", "invalid"}
TTL, TIMEOUT, CONFIRM = 60, 30, 120


def give(server, command):
    """Push the command. Doing so twice does no harm: an id that is known is not carried out again."""
    server.rpush("jt709c:commands", json.dumps(command))


def outcome(server, command):
    """Wait for the end that is pushed to the command's reply_to; if none came, what the record says."""
    deadline = time.monotonic() + TTL + TIMEOUT + CONFIRM + 30
    while time.monotonic() < deadline:
        reply = server.blpop([f"jt709c:reply:{command['reply_to']}"], timeout=5)
        if reply:
            return json.loads(reply[1])
    return server.hgetall(f"jt709c:command:{command['id']}") or {"state": "unknown", "reason": None}


def main():
    """Give one unlock command and follow it to its end."""
    server = redis.Redis.from_url(
        os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379"), decode_responses=True, protocol=2
    )
    name = uuid.uuid4().hex
    command = {
        "id": name,
        "device": sys.argv[1],
        "command": "unlock",
        "params": {"password": sys.stdin.readline().strip()},
        "ttl": TTL,
        "timeout": TIMEOUT,
        "reply_to": name,
        "issued_by": "command_redis_py.py",
    }
    while True:
        try:
            give(server, command)
            end = outcome(server, command)
            break
        except (redis.ConnectionError, redis.TimeoutError):
            time.sleep(1)
    print(end["state"], end.get("reason") or "")
    if end["state"] == "confirmed":
        return 0
    if end["state"] in NOT_OPENED:
        return 1
    # unconfirmed, uncertain: it may be open. Look before you command again. What the lock reports later still
    # makes the command "confirmed": another outcome under the same name, and another command event.
    return 2


sys.exit(main())
