"""Checks that a store is divided into as many partitions as the gateway expects.

Each of several partitions has a marker with their number. A partition without one is used only when the
first one has been checked, and the first one without a marker only when the others have been looked at, so
that no gateway writes to a store that others have divided in another way. A store of a single partition has
no marker; its number of the last run shows that it is in use.
"""

from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partition_marker import WrongPartitions, moved_to, problem, read_marker
from jt709c_gateway.redis.partitions import Partitions, partition_prefix
from jt709c_gateway.redis.scripts import Caller

#: Seconds to wait for the first partition; the connection is tried again after that.
_PATIENCE: Final = 4.0
#: Seconds for which the first partition waits for the others.
_COURTESY: Final = 2.0
_MARK: Final = scripts.Script.of("partition_mark")


@define(eq=False)
class PartitionCheck:
    """Checks the partitions of one gateway, each over its own connection."""

    clock: Any
    partitions: Partitions
    #: Whether the first partition was checked.
    first_checked: bool = False
    _refused: bool = False
    #: The partitions without a marker that were looked at.
    _looked: set[int] = field(factory=set, repr=False)
    _waiting: "list[defer.Deferred[None]]" = field(factory=list, repr=False)

    async def check(self, caller: Caller, number: int) -> None:
        """Check a partition, and mark it.

        Raises WrongPartitions, and txredisapi.ConnectionError while the first one has to be checked before.
        """
        if self.partitions.count == 1:
            await self._check_single(caller)
            return
        prefix, count = self.partitions.prefix, self.partitions.count
        key = self.partitions.keys[number].partitions
        packed = await caller.call("GET", key)
        if packed is None:
            await self._wait_for_others(number)
            single = Keys(prefix)
            arguments = [count, moved_to(prefix, count), single.partitions, single.epoch]
            found = await scripts.run(caller, _MARK, [key, key], arguments)
            if found is not None:
                place, packed = found
                key = (key, single.partitions, single.epoch)[place]
                if place == 2:
                    raise WrongPartitions(problem(prefix, key, 1, count))
        if packed is not None and read_marker(packed) != count:
            raise WrongPartitions(problem(prefix, key, read_marker(packed), count))
        if number == 0:
            self.first_checked = True
        self._release()

    def first_refusal(self) -> bool:
        """Return whether this is the first call."""
        first, self._refused = not self._refused, True
        return first

    async def _wait_for_others(self, number: int) -> None:
        """Wait until the first partition was checked; as the first, until the others were looked at."""
        self._looked.add(number)
        self._release()
        if number:
            if not await self._until(lambda: self.first_checked, _PATIENCE):
                reason = "partition 0, which tells how many there are, can't be reached"
                raise txredisapi.ConnectionError(reason)
            return
        # One that is away can't be waited for.
        await self._until(lambda: len(self._looked) == self.partitions.count, _COURTESY)

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    async def _until(self, condition: Any, seconds: float) -> bool:
        limit = self.clock.seconds() + seconds
        while not condition():
            changed: defer.Deferred[None] = defer.Deferred(self._cancelled)
            self._waiting.append(changed)
            try:
                await changed.addTimeout(max(limit - self.clock.seconds(), 0), self.clock)
            except defer.TimeoutError:
                return bool(condition())
        return True

    def _cancelled(self, waiting: "defer.Deferred[None]") -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def _check_single(self, caller: Caller) -> None:
        """Refuse a store of several partitions, as far as it is on this server, and claim a new one."""
        prefix = self.partitions.prefix
        single, first = Keys(prefix), Keys(partition_prefix(prefix, 0))
        try:
            found = await scripts.run(
                caller,
                _MARK,
                [single.partitions, single.epoch],
                ["0", moved_to(prefix, 1), first.partitions],
            )
        except txredisapi.ResponseError as error:
            if "NOPERM" in str(error):
                return
            raise
        if found is not None:
            place, packed = found
            key = first.partitions if place else single.partitions
            raise WrongPartitions(problem(prefix, key, read_marker(packed), 1))
