"""Signs commands as a foreign producer would, without code of the gateway."""

import hashlib
import hmac
import itertools
import json
import time
from typing import Any

from tests.support import ROOT

SECRET = bytes(range(32))
_ids = itertools.count(1)


def vectors() -> list[dict[str, str]]:
    """Return the test vectors of docs/commands.rst."""
    path = ROOT / "tests" / "vectors" / "signed_orders.json"
    return json.loads(path.read_text(encoding="utf-8"))


def sign(text: str, key: str = "k1", secret: bytes = SECRET) -> bytes:
    """Return the entry for a command whose JSON is `text`."""
    mac = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    return json.dumps({"key": key, "mac": mac, "order": text}).encode()


def command_text(device: str, command: str, params: dict[str, Any] | None = None, **more: Any) -> str:
    """Return the JSON of a command signed now, or at `issued_at`."""
    fields = {"id": f"signed-{next(_ids)}", "issued_at": time.time(), "device": device, "command": command}
    return json.dumps({**fields, "params": params or {}, **more})


def id_of(entry: bytes) -> str:
    """Return the id of a signed command."""
    return json.loads(json.loads(entry)["order"])["id"]
