"""The record of a command: what the ``command`` event and the hash ``command:<id>`` show (DESIGN.md §4).

In the hash every value is text: times in ISO 8601, absent values empty, objects, numbers and truth values as
JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.provenance import Provenance

PUBLIC_FIELDS: Final = (
    "id",
    "command",
    "device",
    "peripheral",
    "state",
    "params",
    "issued_by",
    "key",
    "physical",
    "assumed",
    "provenance",
    "created_at",
    "sent_at",
    "acknowledged_at",
    "confirmed_at",
    "ended_at",
    "attempts",
    "serial",
    "reason",
    "answer",
    "profile",
    "evidence",
)
"""What everybody may see."""

PRIVATE_FIELDS: Final = ("ttl", "timeout", "reply_to", "writing_at", "serials")
"""What the hash holds besides, to take a command up again."""

_TEXT: Final = frozenset(
    {
        *("id", "command", "device", "peripheral", "state", "provenance"),
        *("issued_by", "key", "reason", "profile", "reply_to"),
    }
)
_TIMES: Final = frozenset(
    {"created_at", "sent_at", "acknowledged_at", "confirmed_at", "ended_at", "writing_at"}
)


def is_text(name: str) -> bool:
    """Whether a field's value in the hash is the text itself, where that of another field is JSON."""
    return name in _TEXT or name in _TIMES


def iso(at: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 text with ``Z``."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_iso(text: str) -> float:
    """What :func:`iso` wrote, in seconds since 1970; raise :class:`ValueError` for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.timestamp()


def to_hash(fields: Mapping[str, Any]) -> dict[str, str]:
    """A record as the text fields of a Redis hash."""
    return {
        name: ""
        if value is None
        else value
        if name in _TEXT or name in _TIMES
        else json.dumps(value, separators=(",", ":"))
        for name, value in fields.items()
    }


def from_hash(fields: Mapping[str, str]) -> dict[str, Any]:
    """What :func:`to_hash` wrote, times in seconds since 1970; fields that are not ours are left out.

    Raises :class:`ValueError` where a value can't be read.
    """
    record: dict[str, Any] = dict.fromkeys((*PUBLIC_FIELDS, *PRIVATE_FIELDS))
    for name, value in fields.items():
        if value == "" or name not in record:
            continue
        if name in _TIMES:
            record[name] = from_iso(value)
        else:
            record[name] = value if name in _TEXT else json.loads(value)
    return _with_provenance(record)


def public_from_hash(fields: Mapping[str, str]) -> dict[str, Any]:
    """What everybody may see of what :func:`to_hash` wrote, times as they are there.

    Raises :class:`ValueError` where a value can't be read.
    """
    record = {
        name: None if value == "" else value if name in _TEXT or name in _TIMES else json.loads(value)
        for name, value in ((name, fields.get(name, "")) for name in PUBLIC_FIELDS)
    }
    return _with_provenance(record)


def _with_provenance(record: dict[str, Any]) -> dict[str, Any]:
    # Records of older gateways have only the boolean, which tells one of the three.
    if record["provenance"] is None and record["assumed"] is True:
        record["provenance"] = str(Provenance.ASSUMED)
    return record


def invalid_record(error: InvalidCommand, now: float) -> dict[str, Any]:
    """The record of a command that could not be read, as far as it could."""
    record: dict[str, Any] = dict.fromkeys(PUBLIC_FIELDS)
    record.update(
        id=error.command_id,
        command=error.command,
        device=error.device,
        issued_by=error.issued_by,
        state=str(CommandState.INVALID),
        reason=str(error),
        created_at=iso(now),
        ended_at=iso(now),
        attempts=0,
    )
    return record
