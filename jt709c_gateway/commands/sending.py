"""A command as it is pushed to the intake list (DESIGN.md §4)."""

from __future__ import annotations

import json
from typing import Any

from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.signing import mac
from jt709c_gateway.commands.signing_keys import SigningKey


def to_wire(command: Command, key: SigningKey | None, now: float) -> bytes:
    """The JSON for the intake list, signed with `key` if there is one. `now` in epoch seconds."""
    fields: dict[str, Any] = {
        "id": command.id,
        "device": command.device,
        "command": command.name,
        "params": dict(command.params),
        "ttl": command.ttl,
        "timeout": command.timeout,
        "reply_to": command.reply_to,
        "issued_by": command.issued_by,
    }
    if key is not None:
        fields["issued_at"] = round(now, 3)
    text = json.dumps({name: value for name, value in fields.items() if value not in (None, {})})
    if key is None:
        return text.encode()
    return json.dumps({"key": key.id, "mac": mac(key.secret, text), "order": text}).encode()
