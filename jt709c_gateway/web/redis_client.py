"""The connections of the web server to Redis, separate so that readers never delay commits."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import txredisapi
from twisted.application.service import MultiService
from twisted.internet import defer

from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.errors import is_wrong_type
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitioned_queries import PartitionAway, cannot_serve
from jt709c_gateway.redis.pubsub import ListenerEndpoint, OnMessage, Subscriptions

#: Seconds that a request waits for a connection.
_CONNECT_TIMEOUT: Final = 2.0
_RIGHTS: Final = re.compile("NOPERM|NOAUTH|ACL failure")


class PartitionsAway(txredisapi.ConnectionError):  # type: ignore[misc]
    """All partitions that were asked are away; `numbers` are theirs."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__(f"partitions {', '.join(map(str, numbers))} can't be reached")
        self.numbers = numbers


def numbers_away(error: BaseException) -> list[int]:
    """Return the numbers of the partitions that an error is about; none without several partitions."""
    if isinstance(error, PartitionAway):
        return [error.number]
    return list(error.numbers) if isinstance(error, PartitionsAway) else []


def is_away(error: BaseException) -> bool:
    """Whether a partition can't serve now. A missing right is another matter, which the log has to name."""
    return cannot_serve(error) and not _RIGHTS.search(str(error))


def _checked(result: Any) -> Any:
    """Return a reply; raise it if it is an error."""
    if isinstance(result, Exception):
        raise result
    return result


class WebRedis(MultiService):
    """Two connections, for requests and for subscriptions, each opened when it is first needed.

    `reply_timeout` is in seconds. All calls fail with txredisapi's errors. `number` is that of one of several
    partitions: it fails with `PartitionAway` when it can't serve, and requests don't wait for one that has
    been away for some time, since the others shall be answered at once.
    """

    def __init__(self, reactor: Any, keys: Keys, reply_timeout: float, number: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys = keys
        self.number = number
        self._reactor = reactor
        self._reply_timeout = reply_timeout
        self._way: RedisConnector | None = None
        self._listening_way: RedisConnector | None = None
        self._requests: RedisConnection | None = None
        self._waiting: list[defer.Deferred[None]] = []
        #: When the connection was opened first, or lost.
        self._without_since = 0.0

    def use(self, way: RedisConnector, listening: RedisConnector | None = None) -> None:
        """Set the connector to Redis, and perhaps another one for subscriptions."""
        self._way, self._listening_way = way, listening or way

    @property
    def is_away(self) -> bool:
        """Whether it was used, and has had no connection for longer than a request waits."""
        if self._requests is None or self._requests.connected:
            return False
        return bool(self._reactor.seconds() - self._without_since >= _CONNECT_TIMEOUT)

    def open(self) -> None:
        """Open the connection for requests before it is needed."""
        if self._requests is None and self._way is not None:
            self._without_since = self._reactor.seconds()
            self._requests = self._way.connection(
                probe=self.keys.imei, reply_timeout=self._reply_timeout, ready=self._ready, lost=self._lost
            )
            self._requests.setServiceParent(self)  # type: ignore[no-untyped-call]

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Send one command; return the reply of `RedisConnection.call`."""
        return self._named(self._call(arguments))

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write; return one result for each. An error reply fails all."""
        return self._named(self._pipeline(commands))

    def readable(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Like `pipeline`, but with None for each key of another type."""
        return self._named(self._readable(commands))

    def listen(
        self,
        on_message: OnMessage,
        subscriptions: Subscriptions,
        ready: Callable[[], Any],
        lost: Callable[[str], Any],
    ) -> Any:
        """Open the connection for subscriptions; None while no connector is set.

        Sharded subscriptions need the node that has the keys of this partition, others any.
        """
        way = self._listening_way
        if way is None:
            return None
        endpoint = ListenerEndpoint(self._reactor, way.endpoint, on_message, self._reply_timeout)
        probe = self.keys.imei if subscriptions.sharded else None
        connection = way.connection(
            endpoint, probe=probe, prepare=subscriptions.prepare, ready=ready, lost=lost
        )
        connection.setServiceParent(self)  # type: ignore[no-untyped-call]
        return connection

    def _named(self, asking: Any) -> "defer.Deferred[Any]":
        asked: defer.Deferred[Any] = defer.Deferred.fromCoroutine(asking)
        return asked if self.number is None else asked.addErrback(self._name)

    def _name(self, failure: Any) -> Any:
        if self.number is not None and is_away(failure.value):
            raise PartitionAway(self.number) from failure.value
        return failure

    async def _call(self, arguments: Sequence[Any]) -> Any:
        return await (await self._connection()).call(*arguments)

    async def _pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        results = await (await self._connection()).pipeline(commands)
        return [_checked(result) for result in results]

    async def _readable(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        results = await (await self._connection()).pipeline(commands)
        return [None if is_wrong_type(result) else _checked(result) for result in results]

    async def _connection(self) -> RedisConnection:
        self.open()
        if self._requests is None:
            raise txredisapi.ConnectionError("Redis has not been started yet")
        if not self._requests.connected:
            await self._wait()
        return self._requests

    async def _wait(self) -> None:
        waiting: defer.Deferred[None] = defer.Deferred()
        self._waiting.append(waiting)
        try:
            await waiting.addTimeout(self._patience(), self._reactor)
        except defer.TimeoutError:
            raise txredisapi.ConnectionError("there is no connection to Redis") from None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _patience(self) -> float:
        """Seconds that a request waits now."""
        if self.number is None:
            return _CONNECT_TIMEOUT
        return max(0.0, float(self._without_since + _CONNECT_TIMEOUT - self._reactor.seconds()))

    def _ready(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)

    def _lost(self, reason: str) -> None:
        self._without_since = self._reactor.seconds()
