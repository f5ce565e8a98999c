"""A command as it waits in Redis, and in the hands of a gateway (DESIGN.md §4).

It carries the secrets, since it has yet to be written to a lock. A signed one carries the text that was
signed, and nothing else of the command itself: what is written to the lock is read out of that text again.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import msgspec

from jt709c_gateway.commands.model import (
    COMMAND_ID,
    Command,
    InvalidCommand,
    Wire,
    make_command,
    read_object,
    read_signed,
    typed,
)
from jt709c_gateway.commands.sublocks import SUBLOCK_ID, redirect_to_master

_DEVICE: Final = re.compile(r"[0-9]{1,20}")
_UNSIGNED: Final = attrs.filters.exclude("signature")
#: Attributes of `Command` that have another name in JSON.
_WIRE_NAMES: Final = {"name": "command"}


class _Plain(Wire, forbid_unknown_fields=True, kw_only=True):
    created_at: int | float


class _Signed(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """``id`` and ``device``, the one that gets it, are for Redis's scripts and for those who look.

    ``sublock_parameter`` is as in :class:`~jt709c_gateway.commands.signing.Signature`.
    """

    id: str
    device: str
    key: str
    mac: str
    order: str
    sublock_parameter: str | None = None


def to_waiting(command: Command) -> bytes:
    """A command for a Redis list."""
    signature = command.signature
    if signature is None:
        fields = attrs.asdict(command, recurse=False, filter=_UNSIGNED)
        return msgspec.json.encode({_WIRE_NAMES.get(name, name): value for name, value in fields.items()})
    return msgspec.json.encode(
        _Signed(
            command.id,
            command.device,
            signature.key,
            signature.mac,
            signature.text,
            signature.sublock_parameter,
        )
    )


def from_waiting(raw: bytes) -> Command:
    """Read what :func:`to_waiting` wrote; raise :class:`InvalidCommand` for anything else.

    A signature is not checked here, and ``device`` is a claim: whoever writes to a lock checks both.
    """
    fields = read_object(raw)
    if "mac" not in fields:
        plain = typed(fields, _Plain)
        return make_command(plain, float(plain.created_at))
    kept = typed(fields, _Signed)
    command = read_signed(kept.key, kept.mac, kept.order)
    if kept.id != command.id:
        raise InvalidCommand("id", "is not the one that was signed", "the id in the signed text").about(
            command
        )
    if not _DEVICE.fullmatch(kept.device):
        raise InvalidCommand("device", "is no device id", "text of 1 to 20 digits").about(command)
    if kept.sublock_parameter is not None and len(command.device) == SUBLOCK_ID:
        return redirect_to_master(command, kept.device, kept.sublock_parameter)
    return attrs.evolve(command, device=kept.device)


def waiting_id(raw: bytes) -> str | None:
    """The id under which a command waits that can't be read otherwise."""
    try:
        found: dict[str, Any] = read_object(raw)
    except InvalidCommand:
        return None
    command_id = found.get("id")
    return command_id if isinstance(command_id, str) and COMMAND_ID.fullmatch(command_id) else None
