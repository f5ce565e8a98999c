"""Keeps what a batch of commands is, for as long as the records of its commands (docs/redis.rst)."""

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.sublocks import SUBLOCK_COMMANDS
from jt709c_gateway.redis.command_writes import KEEP
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

#: Fields of the record of a command that say what became of it, and of which batch it is.
OUTCOME_FIELDS: Final = ("state", "reason", "batch", "issued_by", "command")
#: Seconds that a gateway counts as giving a batch after it last said so.
LEASE: Final = 15

Problem = Literal[
    "repeated", "unknown", "refused", "no_profile", "incomplete", "offline", "moving", "command_waits"
]
"""What is odd about a lock of a batch; the first five keep it out."""


class OddLock(msgspec.Struct):
    """A lock of a batch that is unlike the others; `message` says in words why it gets no command."""

    device: str
    problems: list[Problem]
    message: str | None = None


class BatchRecord(msgspec.Struct):
    """A batch as it was accepted. `fields` are those of its commands, without secrets.

    `devices` are the locks that get a command, each with the device that receives it: another one for a
    sub-lock. `asked` identifies the locks that were asked for, and `created_at` is RFC 3339.
    """

    id: str
    fields: dict[str, Any]
    issued_by: str
    created_at: str
    asked: str
    devices: dict[str, str]
    left_out: list[OddLock]

    def command_id(self, device: str) -> str:
        """The id of the command for one of its locks, the same each time the batch is given."""
        return command_id(self.id, device)


_decoder: Final = msgspec.json.Decoder(BatchRecord)


def command_id(batch_id: str, device: str) -> str:
    """Return the id of the command of a batch for a lock: a device has no hyphen, so no two are alike."""
    return f"{batch_id}-{device}"


def outcome_of(
    row: Sequence[bytes | None] | None, batch_id: str, issued_by: str | None, command: str
) -> tuple[CommandState | None, str | None]:
    """Return state and reason of a command of a batch, from the values of `OUTCOME_FIELDS`.

    The state is None without a record, and INVALID where the id is that of another command, which somebody
    gave: the lock did not get the command of this batch.
    """
    values = [None if one is None else one.decode("utf-8", "replace") for one in row or ()]
    if not values or values[0] not in set(CommandState):
        return None, None
    state, reason, batch, issuer, name = values
    names = (command, SUBLOCK_COMMANDS.get(command, command))
    if (batch or "", issuer or "") != (batch_id, issued_by or "") or (name and name not in names):
        return CommandState.INVALID, f"not given: another command has its id, {name or 'unknown'}"
    return CommandState(str(state)), reason or None


async def create(caller: Caller, keys: Keys, record: BatchRecord) -> bool:
    """Keep a new batch; return whether there was none of this id."""
    text = msgspec.json.encode(record)
    return await caller.call("SET", keys.batch(record.id), text, "EX", KEEP, "NX") is not None


async def read(caller: Caller, keys: Keys, batch_id: str) -> BatchRecord | None:
    """Read a batch; None when there is none, or it was not written by a gateway."""
    text = await caller.call("GET", keys.batch(batch_id))
    try:
        return None if text is None else _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


async def is_given(caller: Caller, keys: Keys, batch_id: str) -> bool:
    """Return whether a gateway gives the commands of a batch at present."""
    return bool(await caller.call("EXISTS", keys.batch_lease(batch_id)))


async def renew_lease(caller: Caller, keys: Keys, batch_id: str, gateway: str) -> None:
    """Note that a gateway gives the commands of a batch."""
    await caller.call("SET", keys.batch_lease(batch_id), gateway, "EX", LEASE)


async def end_lease(caller: Caller, keys: Keys, batch_id: str) -> None:
    """Note that a batch is given no more."""
    await caller.call("DEL", keys.batch_lease(batch_id))
