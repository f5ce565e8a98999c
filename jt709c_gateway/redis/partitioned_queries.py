"""Reads devices from the partitions that have them."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from attrs import define
from twisted.internet import defer

from jt709c_gateway.protocol.device_id import canonical, may_be_sublock
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.device_queries import DeviceQueries
from jt709c_gateway.redis.partitions import Partitions

_T = TypeVar("_T")


async def gather(waiting: Sequence[Awaitable[_T]]) -> list[_T]:
    """Await all at once and return their results; the first error is raised when all have ended."""
    ended: list[tuple[bool, Any]] = await defer.DeferredList(
        [defer.ensureDeferred(one) for one in waiting],  # type: ignore[arg-type]
        consumeErrors=True,
    )
    for succeeded, result in ended:
        if not succeeded:
            result.raiseException()
    return [result for _, result in ended]


@define(eq=False)
class PartitionedQueries:
    """Finds devices by any of their names. `stores` has one for each partition.

    Calls fail with txredisapi's errors when a partition that has to be asked can't be.
    """

    partitions: Partitions
    stores: Sequence[DeviceQueries]

    def of(self, device: str) -> DeviceQueries:
        """Return the store of a device's partition."""
        return self.stores[self.partitions.number_of(device)]

    async def look_up(self, name: str) -> Known:
        """Return the device that `name` stands for: an IMEI, a device id, or a sub-lock's id.

        The IMEI of a device is in the partition of the IMEI, and a sub-lock in that of its master.
        """
        if len(self.stores) == 1:
            return await self.stores[0].look_up(name)
        alias = await self.of(name).device_with(name)
        if alias is not None:
            known, imei = await self.of(alias).look_up_device(alias, alias)
            # Another partition is told of an IMEI after the device's own.
            if imei in (None, name):
                return known
        known, imei = await self.of(name).look_up_device(canonical(name))
        if imei is None and may_be_sublock(name):
            for found in await gather([one.look_up_sublock(name) for one in self.stores]):
                if found is not None:
                    return found
        return known

    async def known(self, devices: list[str]) -> list[bool]:
        """Return for each device whether Redis has its state."""
        return await self.each(devices, lambda number, some: self.stores[number].known(some))

    async def each(
        self, devices: Sequence[str], ask: Callable[[int, list[str]], Awaitable[list[_T]]]
    ) -> list[_T]:
        """Return an answer for each device; `ask` gets the number of a partition and its devices."""
        parts: defaultdict[int, list[str]] = defaultdict(list)
        for device in devices:
            parts[self.partitions.number_of(device)].append(device)
        answers = await gather([ask(number, some) for number, some in parts.items()])
        found: dict[str, _T] = {}
        for some, replies in zip(parts.values(), answers, strict=True):
            found.update(zip(some, replies, strict=True))
        return [found[device] for device in devices]
