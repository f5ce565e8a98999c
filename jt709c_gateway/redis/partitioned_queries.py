"""Reads devices from the partitions that have them."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import txredisapi
from attrs import define
from twisted.internet import defer

from jt709c_gateway.protocol.device_id import canonical, may_be_sublock
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.device_queries import DeviceQueries
from jt709c_gateway.redis.errors import is_state_of_server
from jt709c_gateway.redis.partitions import Partitions

_T = TypeVar("_T")
#: Seconds to wait for an answer of one of several partitions, so that one that hangs does not hold up what
#: belongs to others.
_PATIENCE: Final = 1.0


class PartitionAway(txredisapi.ConnectionError):  # type: ignore[misc]
    """A partition can't be asked now; `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"partition {number} can't be reached")
        self.number = number


def cannot_serve(error: BaseException) -> bool:
    """Return whether a partition can't serve now; WRONGTYPE, for example, refuses a single request only."""
    return isinstance(error, txredisapi.ConnectionError) or is_state_of_server(error)


async def reach(
    clock: Any,
    number: int,
    asking: Awaitable[_T],
    is_away: Callable[[BaseException], bool] = cannot_serve,
) -> _T:
    """Return what a partition answers; raise PartitionAway when it can't serve, or not soon.

    Other errors are passed on. A request that is overdue goes on.
    """
    answer: defer.Deferred[_T] = defer.Deferred()
    asked: defer.Deferred[_T] = defer.ensureDeferred(asking)  # type: ignore[arg-type]
    asked.addCallbacks(
        lambda result: None if answer.called else answer.callback(result),
        lambda failure: None if answer.called else answer.errback(failure),
    )
    if clock is not None and not answer.called:
        answer.addTimeout(_PATIENCE, clock)
    try:
        return await answer
    except defer.TimeoutError:
        raise PartitionAway(number) from None
    except txredisapi.RedisError as error:
        if is_away(error):
            raise PartitionAway(number) from error
        raise


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

    Calls fail with txredisapi's errors when a partition that has to be asked can't be. With a `clock`,
    `look_up` waits for none of several for long.
    """

    partitions: Partitions
    stores: Sequence[DeviceQueries]
    clock: Any = None
    #: Which errors of one of several partitions say that it is away.
    is_away: Callable[[BaseException], bool] = cannot_serve

    async def _ask(self, number: int, ask: Callable[[DeviceQueries], Awaitable[_T]]) -> _T:
        return await reach(self.clock, number, ask(self.stores[number]), self.is_away)

    async def look_up(self, name: str) -> Known:
        """Return the device that `name` stands for: an IMEI, a device id, or a sub-lock's id.

        The IMEI of a device is in the partition of the IMEI, and a sub-lock in that of its master. Raises
        PartitionAway with the first of several partitions that can't be asked.
        """
        if len(self.stores) == 1:
            return await self.stores[0].look_up(name)
        number = self.partitions.number_of(name)
        alias = await self._ask(number, lambda store: store.device_with(name))
        if alias is not None:
            device, place = alias, self.partitions.number_of(alias)
            known, imei = await self._ask(place, lambda store: store.look_up_device(device, device))
            # Another partition is told of an IMEI after the device's own.
            if imei in (None, name):
                return known
        known, imei = await self._ask(number, lambda store: store.look_up_device(canonical(name)))
        if imei is None and may_be_sublock(name):
            return await self._look_up_sublock(name) or known
        return known

    async def _look_up_sublock(self, name: str) -> Known | None:
        """Return the master of a sub-lock: any partition may have it, and after a move several."""

        async def ask(number: int) -> tuple[Known, float] | PartitionAway | None:
            try:
                return await self._ask(number, lambda store: store.look_up_sublock(name))
            except PartitionAway as error:
                return error

        answers = await gather([ask(number) for number in range(len(self.stores))])
        found = [answer for answer in answers if isinstance(answer, tuple)]
        if found:
            return max(found, key=lambda one: one[1])[0]
        for answer in answers:
            if isinstance(answer, PartitionAway):
                raise answer
        return None

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
