"""What one partition has for another: entries of its intake list, and outcomes for a producer's list.

A script writes to one partition only. So what another one has to get is first stored in the list of transfers
of the partition where it came up, and then delivered; it may be delivered twice, but is not lost.
"""

from enum import IntEnum
from typing import Final

import msgspec
from attrs import define

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_writes import MAX_REPLIES, REPLY_TTL
from jt709c_gateway.redis.commit_records import RedisCommand
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.scripts import Caller

#: The most entries that are kept for partitions that can't be reached; more stay in the intake list.
MAX_TRANSFERS: Final = 100_000
#: Milliseconds for which one gateway delivers what others have left.
LEASE: Final = 10_000


class Parked(IntEnum):
    """What became of an entry of the intake list that was to be parked."""

    ADOPTED = 0
    """Another gateway has adopted it; nothing was written."""
    STORED = 1
    FULL = 2
    """There are too many transfers: it is now the last of the list that all gateways take commands from."""


class Transfer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One entry; `at` is when it was stored, in epoch seconds.

    It is for the list of outcomes with the name `reply_to`, or else for the intake list of partition `to`.
    """

    at: float
    entry: str
    to: int | None = None
    reply_to: str | None = None

    def packed(self) -> bytes:
        """Return the entry as JSON, as `command_expire.lua` makes it, too."""
        return msgspec.json.encode(self)


def read_transfer(packed: bytes) -> Transfer | None:
    """Read an entry; None when it is malformed."""
    try:
        return msgspec.json.decode(packed, type=Transfer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


@define
class TransferStore:
    """The transfers of one partition. Calls fail with txredisapi's errors."""

    caller: Caller
    keys: Keys
    gateway: str

    def writes(self, transfer: Transfer) -> list[RedisCommand]:
        """Store a transfer together with the change that it comes from."""
        return [("RPUSH", self.keys.transfers, transfer.packed().decode())]

    async def park(self, entry: bytes, transfer: Transfer) -> Parked:
        """Move an entry of this gateway's intake list to the transfers."""
        keys = self.keys
        moved: int = await scripts.run(
            self.caller,
            scripts.PARK.form_for(keys),
            [keys.intake(self.gateway), keys.transfers, keys.commands],
            [keys.prefix, entry, transfer.packed(), transfer.entry, MAX_TRANSFERS],
        )
        return Parked(moved)

    async def count(self) -> int:
        """Return the number of stored transfers."""
        found: int = await self.caller.call("LLEN", self.keys.transfers)
        return found

    async def read(self, start: int, count: int) -> list[bytes]:
        """Return some transfers, the oldest first."""
        found: list[bytes] = await self.caller.call("LRANGE", self.keys.transfers, start, start + count - 1)
        return found

    async def remove(self, packed: bytes | str) -> None:
        """Remove a transfer that was delivered."""
        await self.caller.call("LREM", self.keys.transfers, 1, packed)

    async def lease(self) -> bool:
        """Return whether this gateway delivers now what others have left; renewed by each call."""
        key = self.keys.transfer_lease
        if await self.caller.call("SET", key, self.gateway, "NX", "PX", LEASE) is not None:
            return True
        if await self.caller.call("GET", key) != self.gateway.encode():
            return False
        await self.caller.call("SET", key, self.gateway, "PX", LEASE)
        return True


def target_of(transfer: Transfer, partitions: Partitions) -> int | None:
    """Return the number of the partition that has to get a transfer; None when it names none that exists."""
    number = transfer.to if transfer.reply_to is None else partitions.number(transfer.reply_to)
    return number if number is not None and 0 <= number < partitions.count else None


async def deliver(caller: Caller, keys: Keys, transfer: Transfer) -> None:
    """Deliver a transfer to the partition with these keys; txredisapi's errors are passed on."""
    if transfer.reply_to is None:
        await push_command(caller, keys, transfer.entry)
    else:
        await push_outcome(caller, keys, transfer.reply_to, transfer.entry)


async def push_command(caller: Caller, keys: Keys, entry: bytes | str) -> None:
    """Push an entry to the list of new commands of the partition with these keys."""
    await _push(caller, keys, keys.commands, entry, 0, 0)


async def push_outcome(caller: Caller, keys: Keys, name: str, outcome: str) -> None:
    """Push an outcome to the list of a `reply_to` name."""
    await _push(caller, keys, keys.reply(name), outcome, MAX_REPLIES, REPLY_TTL)


async def _push(caller: Caller, keys: Keys, to: str, entry: bytes | str, most: int, ttl: int) -> None:
    await scripts.run(caller, scripts.DELIVER.form_for(keys), [to], [keys.prefix, entry, most, ttl])
