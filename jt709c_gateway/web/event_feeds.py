"""Where live events come from: subscriptions on each server, or the streams of partitions."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import txredisapi
from attrs import define
from twisted.internet import defer

from jt709c_gateway.protocol.events import KIND_HEARTBEAT, KIND_LOCATION, KINDS
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.pubsub import OnMessage, Subscriptions, glob_escape, keep_alive
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition
from jt709c_gateway.web.redis_client import WebRedis

#: Frequent kinds, which are sent only on request.
_FREQUENT: Final = frozenset({KIND_LOCATION, KIND_HEARTBEAT})
#: Entries of a stream that are looked at each time, of each partition.
LOOKED_AT: Final = 500
#: Events that are read from all streams each time, at most.
MAX_READ: Final = 200

Refused = Callable[[str, Any], object]
"""Called with a name that Redis refuses to subscribe to, and the failure."""


def names(layout: Partitions, kinds: tuple[str, ...], device: str | None) -> frozenset[str]:
    """The channels of one device, or one pattern per kind for all devices; no kinds means all.

    Without a device, frequent kinds are only included if they are named.
    """
    if device is not None:
        keys = layout.keys_of(device)
        return frozenset(keys.channel(one, device) for one in kinds or KINDS)
    escaped = Keys(glob_escape(layout.prefix))
    wanted = kinds or [one for one in KINDS if one not in _FREQUENT]
    return frozenset(escaped.channel(one, "*") for one in wanted)


class Feed:
    """The subscriptions on one server. `missed` is called when events may have been missed."""

    def __init__(
        self,
        redis: WebRedis,
        on_message: OnMessage,
        missed: Callable[[], object],
        refused: Refused,
        sharded: bool,
    ) -> None:
        self._redis = redis
        self._on_message = on_message
        self._missed = missed
        self._subscriptions = Subscriptions(refused, sharded)
        self._connection: Any = None
        #: Whether events may have been missed, because there was no connection.
        self._gap = True

    def set_names(self, wanted: Iterable[str]) -> None:
        """Subscribe to exactly these names; the first ones open the connection."""
        found = frozenset(wanted)
        if self._connection is None and found:
            # None while no connector is set: the next tick tries again.
            self._connection = self._redis.listen(
                self._on_message, self._subscriptions, self._ready, self._lost
            )
            self._subscriptions.connection = self._connection
        self._subscriptions.set_names(found)

    def tick(self, ping: bool) -> None:
        """Check the connection; to be called once a second."""
        if self._connection is None or not self._connection.connected:
            self._gap = True
        elif ping:
            keep_alive(self._connection)

    def _ready(self) -> None:
        self._subscriptions.ready()
        if self._gap:
            # Report the gap again: events were missed until now, and Redis can be read again.
            self._gap = False
            self._missed()

    def _lost(self, reason: str) -> None:
        self._gap = True
        self._missed()


@define(eq=False)
class StreamFollower:
    """Reads the newest events from the stream of one partition; of too many it leaves out the older ones."""

    partition: WebPartition
    most: int
    _last: str = ""
    _reading: bool = False

    async def read(self, wanted: Mapping[str, str], on_message: OnMessage) -> int:
        """Pass on the new events of some kinds, whose names are those of subscriptions.

        Returns the number of those that were left out; 0 as well when the partition can't be reached. Raises
        ResponseError when Redis refuses.
        """
        if self._reading:
            return 0
        self._reading = True
        keys = self.partition.keys
        try:
            newest, left_out, *found = await scripts.run(
                self.partition.redis,
                scripts.LATEST,
                [keys.events],
                [self._last, LOOKED_AT, self.most, *wanted],
            )
        except txredisapi.ConnectionError:
            return 0
        finally:
            self._reading = False
        # An empty stream is read from its beginning on.
        self._last = "0-0" if newest is None else newest.decode()
        for at in range(len(found) - 2, -1, -2):
            kind = found[at].decode()
            if kind in wanted:
                on_message(wanted[kind], keys.channel(kind, ""), found[at + 1])
        return int(left_out)

    def forget(self) -> None:
        """Begin with the events of the next read on."""
        self._last = ""


class EventFeeds:
    """Receives what was subscribed to, from all servers.

    Sharded publish/subscribe has no patterns: events of a device are subscribed to at the node of its
    partition, and those of all devices are read from the streams. `left_out` is called with the number of
    those that were too many.
    """

    def __init__(
        self,
        web: PartitionedWebRedis,
        on_message: OnMessage,
        missed: Callable[[], object],
        refused: Refused,
        left_out: Callable[[int], object],
    ) -> None:
        self._web = web
        self._on_message = on_message
        self._missed = missed
        self._refused = refused
        self._left_out = left_out
        self._feeds: dict[int, Feed] = {}
        most = max(1, MAX_READ // web.layout.count)
        self._followers = [StreamFollower(one, most) for one in web.partitions]
        self._names: frozenset[str] = frozenset()

    @property
    def _patterns(self) -> list[str]:
        return [name for name in self._names if name.endswith("*")]

    def set_names(self, wanted: Iterable[str]) -> None:
        """Receive exactly what has these names."""
        self._names = frozenset(wanted)
        sharded = self._web.layout.sharded
        for one in self._web.partitions if sharded else self._web.servers:
            wanted_here = self._names
            if sharded:
                wanted_here = frozenset(
                    name for name in wanted_here if name.startswith(f"{one.keys.prefix}:")
                )
            feed = self._feeds.get(one.number)
            if feed is None and wanted_here:
                feed = self._feeds[one.number] = Feed(
                    one.redis, self._on_message, self._missed, self._refused, sharded
                )
            if feed is not None:
                feed.set_names(wanted_here)

    def tick(self, ping: bool) -> None:
        """Check all connections; to be called once a second, with `ping` to show that they are used."""
        for feed in list(self._feeds.values()):
            feed.tick(ping)
        # A connector may have been set meanwhile.
        self.set_names(self._names)

    def follow(self) -> None:
        """Read the streams, if events are wanted from them; to be called some times a second."""
        wanted = {name.split(":")[-2]: name for name in self._patterns} if self._web.layout.sharded else {}
        for one in self._followers:
            if wanted:
                reading = defer.Deferred.fromCoroutine(one.read(wanted, self._on_message))
                reading.addCallback(lambda count: count and self._left_out(count))
                reading.addErrback(partial(self._refused, "the streams"))
            else:
                one.forget()
