"""Checks that a store is divided into as many partitions as the gateway expects.

Each partition has a marker with their number. A partition without one is used only when the first one has
been checked, so that no gateway writes to a store that others have divided in another way.
"""

from typing import Any

import txredisapi
from attrs import define

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions, partition_prefix
from jt709c_gateway.redis.scripts import Caller


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


def marker(keys: Keys) -> str:
    """Return the key with the number of partitions: a string in each partition."""
    return f"{keys.prefix}:partitions"


@define(eq=False)
class PartitionCheck:
    """Checks the partitions of one gateway, each over its own connection."""

    partitions: Partitions
    #: Whether the first partition was checked.
    first_checked: bool = False

    async def check(self, caller: Caller, number: int) -> None:
        """Check a partition, and mark it.

        Raises WrongPartitions, and txredisapi.ConnectionError while the first one has to be checked before.
        """
        count = self.partitions.count
        if count == 1:
            await self._check_single(caller)
            return
        key = marker(self.partitions.keys[number])
        found = await caller.call("GET", key)
        if found is None and number and not self.first_checked:
            raise txredisapi.ConnectionError("it has to wait for partition 0, which was not reached yet")
        if found is None:
            await self._refuse_single(caller)
            found = await caller.call("SET", key, count, "NX", "GET") or count
        if int(found) != count:
            raise WrongPartitions(self.partitions.prefix, int(found), count)
        self.first_checked = self.first_checked or number == 0

    async def _check_single(self, caller: Caller) -> None:
        """Refuse a store of several partitions, as far as it is on this server."""
        found = await _readable(caller, "GET", marker(Keys(partition_prefix(self.partitions.prefix, 0))))
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
