"""Follow the events of all locks and miss none, without a library.

Run it as: JT709C_REDIS=redis://… python consumer_plain.py
"""

import json
import time

from resp import Redis

STREAM, GROUP, CONSUMER = "jt709c:events", "logbook", "logbook-1"


def handle(event):
    """Yours. Each event comes here at least once; after a crash perhaps again, with the same id."""
    print(event["id"], event["kind"], event["device"], flush=True)


def follow(server):
    """First what we were given before and never acknowledged (from 0 on), then what is new (>)."""
    try:
        server.call("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
    except ValueError as error:
        if "BUSYGROUP" not in str(error):
            raise
    after = "0"
    read = ("XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", 100, "BLOCK", 5000, "STREAMS", STREAM)
    while True:
        reply = server.call(*read, after)
        entries = reply[0][1] if reply else []
        for entry, fields in entries:
            if fields:
                handle(json.loads(fields[fields.index("event") + 1]))
            server.call("XACK", STREAM, GROUP, entry)
        if after != ">":
            after = entries[-1][0] if entries else ">"


while True:
    try:
        follow(Redis())
    except OSError as error:
        print(f"Redis is away, trying again: {error}", flush=True)
        time.sleep(1)
