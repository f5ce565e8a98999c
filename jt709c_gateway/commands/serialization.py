"""Serializes commands: the hash ``command:<id>``, the entries of queues, and the JSON of the intake list.

The formats are documented in docs/redis.rst, signed commands in docs/commands.rst.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

from jt709c_gateway.commands.model import (
    COMMAND_ID,
    Command,
    CommandState,
    InvalidCommand,
    Wire,
    make_command,
    read_object,
    read_signed,
    typed,
)
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.commands.signature import mac
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.commands.sublocks import redirect_to_master
from jt709c_gateway.protocol.device_id import may_be_sublock
from jt709c_gateway.util.timestamps import from_iso, iso

PUBLIC_FIELDS: Final = (
    "id",
    "command",
    "device",
    "peripheral",
    "state",
    "params",
    "conditions",
    "issued_by",
    "batch",
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
"""Fields shown in events, the API and the page."""

PRIVATE_FIELDS: Final = ("ttl", "timeout", "reply_to", "writing_at", "serials")
"""Fields of the hash only, from which a gateway resumes the command."""

_TEXT: Final = frozenset(
    {
        *("id", "command", "device", "peripheral", "state", "provenance"),
        *("issued_by", "batch", "key", "reason", "profile", "reply_to"),
    }
)
_TIMES: Final = frozenset(
    {"created_at", "sent_at", "acknowledged_at", "confirmed_at", "ended_at", "writing_at"}
)

_DEVICE: Final = re.compile(r"[0-9]{1,20}")
_UNSIGNED: Final = attrs.filters.exclude("signature", "conditions")
#: Attributes of `Command` whose JSON name differs.
_WIRE_NAMES: Final = {"name": "command"}


def is_text(name: str) -> bool:
    """Whether the hash holds a field as plain text; the other fields are JSON."""
    return name in _TEXT or name in _TIMES


def to_hash(fields: Mapping[str, Any]) -> dict[str, str]:
    """Serialize a record to the fields of its hash: times in ISO 8601, absent values empty, the rest JSON."""
    return {
        name: ""
        if value is None
        else value
        if name in _TEXT or name in _TIMES
        else json.dumps(value, separators=(",", ":"))
        for name, value in fields.items()
    }


def from_hash(fields: Mapping[str, str]) -> dict[str, Any]:
    """Parse a hash into a record with times in seconds since 1970; ignore unknown fields.

    Raises :class:`ValueError` if a value is malformed.
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
    """Parse the public fields of a hash; times stay ISO 8601 text.

    Raises :class:`ValueError` if a value is malformed.
    """
    record = {
        name: None if value == "" else value if name in _TEXT or name in _TIMES else json.loads(value)
        for name, value in ((name, fields.get(name, "")) for name in PUBLIC_FIELDS)
    }
    return _with_provenance(record)


def _with_provenance(record: dict[str, Any]) -> dict[str, Any]:
    # Older gateways stored only the boolean `assumed`.
    if record["provenance"] is None and record["assumed"] is True:
        record["provenance"] = str(Provenance.ASSUMED)
    return record


def invalid_record(error: InvalidCommand, now: float) -> dict[str, Any]:
    """Build the record of an invalid command from its readable fields."""
    record: dict[str, Any] = dict.fromkeys(PUBLIC_FIELDS)
    record.update(
        id=error.command_id,
        command=error.command,
        device=error.device,
        issued_by=error.issued_by,
        batch=error.batch,
        state=str(CommandState.INVALID),
        reason=str(error),
        created_at=iso(now),
        ended_at=iso(now),
        attempts=0,
    )
    return record


class _UnsignedEntry(Wire, forbid_unknown_fields=True, kw_only=True):
    created_at: int | float


class _SignedEntry(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A signed command in a queue: the signed text, and ``id`` and receiving ``device`` for the Lua scripts.

    ``sublock_parameter`` is that of :class:`~jt709c_gateway.commands.signature.Signature`.
    """

    id: str
    device: str
    key: str
    mac: str
    order: str
    sublock_parameter: str | None = None


def _condition_fields(command: Command) -> dict[str, Any]:
    return {} if command.conditions is None else command.conditions.fields()


def to_queue_entry(command: Command) -> bytes:
    """Serialize a command to an entry of a device's queue.

    The entry holds the secrets of the command, which has yet to be sent. A signed command is stored as its
    signed text, from which it is parsed again before it is sent.
    """
    signature = command.signature
    if signature is None:
        fields = attrs.asdict(command, recurse=False, filter=_UNSIGNED)
        # Without what is absent, so that a gateway that does not know a new field reads those without it.
        named = {_WIRE_NAMES.get(name, name): value for name, value in fields.items() if value is not None}
        return msgspec.json.encode(named | _condition_fields(command))
    return msgspec.json.encode(
        _SignedEntry(
            command.id,
            command.device,
            signature.key,
            signature.mac,
            signature.text,
            signature.sublock_parameter,
        )
    )


def from_queue_entry(raw: bytes) -> Command:
    """Parse an entry of a queue; raise :class:`InvalidCommand` if it is malformed.

    The signature and ``device`` are not verified here; the executor verifies both before it sends.
    """
    fields = read_object(raw)
    if "mac" not in fields:
        plain = typed(fields, _UnsignedEntry)
        return make_command(plain, float(plain.created_at))
    entry = typed(fields, _SignedEntry)
    command = read_signed(entry.key, entry.mac, entry.order)
    if entry.id != command.id:
        raise InvalidCommand("id", "is not the one that was signed", "the id in the signed text").about(
            command
        )
    if not _DEVICE.fullmatch(entry.device):
        raise InvalidCommand("device", "is no device id", "text of 1 to 20 digits").about(command)
    if entry.sublock_parameter is not None and may_be_sublock(command.device):
        return redirect_to_master(command, entry.device, entry.sublock_parameter)
    return attrs.evolve(command, device=entry.device)


def queue_entry_id(raw: bytes) -> str | None:
    """The command id of a queue entry, also of an invalid one; ``None`` if it has no valid id."""
    try:
        found: dict[str, Any] = read_object(raw)
    except InvalidCommand:
        return None
    command_id = found.get("id")
    return command_id if isinstance(command_id, str) and COMMAND_ID.fullmatch(command_id) else None


def to_wire(command: Command, key: SigningKey | None, now: float) -> bytes:
    """Serialize a command for the intake list, signed with ``key`` if given; ``now`` is in epoch seconds."""
    fields: dict[str, Any] = {
        "id": command.id,
        "device": command.device,
        "command": command.name,
        "params": dict(command.params),
        "ttl": command.ttl,
        "timeout": command.timeout,
        "reply_to": command.reply_to,
        "issued_by": command.issued_by,
        "batch": command.batch,
        **_condition_fields(command),
    }
    if key is not None:
        fields["issued_at"] = round(now, 3)
    text = json.dumps({name: value for name, value in fields.items() if value not in (None, {})})
    if key is None:
        return text.encode()
    return json.dumps({"key": key.id, "mac": mac(key.secret, text), "order": text}).encode()
