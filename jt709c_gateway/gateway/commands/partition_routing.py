"""Brings commands to the partition of their device, and outcomes to that of their `reply_to` list."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands.forwarding import forward, has_own_id
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.redis.command_writes import REPLY_TTL
from jt709c_gateway.redis.commit_records import RedisCommand
from jt709c_gateway.redis.partitioned_queries import PartitionAway, PartitionedQueries, reach
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.redis.transfers import (
    MAX_TRANSFERS,
    Parked,
    Transfer,
    TransferStore,
    deliver,
    push_command,
    read_transfer,
    target_of,
)

#: Seconds after which an entry is delivered that nobody has: its gateway has died, or could not deliver it.
ABANDONED: Final = 2.0
#: Seconds for which commands are stored for a partition that could not be reached, before it is tried again:
#: so they do not overtake each other, and one that hangs is not waited for each time.
AWAY: Final = 3.0
#: Entries that are read at once, and at most in one round.
_PAGE: Final = 200
_MOST: Final = 10_000


def _to(packed: bytes, target: int, at: float) -> Transfer:
    return Transfer(at=at, entry=packed.decode(), to=target)


@define(eq=False)
class PartitionRouting:
    """Routes the commands of one partition. `callers` has a connection for each partition.

    Commands are forwarded at least once, and carried out once because of their ids.
    """

    log = Logger()

    partitions: Partitions
    number: int
    queries: PartitionedQueries
    callers: Sequence[Caller]
    store: TransferStore
    clock: Any = None
    #: `CommandAuthorizer.seal`.
    seal: Callable[[Command], str | None] = lambda command: None
    _delivering: bool = field(default=False, init=False)
    #: When a partition could not be reached, in epoch seconds.
    _away: dict[int, float] = field(factory=dict, init=False)
    #: Whether so much is stored that no further outcomes are.
    _full: bool = field(default=False, init=False)
    #: How many of the first entries the last round has left where they are.
    _start: int = field(default=0, init=False)

    async def forward(self, entry: bytes, command: Command | InvalidCommand, target: int, now: float) -> None:
        """Forward an entry of the intake list to another partition, or store it for later.

        Later is when that partition can't be reached now, or earlier entries still wait for it. Raises
        PartitionAway when too much is stored already; then the entry is the last of the intake list.
        txredisapi's errors are passed on when this partition refuses to store it.
        """
        packed, own_id = entry, True
        if isinstance(command, Command):
            packed, own_id = forward(entry, command, self.seal(command)), has_own_id(entry, command)
        if self.is_away(target, now):
            await self._park(entry, packed, target)
        elif own_id:
            try:
                await self._push(target, packed)
            except txredisapi.RedisError:
                await self.park(entry, command, target, now)
            else:
                await self.store.caller.call("LREM", self.store.keys.intake(self.store.gateway), 1, entry)
        elif await self._park(entry, packed, target, now):
            # Read again, the entry would get another id; stored in this form, it keeps the one it has now.
            await self._deliver_now(_to(packed, target, now))

    def is_away(self, target: int, now: float) -> bool:
        """Whether a partition could not be reached lately, so that what is for it is stored."""
        return now - self._away.get(target, -AWAY) < AWAY

    def is_name_away(self, name: str, now: float) -> bool:
        """Whether another partition, which has to be asked about a name, could not be reached lately."""
        number = self.partitions.number_of(name)
        return number != self.number and self.is_away(number, now)

    async def park(self, entry: bytes, command: Command | InvalidCommand, target: int, now: float) -> None:
        """Store an entry for a partition that can't be reached; raises as `forward` does."""
        self._away[target] = now
        packed = entry
        if isinstance(command, Command):
            packed = forward(entry, command, self.seal(command))
        await self._park(entry, packed, target)

    async def _park(self, entry: bytes, packed: bytes, target: int, at: float = 0.0) -> bool:
        """Store an entry in this form; whether it was. With `at`, it is about to be delivered."""
        parked = await self.store.park(entry, _to(packed, target, at))
        if parked is Parked.FULL:
            raise PartitionAway(target)
        return parked is Parked.STORED

    async def _push(self, target: int, entry: bytes | str) -> None:
        pushing = push_command(self.callers[target], self.partitions.keys[target], entry)
        await reach(self.clock, target, pushing)

    def outcome_writes(self, name: str, outcome: str, now: float) -> list[RedisCommand] | None:
        """Return what stores an outcome for another partition; None when its list is in this one.

        Nothing, when too much is stored for others already.
        """
        if self.partitions.number(name) == self.number:
            return None
        return [] if self._full else self.store.writes(Transfer(at=now, entry=outcome, reply_to=name))

    def has_transfers(self, writes: Sequence[RedisCommand]) -> bool:
        """Return whether these writes store anything for other partitions."""
        return any(key == self.store.keys.transfers for _, key, *_ in writes)

    def deliver_stored(self, writes: Sequence[RedisCommand]) -> None:
        """Deliver what these committed writes have stored for other partitions."""
        for _, key, *values in writes:
            if key == self.store.keys.transfers:
                transfer = read_transfer(str(values[0]).encode())
                assert transfer is not None
                delivering = defer.Deferred.fromCoroutine(self._deliver_now(transfer))
                delivering.addErrback(lambda failure: self.log.failure("a delivery failed", failure))

    async def _deliver_now(self, transfer: Transfer) -> None:
        """Deliver a stored transfer, and remove it; else it is delivered later."""
        target = target_of(transfer, self.partitions)
        assert target is not None
        try:
            await reach(
                self.clock, target, deliver(self.callers[target], self.partitions.keys[target], transfer)
            )
            await self.store.remove(transfer.packed())
        except txredisapi.RedisError as error:
            self.log.debug("it is delivered later: {reason}", reason=str(error))

    async def deliver_abandoned(self, now: float) -> None:
        """Deliver what has waited for a while; txredisapi's errors of this partition are passed on."""
        if self._delivering:
            return
        count = await self.store.count()
        if count >= MAX_TRANSFERS and not self._full:
            self.log.error(
                "{count} entries of {key} wait for other partitions: outcomes for reply_to lists in them are "
                "no longer kept, and their commands stay in the list they were pushed to",
                count=count,
                key=self.store.keys.transfers,
            )
        self._full = count >= MAX_TRANSFERS
        if not count:
            return
        self._delivering = True
        try:
            if await self.store.lease():
                await self._deliver_some(now)
        finally:
            self._delivering = False

    async def _deliver_some(self, now: float) -> None:
        """Go through some of the entries; the next call goes on behind those that have stayed."""
        away: set[int] = set()
        start, self._start = self._start, 0
        end = start + _MOST
        while await self.store.lease():
            page = await self.store.read(start, _PAGE)
            for packed in page:
                start += not await self._deliver_one(packed, now, away)
            if len(page) < _PAGE:
                return
            if start >= end:
                self._start = start
                return

    async def _deliver_one(self, packed: bytes, now: float, away: set[int]) -> bool:
        """Deliver and remove an entry; False when it stays. Partitions that can't be reached go to `away`."""
        transfer = read_transfer(packed)
        target = None if transfer is None else target_of(transfer, self.partitions)
        if transfer is None or target is None:
            self.log.error(
                "an entry of {key} can't be delivered; it is dropped", key=self.store.keys.transfers
            )
        elif transfer.reply_to is not None and now - transfer.at > REPLY_TTL:
            self.log.debug("an outcome for {name} has expired", name=transfer.reply_to)
        elif target in away or now - transfer.at < ABANDONED:
            return False
        else:
            try:
                keys = self.partitions.keys[target]
                await reach(self.clock, target, deliver(self.callers[target], keys, transfer))
            except PartitionAway:
                away.add(target)
                return False
            except txredisapi.ResponseError as error:
                # For example a key of another type, which concerns no other entry.
                self.log.debug("an entry can't be delivered yet: {reason}", reason=str(error))
                return False
        await self.store.remove(packed)
        return True
