"""A connection to a Redis server that is known only later, such as the embedded one."""

from collections.abc import Sequence
from typing import Any

import txredisapi
from twisted.application.service import MultiService
from twisted.internet import defer

from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.connector import RedisConnector


class LateConnection(MultiService):
    """Stands for a `RedisConnection` with these options from the start; `use` makes and starts it.

    Before `use` it is not connected, and calls fail with txredisapi.ConnectionError.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._options = options
        self._connection: RedisConnection | None = None

    @property
    def connected(self) -> bool:
        """Whether the connection can be used now."""
        return self._connection is not None and self._connection.connected

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Send one command, as `RedisConnection.call` does."""
        if self._connection is None:
            return self._unknown()
        return self._connection.call(*arguments)

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write, as `RedisConnection.pipeline` does."""
        if self._connection is None:
            return self._unknown()
        return self._connection.pipeline(commands)

    def use(self, connector: RedisConnector) -> None:
        """Connect to this server; called once."""
        self._connection = connector.connection(**self._options)
        self._connection.setServiceParent(self)  # type: ignore[no-untyped-call]

    @staticmethod
    def _unknown() -> "defer.Deferred[Any]":
        return defer.fail(txredisapi.ConnectionError("the address of Redis is not known yet"))
