"""The connections of a gateway to Redis, and the preparation of each before its use."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import txredisapi
from twisted.application.service import MultiService
from twisted.logger import Logger

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.durability import Durability
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.late_connection import LateConnection
from jt709c_gateway.redis.redis_time import RedisTime

#: Reply timeout of the connection for BLMOVE, in seconds: longer than BLMOVE itself waits.
_BLOCKING_TIMEOUT: Final = 20.0


class GatewayConnections(MultiService):
    """Three connections: for commits, for commands, and for the blocking wait for new commands.

    A commit that waits for durability blocks its connection; without such waits, `commits` and `commands` are
    one connection. `keys` are those of the server's partition; without `redis_time`, Redis's clock is not
    read. `loader` is shared with other partitions. `examine` is called with each new connection, and refuses
    it by an exception. `commits_ready` and `commands_ready` are called each time these can be used.
    """

    log = Logger()

    def __init__(
        self,
        durability: Durability,
        reply_timeout: float,
        keys: Keys,
        redis_time: RedisTime | None,
        *,
        loader: scripts.ScriptLoader | None = None,
        examine: Callable[[RedisProtocol], Awaitable[None]],
        commits_ready: Callable[[], None],
        commands_ready: Callable[[], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._redis_time = redis_time
        self._keys = keys
        self._loader = loader
        probe = keys.imei
        self._examine = examine
        usable = partial(LateConnection, probe=probe, prepare=self._prepare)
        self.blocking = LateConnection(probe=probe, reply_timeout=_BLOCKING_TIMEOUT)
        if durability.waits:
            self.commands = usable(reply_timeout=reply_timeout, ready=commands_ready)
            self.commits = LateConnection(
                probe=probe,
                prepare=self._prepare_synced if durability.fsync else self._prepare,
                reply_timeout=reply_timeout + durability.timeout,
                ready=commits_ready,
            )
        else:

            def both_ready() -> None:
                commits_ready()
                commands_ready()

            self.commands = self.commits = usable(reply_timeout=reply_timeout, ready=both_ready)
        #: Each of them once.
        self._connections = list(dict.fromkeys((self.commits, self.commands, self.blocking)))
        for one in self._connections:
            one.setServiceParent(self)  # type: ignore[no-untyped-call]

    @property
    def connected(self) -> bool:
        """Whether all of them can be used now."""
        return all(one.connected for one in self._connections)

    def use(self, connector: RedisConnector) -> None:
        """Connect to this server; called once."""
        for one in self._connections:
            one.use(connector)

    async def _prepare(self, protocol: RedisProtocol) -> None:
        """Measure Redis's clock, load the scripts and check the rights before a connection is used."""
        if self._redis_time is not None:
            # The rights check reports a missing right.
            with suppress(txredisapi.ResponseError):
                await self._redis_time.measure(protocol)
        if self._loader is None:
            await scripts.load(protocol, self._keys)
        else:
            await self._loader.load(protocol, self._keys, str(protocol.transport.getPeer()))
        await self._examine(protocol)

    async def _prepare_synced(self, protocol: RedisProtocol) -> None:
        await self._prepare(protocol)
        await self._check_sync(protocol)

    async def _check_sync(self, protocol: RedisProtocol) -> None:
        """Warn of a server configuration in which WAITAOF may reply too early.

        That happens with everysec in Redis 7.4 and in Valkey up to 9.1 at least (redis/redis#13793).
        """
        try:
            _, policy = await protocol.call("CONFIG", "GET", "appendfsync")
        except (txredisapi.ResponseError, ValueError):
            # The user may lack the right, or the server the option.
            return
        if policy == b"everysec":
            self.log.warn(
                "Redis has appendfsync everysec, with which some versions call synced what is not yet; "
                "--durability fsync can be relied on with always"
            )
