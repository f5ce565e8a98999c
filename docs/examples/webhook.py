"""Send the events of all locks to a web service of yours, signed: python webhook.py

JT709C_REDIS, WEBHOOK_URL and WEBHOOK_SECRET are in the environment. An event that the service refuses
(4xx), or that it has not taken after all attempts, goes to the file WEBHOOK_DEAD_LETTERS, a line of JSON
each, and the next one follows. "python webhook.py FILE" sends the events of such a file again.
"""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import msgspec

from jt709c_gateway.client import Client, Event

URL, SECRET = os.environ["WEBHOOK_URL"], os.environ["WEBHOOK_SECRET"].encode()
DEAD_LETTERS = os.environ.get("WEBHOOK_DEAD_LETTERS", "dead-letters.jsonl")
KINDS = tuple(os.environ.get("WEBHOOK_KINDS", "lock alarm command").split())
#: Seconds to wait after each failed attempt; there is one attempt more.
PAUSES = [float(text) for text in os.environ.get("WEBHOOK_PAUSES", "1 2 5 10 30 60").split()]
#: Statuses of a service that may take the same event later.
LATER = {408, 425, 429}


def post(event: Event) -> str | None:
    """Send an event once; return None when it was taken, else why not: an error to try again is raised."""
    body = msgspec.json.encode(event)
    now = str(int(time.time()))
    signature = hmac.new(SECRET, now.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Event-Id": event.id,
        "X-Signature": f"t={now},v1={signature}",
    }
    try:
        with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=10):
            return None
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= 500 or error.code in LATER:
                raise
            return f"refused with status {error.code}"


def deliver(event: Event) -> None:
    """Send an event until it is taken, refused, or all attempts have failed; events behind it wait."""
    reason: str | None = ""
    for pause in [*PAUSES, None]:
        try:
            reason = post(event)
            break
        except OSError as error:
            reason = str(error)
            if pause is not None:
                time.sleep(pause)
    if reason is None:
        print(event.id, "delivered", flush=True)
        return
    # On the disk before the event is acknowledged.
    with open(DEAD_LETTERS, "a", encoding="utf-8") as file:
        file.write(json.dumps({"reason": reason, "event": msgspec.to_builtins(event)}) + "\n")
        file.flush()
        os.fsync(file.fileno())
    print(event.id, "dead letter:", reason, flush=True)


def dead_letters(path: str) -> Iterator[Event]:
    """The events of a file of dead letters."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield msgspec.convert(json.loads(line)["event"], Event)


if len(sys.argv) > 1:
    for event in list(dead_letters(sys.argv[1])):
        deliver(event)
else:
    with Client(os.environ.get("JT709C_REDIS", "redis://127.0.0.1:6379")) as client:
        for event in client.events.consume(group="webhook", kinds=KINDS):
            deliver(event)
