"""Checks that a store is divided into as many partitions as the gateway expects.

Each partition has a marker with their number. A partition without one is used only when the first one has
been checked, so that no gateway writes to a store that others have divided in another way.
"""

from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions, partition_prefix
from jt709c_gateway.redis.scripts import Caller

#: Seconds to wait for the first partition; the connection is tried again after that.
_PATIENCE: Final = 3.0


class WrongPartitions(Exception):
    """The store is divided into another number of partitions; the text says what to do."""

    def __init__(self, prefix: str, found: int, expected: int) -> None:
        super().__init__(
            f"the keys under the prefix {prefix} are in {_partitions(found)}, not {expected}: give "
            f"--partitions {found}, or move them with jt709c repartition"
        )
        self.found = found


def _partitions(count: int) -> str:
    return "1 partition" if count == 1 else f"{count} partitions"


@define(eq=False)
class PartitionCheck:
    """Checks the partitions of one gateway, each over its own connection."""

    clock: Any
    partitions: Partitions
    #: Whether Redis is a cluster: a single partition has another prefix there, a hash tag.
    is_cluster: bool = False
    #: Whether the first partition was checked, and who waits for that.
    first_checked: bool = False
    _waiting: "list[defer.Deferred[None]]" = field(factory=list, repr=False)

    async def check(self, caller: Caller, number: int) -> None:
        """Check a partition, and mark it.

        Raises WrongPartitions, and txredisapi.ConnectionError while the first one has to be checked before.
        """
        count = self.partitions.count
        if count == 1:
            await self._check_single(caller)
            return
        key = self.partitions.keys[number].partitions
        found = await caller.call("GET", key)
        if found is None and number and not self.first_checked:
            await self._first()
        if found is None:
            if not self.is_cluster:
                await self._refuse_single(caller)
            found = await caller.call("SET", key, count, "NX", "GET") or count
        if int(found) != count:
            raise WrongPartitions(self.partitions.prefix, int(found), count)
        if number == 0:
            self.first_checked, waiting, self._waiting = True, self._waiting, []
            for one in waiting:
                one.callback(None)

    async def _first(self) -> None:
        """Wait until the first partition was checked."""
        waiting: defer.Deferred[None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        try:
            await waiting.addTimeout(_PATIENCE, self.clock)
        except defer.TimeoutError:
            reason = "partition 0, which tells how many there are, can't be reached"
            raise txredisapi.ConnectionError(reason) from None

    async def _check_single(self, caller: Caller) -> None:
        """Refuse a store of several partitions, as far as it is on this server."""
        found = await _readable(caller, "GET", Keys(partition_prefix(self.partitions.prefix, 0)).partitions)
        if found is not None:
            raise WrongPartitions(self.partitions.prefix, int(found), 1)

    async def _refuse_single(self, caller: Caller) -> None:
        """Refuse a store of a single partition, as far as it is on this server."""
        if await _readable(caller, "EXISTS", Keys(self.partitions.prefix).epoch):
            raise WrongPartitions(self.partitions.prefix, 1, self.partitions.count)


async def _readable(caller: Caller, *command: Any) -> Any:
    """Return a reply; None where the key is on another node, or our user may not read it."""
    try:
        return await caller.call(*command)
    except txredisapi.ResponseError:
        return None
