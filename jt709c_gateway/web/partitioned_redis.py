"""Asks the partitions of a fleet side by side, and tells which of them are away."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from attrs import evolve, frozen
from twisted.application.service import MultiService
from twisted.internet import defer

from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitioned_queries import PartitionAway, PartitionedQueries
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.web.redis_client import PartitionsAway, WebRedis, is_away

_T = TypeVar("_T")


@frozen(eq=False)
class WebPartition:
    """One partition as the web server reads it."""

    number: int
    redis: WebRedis
    store: CommandStore

    @property
    def keys(self) -> Keys:
        """The names of its keys."""
        return self.redis.keys


@frozen
class Answers(Generic[_T]):
    """What the reached partitions have answered, in their order, and the numbers of those that are away."""

    found: Sequence[tuple[WebPartition, _T]]
    away: Sequence[int]

    def values(self) -> list[_T]:
        """Return the answers; raise `PartitionsAway` when there is none."""
        if self.away and not self.found:
            raise PartitionsAway(self.away)
        return [value for _, value in self.found]


async def side_by_side(
    partitions: Sequence[WebPartition], question: Callable[[WebPartition], Awaitable[_T]]
) -> Answers[_T]:
    """Ask partitions at the same time; raise the first error except `PartitionAway` when all have ended."""
    if len(partitions) == 1:
        try:
            return Answers([(partitions[0], await question(partitions[0]))], [])
        except PartitionAway as error:
            return Answers([], [error.number])
    ended: list[tuple[bool, Any]] = await defer.DeferredList(
        [defer.ensureDeferred(question(one)) for one in partitions],  # type: ignore[arg-type]
        consumeErrors=True,
    )
    found: list[tuple[WebPartition, _T]] = []
    away: list[int] = []
    for partition, (succeeded, result) in zip(partitions, ended, strict=True):
        if succeeded:
            found.append((partition, result))
        elif result.check(PartitionAway):
            away.append(partition.number)
        else:
            result.raiseException()
    return Answers(found, away)


class PartitionedWebRedis(MultiService):
    """The connections to all partitions; with a single partition nothing is different from a `WebRedis`.

    `reply_timeout` is in seconds, `gateway` the name of this gateway.
    """

    def __init__(self, reactor: Any, layout: Partitions, gateway: str, reply_timeout: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layout = layout
        self.several = layout.count > 1
        self.partitions: list[WebPartition] = []
        for number, keys in enumerate(layout):
            redis = WebRedis(reactor, keys, reply_timeout, number if self.several else None)
            redis.setServiceParent(self)  # type: ignore[no-untyped-call]
            self.partitions.append(WebPartition(number, redis, CommandStore(redis, keys, gateway)))
        self.queries = PartitionedQueries(layout, [one.store for one in self.partitions], is_away=is_away)
        #: One partition of each server.
        self.servers: Sequence[WebPartition] = self.partitions[:1]

    @property
    def first(self) -> WebPartition:
        """The first partition, whose node has the clock that counts."""
        return self.partitions[0]

    def use(self, connectors: Sequence[RedisConnector]) -> None:
        """Set the connectors of the servers, of which each has every so-many-th partition."""
        for one in self.partitions:
            connector = connectors[one.number % len(connectors)]
            named = connector.named(f"partition {one.number}") if self.several else connector
            one.redis.use(named, connector)
        # Publish/subscribe knows no databases: two of one server are heard once.
        places = {evolve(one.address, db=0): at for at, one in reversed(list(enumerate(connectors)))}
        self.servers = [self.partitions[at] for at in sorted(places.values())]

    def of(self, device: str) -> WebPartition:
        """Return the partition of a device id, an IMEI, or another name."""
        return self.partitions[self.layout.number_of(device)]

    def away(self) -> list[int]:
        """Return the numbers of the partitions that have been away for some time."""
        return [one.number for one in self.partitions if one.redis.is_away] if self.several else []
