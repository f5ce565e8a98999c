"""The web side's own way to Redis, so that no reader ever stands between a lock's report and its commit."""

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
_PATIENCE: Final = 2.0


def _sound(result: Any) -> Any:
    """A reply; raises one that is an error."""
    if isinstance(result, Exception):
        raise result
    return result


class WebRedis(MultiService):
    """Two connections, to talk over and to listen on, each made when it is first needed.

    `reply_timeout` is in seconds. All calls fail with txredisapi's errors.
    """

    def __init__(self, reactor: Any, keys: Keys, reply_timeout: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys = keys
        self._reactor = reactor
        self._reply_timeout = reply_timeout
        self._way: RedisConnector | None = None
        self._talking: RedisConnection | None = None
        self._waiting: list[defer.Deferred[None]] = []

    def use(self, way: RedisConnector) -> None:
        """Say where Redis is."""
        self._way = way

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Send one command; the reply as `RedisConnection.call` gives it."""
        return defer.Deferred.fromCoroutine(self._call(arguments))

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write; one result for each. An error reply fails the whole."""
        return defer.Deferred.fromCoroutine(self._pipeline(commands))

    async def readable(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The same, with None for what can't be read since its key is of another type."""
        results = await (await self._connection()).pipeline(commands)
        return [None if is_wrong_type(result) else _sound(result) for result in results]

    def listen(
        self,
        on_message: OnMessage,
        subscriptions: Subscriptions,
        ready: Callable[[], Any],
        lost: Callable[[str], Any],
    ) -> Any:
        """Start the connection to listen on; None when it isn't known yet where Redis is."""
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
        return [_sound(result) for result in results]

    async def _connection(self) -> RedisConnection:
        if self._talking is None and self._way is not None:
            self._talking = self._way.connection(
                probe=self.keys.imei, reply_timeout=self._reply_timeout, ready=self._ready
            )
            self._talking.setServiceParent(self)  # type: ignore[no-untyped-call]
        if self._talking is None:
            raise txredisapi.ConnectionError("Redis has not been started yet")
        if not self._talking.connected:
            await self._wait()
        return self._talking

    async def _wait(self) -> None:
        waiting: defer.Deferred[None] = defer.Deferred()
        self._waiting.append(waiting)
        try:
            await waiting.addTimeout(_PATIENCE, self._reactor)
        except defer.TimeoutError:
            raise txredisapi.ConnectionError("there is no connection to Redis") from None
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def _ready(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(None)
