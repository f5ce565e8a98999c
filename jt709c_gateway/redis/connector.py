"""Makes connections to one Redis server, with everything that they have in common."""

from collections.abc import Callable
from typing import Any

from attrs import evolve, field, frozen

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.connection_log import ConnectionLog


@frozen
class RedisConnector:
    """Holds the address, endpoint and password with which connections to Redis are made."""

    reactor: Any
    address: RedisAddress
    endpoint: Any
    password: Callable[[], str | None] | None
    #: Shared by all connections.
    log: ConnectionLog = field()

    @log.default
    def _make_log(self) -> ConnectionLog:
        return ConnectionLog(self.address.masked())

    def named(self, what: str) -> "RedisConnector":
        """Return a connector to the same server for a part of the keys, which is named in the log."""
        return evolve(self, log=ConnectionLog(f"{self.address.masked()} ({what})"))

    def connection(self, endpoint: Any = None, **more: Any) -> RedisConnection:
        """Make a connection, not started yet; `more` goes to RedisConnection, `endpoint` replaces ours."""
        return RedisConnection(
            self.reactor,
            self.address,
            endpoint or self.endpoint,
            password=self.password,
            connection_log=self.log,
            **more,
        )
