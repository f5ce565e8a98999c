"""Follow the events of all locks and miss none, with redis-py.

Run it as: JT709C_REDIS=redis://… python consumer_redis_py.py
"""

import json
import os
import time

import redis

STREAM, GROUP, CONSUMER = "jt709c:events", "logbook", "logbook-1"


def handle(event):
    """Yours. Each event comes here at least once; after a crash perhaps again, with the same id."""
    print(event["id"], event["kind"], event["device"], flush=True)


def join(server):
    """Make the group, once; if it was there, say whether events were cut off that it never got."""
    try:
        server.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    except redis.ResponseError as error:
        if "BUSYGROUP" not in str(error):
            raise
    else:
        return
    stream = server.xinfo_stream(STREAM)
    (group,) = (one for one in server.xinfo_groups(STREAM) if one["name"] == GROUP)
    missed = stream["entries-added"] - stream["length"] - (group["entries-read"] or 0)
    if missed > 0:
        print(f"away for too long: {missed} events were cut off (--events-max)", flush=True)


def follow(server):
    """First what we were given before and never acknowledged (from 0 on), then what is new (>)."""
    after = "0"
    while True:
        reply = server.xreadgroup(GROUP, CONSUMER, {STREAM: after}, count=100, block=5000)
        entries = reply[0][1] if reply else []
        for entry, fields in entries:
            if fields:
                handle(json.loads(fields["event"]))
            server.xack(STREAM, GROUP, entry)
        if after != ">":
            after = entries[-1][0] if entries else ">"


server = redis.Redis.from_url(
    os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379"), decode_responses=True, protocol=2
)
while True:
    try:
        join(server)
        follow(server)
    except (redis.ConnectionError, redis.TimeoutError) as error:
        print(f"Redis is away, trying again: {error}", flush=True)
        time.sleep(1)
