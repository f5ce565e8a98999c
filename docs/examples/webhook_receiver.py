"""The other side of webhook.py, which takes signed events, each once: python webhook_receiver.py PORT"""

import hashlib
import hmac
import json
import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ["WEBHOOK_SECRET"].encode()
#: Seconds: an older signature may be a recorded request.
WINDOW = 300
#: Yours is a table with a unique column: this forgets when the program ends.
seen: set[str] = set()


def is_signed(signature: str, body: bytes, now: float) -> bool:
    """Whether the header fits the body, and is not old."""
    found = re.fullmatch(r"t=(\d{1,12}),v1=([0-9a-f]{64})", signature)
    if found is None or abs(now - int(found[1])) > WINDOW:
        return False
    right = hmac.new(SECRET, found[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(right, found[2])


class Receiver(BaseHTTPRequestHandler):
    """Takes POST requests."""

    def do_POST(self) -> None:
        """Take an event."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not is_signed(self.headers.get("X-Signature", ""), body, time.time()):
            self.send_error(401)
            return
        event = json.loads(body)
        if event["id"] not in seen:
            # Yours. Keep the event and its id in one transaction.
            print(event["id"], event["kind"], event["device"], flush=True)
            seen.add(event["id"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Write no access log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
