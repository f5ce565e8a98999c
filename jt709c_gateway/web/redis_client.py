"""The connections of the web server to Redis, separate so that readers never delay commits."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import txredisapi
from twisted.application.service import MultiService
from twisted.internet import defer

from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.errors import is_wrong_type
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.pubsub import ListenerEndpoint, OnMessage, Subscriptions

#: Seconds that a request waits for a connection.
_CONNECT_TIMEOUT: Final = 2.0


def _checked(result: Any) -> Any:
    """Return a reply; raise it if it is an error."""
    if isinstance(result, Exception):
        raise result
    return result


class WebRedis(MultiService):
    """Two connections, for requests and for subscriptions, each opened when it is first needed.

    `reply_timeout` is in seconds. All calls fail with txredisapi's errors.
    """

    def __init__(self, reactor: Any, keys: Keys, reply_timeout: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys = keys
        self._reactor = reactor
        self._reply_timeout = reply_timeout
        self._way: RedisConnector | None = None
        self._requests: RedisConnection | None = None
        self._waiting: list[defer.Deferred[None]] = []

    def use(self, way: RedisConnector) -> None:
        """Set the connector to Redis."""
        self._way = way

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Send one command; return the reply of `RedisConnection.call`."""
        return defer.Deferred.fromCoroutine(self._call(arguments))

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write; return one result for each. An error reply fails all."""
        return defer.Deferred.fromCoroutine(self._pipeline(commands))

    async def readable(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Like `pipeline`, but with None for each key of another type."""
        results = await (await self._connection()).pipeline(commands)
        return [None if is_wrong_type(result) else _checked(result) for result in results]

    def listen(
        self,
        on_message: OnMessage,
        subscriptions: Subscriptions,
        ready: Callable[[], Any],
        lost: Callable[[str], Any],
    ) -> Any:
        """Open the connection for subscriptions; None while no connector is set."""
        way = self._way
        if way is None:
            return None
        endpoint = ListenerEndpoint(self._reactor, way.endpoint, on_message, self._reply_timeout)
        connection = way.connection(endpoint, prepare=subscriptions.prepare, ready=ready, lost=lost)
        connection.setServiceParent(self)  # type: ignore[no-untyped-call]
        return connection

    async def _call(self, arguments: Sequence[Any]) -> Any:
        return await (await self._connection()).call(*arguments)

    async def _pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        results = await (await self._connection()).pipeline(commands)
        return [_checked(result) for result in results]

    async def _connection(self) -> RedisConnection:
        if self._requests is None and self._way is not None:
            self._requests = self._way.connection(
                probe=self.keys.imei, reply_timeout=self._reply_timeout, ready=self._ready
            )
            self._requests.setServiceParent(self)  # type: ignore[no-untyped-call]
        if self._requests is None:
            raise txredisapi.ConnectionError("Redis has not been started yet")
        if not self._requests.connected:
            await self._wait()
        return self._requests

    async def _wait(self) -> None:
        waiting: defer.Deferred[None] = defer.Deferred()
        self._waiting.append(waiting)
        try:
            await waiting.addTimeout(_CONNECT_TIMEOUT, self._reactor)
        except defer.TimeoutError:
            raise txredisapi.ConnectionError("there is no connection to Redis") from None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _ready(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
