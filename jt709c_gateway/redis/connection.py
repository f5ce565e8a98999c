"""A long-lived connection to Redis that reconnects by itself."""

from collections.abc import Awaitable, Callable, Sequence
from random import random
from typing import Any

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.client_protocol import (
    Argument,
    ClosedByServer,
    RedisProtocol,
    RedisProtocolFactory,
    connect,
    one_line,
)
from jt709c_gateway.redis.connection_log import ConnectionLog
from jt709c_gateway.redis.endpoints import ClusterEndpoint, moved_to

_STEADY = 5.0
_CLOSE_TIMEOUT = 2.0
#: Redirections that one attempt follows: one suffices, unless the slot is moving.
_MAX_REDIRECTS = 3
#: Prefixes of error replies of a node that lost our slot, and of a server that is no longer the primary.
_MOVED = ("MOVED ",)
_FAILED_OVER = ("MOVED ", "READONLY ", "UNBLOCKED ")


class _Elsewhere(txredisapi.ConnectionError):  # type: ignore[misc]
    """Another node of the cluster holds our keys."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"another node of this Redis Cluster has our keys, {host}:{port}; use redis+cluster://"
        )
        self.host, self.port = host, port


def retry_delay(attempt: int) -> float:
    """Return the delay in seconds after `attempt` failed attempts in a row: 0.1 s growing to 5 s, ±25 %."""
    return min(5.0, 0.1 * 1.5 ** min(attempt - 1, 20)) * (0.75 + random() / 2)


class RedisConnection(Service):
    """Keeps a connection to Redis, which is usable after AUTH, SELECT, PING and `prepare`.

    `endpoint` is the result of `client_endpoint(address, …)`. All times are in seconds:

    - `reply_timeout`: a request that waits longer aborts the connection. None for a connection with blocking
      commands (BLMOVE, XREAD BLOCK).
    - `handshake_timeout`: from the established transport to the usable connection.
    - `password`: called for the password on every new connection, instead of `address.password`; its
      exception fails the attempt.
    - `retry_delay`: returns the delay for a number of failed attempts in a row.

    `prepare(protocol)` is awaited on every new connection (load scripts, subscribe); when it fails, the
    connection is closed and the attempt has failed. `ready()` is called each time the connection becomes
    usable, `lost(reason)` each time a usable one has ended, after its requests have failed. Both run in the
    reactor; their exceptions are logged.

    `probe` is one of our keys, a hash. A cluster node that does not hold its slot is not used: a
    `ClusterEndpoint` follows the redirection, with other endpoints the attempt fails.

    Connections with the same `connection_log` log together.

    ClientService is not used: it raises out of `connectionLost` when a connection ends during
    `prepareConnection`, and it logs every attempt.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        address: RedisAddress,
        endpoint: Any,
        *,
        reply_timeout: float | None = 5.0,
        handshake_timeout: float = 10.0,
        password: Callable[[], str | None] | None = None,
        retry_delay: Callable[[int], float] = retry_delay,
        probe: str | None = None,
        prepare: Callable[[RedisProtocol], Awaitable[object]] | None = None,
        ready: Callable[[], object] | None = None,
        lost: Callable[[str], object] | None = None,
        connection_log: ConnectionLog | None = None,
    ) -> None:
        self.address = address
        self._connection_log = connection_log or ConnectionLog(address.masked())
        self._reactor = reactor
        self._endpoint = endpoint
        self._factory = RedisProtocolFactory(reactor, reply_timeout)
        self._handshake_timeout = handshake_timeout
        self._password = password or (lambda: address.password)
        self._retry_delay = retry_delay
        self._probe = probe
        self._prepare = prepare
        self._ready = ready
        self._lost = lost
        self._protocol: RedisProtocol | None = None
        self._loop: defer.Deferred[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a usable connection."""
        return self._protocol is not None and bool(self._protocol.connected)

    def call(self, *arguments: Argument) -> "defer.Deferred[Any]":
        """Send one command; return its reply as `RedisProtocol.call` does.

        Fails with txredisapi.ResponseError for an error reply, and with txredisapi.ConnectionError when
        there is no connection or it ends first (its subclass TimeoutError: the reply took too long). In the
        last two cases the server may have executed the command.
        """
        if self._protocol is None:
            return defer.fail(txredisapi.ConnectionError("not connected to Redis"))
        return self._protocol.call(*arguments)

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write; return one result for each, errors as exception instances.

        Fails with txredisapi.ConnectionError only when there is no connection at the start.
        """
        if self._protocol is None:
            return defer.fail(txredisapi.ConnectionError("not connected to Redis"))
        return self._protocol.pipeline(commands)

    def startService(self) -> None:
        """Start connecting; `ready` is called when the connection is usable."""
        if self._loop is not None:
            return
        super().startService()  # type: ignore[no-untyped-call]
        self._loop = defer.Deferred.fromCoroutine(self._stay_connected())
        self._loop.addErrback(self._loop_ended)

    def stopService(self) -> "defer.Deferred[None]":
        """Close the connection, or cancel the running attempt.

        Outstanding requests fail. The Deferred fires when the connection is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        loop, self._loop = self._loop, None
        if loop is None:
            return defer.succeed(None)
        stopped: defer.Deferred[None] = defer.Deferred()
        loop.addBoth(lambda _: stopped.callback(None))
        # Not at once: `ready` and `lost` run inside the loop, and a loop that isn't waiting cannot be
        # cancelled.
        self._reactor.callLater(0, loop.cancel)
        return stopped

    def _loop_ended(self, failure: Any) -> None:
        if not failure.check(defer.CancelledError):
            self.log.failure(
                "the loop of the connection to Redis at {address} failed",
                failure,
                address=self._connection_log.address,
            )

    async def _stay_connected(self) -> None:
        attempts = 0
        while True:
            try:
                protocol = await self._connect()
            except defer.CancelledError:
                raise
            except Exception as error:
                self._connection_log.failed(one_line(error))
            else:
                since = self._reactor.seconds()
                await self._use(protocol)
                if self._reactor.seconds() - since >= _STEADY:
                    attempts = 0
            attempts += 1
            await task.deferLater(self._reactor, self._retry_delay(attempts), lambda: None)

    async def _connect(self) -> RedisProtocol:
        endpoint = self._endpoint
        for _ in range(_MAX_REDIRECTS):
            try:
                return await self._connect_to(endpoint)
            except _Elsewhere as moved:
                if not isinstance(self._endpoint, ClusterEndpoint):
                    raise
                endpoint = self._endpoint.node_endpoint(moved.host, moved.port)
        return await self._connect_to(endpoint)

    async def _connect_to(self, endpoint: Any) -> RedisProtocol:
        protocol = await connect(endpoint, self._factory)
        try:
            await self._handshake(protocol)
        except Exception:
            await self._close(protocol)
            raise
        return protocol

    async def _handshake(self, protocol: RedisProtocol) -> None:
        limit = self._handshake_timeout

        def give_up() -> None:
            what = f"not usable within {limit:g} s"
            if protocol.securing:
                what = f"no TLS handshake within {limit:g} s; does the server speak TLS?"
            protocol.abort(txredisapi.TimeoutError(what))

        overdue = self._reactor.callLater(limit, give_up)
        try:
            await self._introduce(protocol)
            if self._prepare is not None:
                await self._prepare(protocol)
            if not protocol.connected:
                raise await protocol.when_lost()
        finally:
            if overdue.active():
                overdue.cancel()

    async def _introduce(self, protocol: RedisProtocol) -> None:
        address, password = self.address, self._password()
        commands: list[tuple[Argument, ...]] = []
        if address.username is not None:
            commands.append(("AUTH", address.username, password or ""))
        elif password is not None:
            commands.append(("AUTH", password))
        if address.db:
            commands.append(("SELECT", address.db))
        # PING fails on a server that is still loading its data.
        commands.append(("PING",))
        if address.sentinels:
            commands.append(("ROLE",))
        if self._probe is not None:
            commands.append(("HGET", self._probe, ""))
        replies = await protocol.pipeline(commands)
        if self._probe is not None:
            _check_place(replies.pop(), protocol)
            commands.pop()
            protocol.misplaced = _FAILED_OVER if address.fails_over else _MOVED
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, txredisapi.ResponseError):
                raise txredisapi.ResponseError(_refusal(command, str(reply), password))
            if isinstance(reply, ClosedByServer) and address.host and not address.tls:
                raise ClosedByServer("the server hung up without an answer; does it expect TLS (rediss://)?")
            if isinstance(reply, Exception):
                raise reply
        if address.sentinels and replies[-1][0] != b"master":
            raise txredisapi.ConnectionError("the server named by the sentinels is not a master (yet)")

    async def _use(self, protocol: RedisProtocol) -> None:
        self._protocol = protocol
        self._connection_log.connected()
        self._notify(self._ready)
        reason = "stopped"
        try:
            reason = one_line(await protocol.when_lost())
            self._connection_log.lost(reason)
        finally:
            self._protocol = None
            await self._close(protocol)
            self._notify(self._lost, reason)

    async def _close(self, protocol: RedisProtocol) -> None:
        protocol.transport.loseConnection()
        # The write buffer may never drain when the server hangs.
        overdue = self._reactor.callLater(_CLOSE_TIMEOUT, protocol.transport.abortConnection)
        await protocol.when_lost()
        if overdue.active():
            overdue.cancel()

    def _notify(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        try:
            if callback is not None:
                callback(*arguments)
        except Exception:
            name = self._connection_log.address
            self.log.failure("a callback of the connection to Redis at {address} failed", address=name)


def _check_place(reply: Any, protocol: RedisProtocol) -> None:
    """Raise an error when the server does not hold our keys; other errors show when the keys are used."""
    if (target := moved_to(reply)) is not None:
        host, port = target
        raise _Elsewhere(host or protocol.transport.getPeer().host, port)
    if str(reply).startswith("CLUSTERDOWN"):
        raise txredisapi.ConnectionError(one_line(reply))


def _refusal(command: Sequence[Argument], text: str, password: str | None) -> str:
    # Some servers repeat the arguments of an unknown command, truncated at any length.
    text = text.partition(", with args")[0]
    if password and password in text:
        text = text.partition(" ")[0]
    return f"{command[0]!s} refused: {text}"
