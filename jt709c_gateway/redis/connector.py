"""Makes connections to one Redis server, with everything that they have in common."""

from collections.abc import Callable
from typing import Any

from attrs import frozen

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.connection import RedisConnection


@frozen
class RedisConnector:
    """Holds the address, endpoint and password with which connections to Redis are made."""

    reactor: Any
    address: RedisAddress
    endpoint: Any
    password: Callable[[], str | None] | None

    def connection(self, endpoint: Any = None, **more: Any) -> RedisConnection:
        """Make a connection, not started yet; `more` goes to RedisConnection, `endpoint` replaces ours."""
        return RedisConnection(
            self.reactor, self.address, endpoint or self.endpoint, password=self.password, **more
        )
