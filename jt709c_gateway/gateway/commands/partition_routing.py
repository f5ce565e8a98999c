"""Brings commands to the partition of their device, and outcomes to that of their `reply_to` list."""

from collections.abc import Sequence
from typing import Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands.forwarding import forward
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.commit_records import RedisCommand
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.redis.transfers import (
    MAX_TRANSFERS,
    Transfer,
    TransferStore,
    deliver,
    push_outcome,
    read_transfer,
    target_of,
)

#: Seconds after which an entry is delivered that nobody has: its gateway has died, or could not deliver it.
ABANDONED: Final = 2.0
#: Entries that are read at once, and at most in one round.
_PAGE: Final = 200
_MOST: Final = 10_000


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
    _delivering: bool = field(default=False, init=False)

    async def forward(
        self, entry: bytes, command: Command | InvalidCommand, known: Known, now: float
    ) -> bool:
        """Forward an entry of the intake list when its device is in another partition.

        False when the device is in this one. txredisapi's errors are passed on when the entry could neither
        be delivered nor stored for later.
        """
        target = self.partitions.number(known.device)
        if target == self.number:
            return False
        packed = forward(entry, command) if isinstance(command, Command) else entry
        try:
            await self.callers[target].call("RPUSH", self.partitions.keys[target].commands, packed)
        except txredisapi.RedisError:
            await self._park(entry, Transfer(at=now, entry=packed.decode(), to=target))
        else:
            await self.store.caller.call("LREM", self.store.keys.intake(self.store.gateway), 1, entry)
        return True

    async def _park(self, entry: bytes, transfer: Transfer) -> None:
        if await self.store.count() >= MAX_TRANSFERS:
            raise txredisapi.ConnectionError(f"partition {transfer.to} can't be reached")
        await self.store.park(entry, transfer)

    def is_elsewhere(self, name: str) -> bool:
        """Return whether the list of outcomes with this name is in another partition."""
        return self.partitions.number(name) != self.number

    def outcome_writes(self, name: str, outcome: str, now: float) -> list[RedisCommand] | None:
        """Return what stores an outcome for another partition; None when its list is in this one."""
        if not self.is_elsewhere(name):
            return None
        return self.store.writes(Transfer(at=now, entry=outcome, reply_to=name))

    def deliver_outcome(self, name: str, writes: Sequence[RedisCommand]) -> None:
        """Deliver an outcome that these writes have stored."""
        delivering = defer.Deferred.fromCoroutine(self._deliver_outcome(name, str(writes[0][2])))
        delivering.addErrback(lambda failure: self.log.failure("delivering an outcome failed", failure))

    async def _deliver_outcome(self, name: str, packed: str) -> None:
        target, transfer = self.partitions.number(name), read_transfer(packed.encode())
        assert transfer is not None
        try:
            await push_outcome(self.callers[target], self.partitions.keys[target], name, transfer.entry)
            await self.store.remove(packed)
        except txredisapi.RedisError as error:
            self.log.debug("an outcome is delivered later: {reason}", reason=str(error))

    async def deliver_abandoned(self, now: float) -> None:
        """Deliver what has waited for a while; txredisapi's errors of this partition are passed on."""
        if self._delivering or not await self.store.count():
            return
        self._delivering = True
        try:
            if await self.store.lease():
                await self._deliver_some(now)
        finally:
            self._delivering = False

    async def _deliver_some(self, now: float) -> None:
        away: set[int] = set()
        start = 0
        while start < _MOST and await self.store.lease():
            page = await self.store.read(start, _PAGE)
            for packed in page:
                start += not await self._deliver_one(packed, now, away)
            if len(page) < _PAGE:
                return

    async def _deliver_one(self, packed: bytes, now: float, away: set[int]) -> bool:
        """Deliver and remove an entry; False when it stays. Partitions that can't be reached go to `away`."""
        transfer = read_transfer(packed)
        target = None if transfer is None else target_of(transfer, self.partitions)
        if transfer is None or target is None:
            self.log.error(
                "an entry of {key} can't be delivered; it is dropped", key=self.store.keys.transfers
            )
        elif target in away or now - transfer.at < ABANDONED:
            return False
        else:
            try:
                await deliver(self.callers[target], self.partitions.keys[target], transfer)
            except txredisapi.RedisError:
                away.add(target)
                return False
        await self.store.remove(packed)
        return True
