"""Entries of an intake list that are forwarded to the partition of their device (docs/partitions.rst)."""

from typing import Final

import msgspec

from jt709c_gateway.commands.model import COMMAND_ID, Command, parse_command
from jt709c_gateway.commands.serialization import to_wire

#: What the JSON of a forwarded entry begins with; commands of producers have no such field.
_BEGINNING: Final = b'{"forwarded_at":'


class ForwardedEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An entry as its producer wrote it, when a gateway took it first, and its command's id.

    The time bounds the command's ttl, and the id makes a repetition known, though the entry may have none. A
    signed command has a `seal`, and may be taken in later than within its window (`SigningKeys.seal`).
    """

    forwarded_at: float
    id: str
    entry: str
    seal: str | None = None


def has_own_id(entry: bytes, command: Command) -> bool:
    """Return whether an entry names its command's id, so that each reading of it finds the same one.

    False also where the id is written with escapes.
    """
    return command.id.encode() in entry


def forward(entry: bytes, command: Command, seal: str | None = None) -> bytes:
    """Return the form in which an entry with this command is forwarded; one that was, stays as it is."""
    if forwarded_entry(entry) is not None:
        return entry
    return msgspec.json.encode(
        ForwardedEntry(forwarded_at=command.created_at, id=command.id, entry=entry.decode(), seal=seal)
    )


def forward_accepted(command: Command, seal: str | None = None) -> bytes:
    """Return the form in which a command is forwarded that was accepted already."""
    if command.signature is None:
        entry = to_wire(command, None, 0.0)
    else:
        signature = command.signature
        entry = msgspec.json.encode({"key": signature.key, "mac": signature.mac, "order": signature.text})
    return forward(entry, command, seal)


def forwarded_entry(entry: bytes) -> ForwardedEntry | None:
    """Return a forwarded entry; None for one that its producer has pushed, or that is malformed."""
    if not entry.startswith(_BEGINNING):
        return None
    try:
        found = msgspec.json.decode(entry, type=ForwardedEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return found if COMMAND_ID.fullmatch(found.id) else None


def read_forwarded(forwarded: ForwardedEntry, now: float) -> Command:
    """Parse a forwarded entry at `now`, in epoch seconds; raise InvalidCommand as `parse_command` does."""
    since = min(forwarded.forwarded_at, now)
    return parse_command(forwarded.entry.encode(), since, new_id=lambda: forwarded.id)
