"""One long-lived connection to Redis that comes back by itself."""

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
from jt709c_gateway.redis.cluster import ClusterEndpoint, moved_to

_REASONS_LOGGED = 8
_STEADY = 5.0
_CLOSE_TIMEOUT = 2.0
#: Nodes of a cluster that one attempt may be sent on to: one knows where a slot is, unless it moves just now.
_MAX_REDIRECTS = 3
#: What a server answers that has handed our slot on, and one that others have taken the place of.
_MOVED = ("MOVED ",)
_FAILED_OVER = ("MOVED ", "READONLY ", "UNBLOCKED ")


class _Elsewhere(txredisapi.ConnectionError):  # type: ignore[misc]
    """Another node of the cluster has our keys."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"another node of this Redis Cluster has our keys, {host}:{port}; use redis+cluster://"
        )
        self.host, self.port = host, port


def retry_delay(attempt: int) -> float:
    """Seconds to wait after `attempt` attempts in a row that came to nothing: 0.1 s growing to 5 s, ±25 %."""
    return min(5.0, 0.1 * 1.5 ** min(attempt - 1, 20)) * (0.75 + random() / 2)


class RedisConnection(Service):
    """Keeps a connection to Redis, made usable (AUTH, SELECT, PING, `prepare`) before anyone gets it.

    `endpoint` is what `client_endpoint(address, …)` gives. All times are in seconds:

    - `reply_timeout`: a request that waits longer aborts the connection, since a server that hangs looks
      like one that is busy. None for a connection that blocks (BLMOVE, XREAD BLOCK).
    - `handshake_timeout`: from the transport being there to the connection being usable.
    - `password`: asked for the password on every new connection, instead of `address.password`; what it
      raises makes the attempt fail.
    - `retry_delay`: given the number of failed attempts in a row, how long to wait for the next.

    `prepare(protocol)` is awaited on every new connection before it is announced (load scripts, subscribe);
    when it fails, the connection is dropped and the attempt counts as failed. `ready()` is called each time
    the connection has become usable, `lost(reason)` each time a usable one is gone, after its requests have
    failed. Both run in the reactor; what they raise is logged.

    `probe` is one of our keys, a hash. A node of a cluster that hasn't got its slot is not used: a
    `ClusterEndpoint` is sent on to the one that has, with others that is a failed attempt.

    There is no ClientService in here: it raises out of `connectionLost` when a connection ends while
    `prepareConnection` is under way, and it logs every attempt.
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
    ) -> None:
        self.address = address
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
        self._reasons: set[str] = set()

    @property
    def connected(self) -> bool:
        """Whether a usable connection is there."""
        return self._protocol is not None and bool(self._protocol.connected)

    def call(self, *arguments: Argument) -> "defer.Deferred[Any]":
        """Send one command; the reply as in `RedisProtocol.call`.

        Fails with txredisapi.ResponseError for an error reply, and with txredisapi.ConnectionError when
        there is no connection or it ends first (its subclass TimeoutError: the reply took too long). In the
        last two cases the server may have carried the command out.
        """
        if self._protocol is None:
            return defer.fail(txredisapi.ConnectionError("not connected to Redis"))
        return self._protocol.call(*arguments)

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write; one result for each, errors as exception instances.

        Fails with txredisapi.ConnectionError only when there is no connection to begin with.
        """
        if self._protocol is None:
            return defer.fail(txredisapi.ConnectionError("not connected to Redis"))
        return self._protocol.pipeline(commands)

    def startService(self) -> None:
        """Start connecting; `ready` tells when there is a connection."""
        if self._loop is not None:
            return
        super().startService()  # type: ignore[no-untyped-call]
        self._loop = defer.Deferred.fromCoroutine(self._stay_connected())
        self._loop.addErrback(self._loop_ended)

    def stopService(self) -> "defer.Deferred[None]":
        """Close the connection, or give up the attempt under way.

        Outstanding requests fail. The Deferred fires when the connection is closed.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        loop, self._loop = self._loop, None
        if loop is None:
            return defer.succeed(None)
        stopped: defer.Deferred[None] = defer.Deferred()
        loop.addBoth(lambda _: stopped.callback(None))
        # Not at once: `ready` and `lost` run inside the loop, and one that stops us would cancel what isn't
        # waiting.
        self._reactor.callLater(0, loop.cancel)
        return stopped

    def _loop_ended(self, failure: Any) -> None:
        if not failure.check(defer.CancelledError):
            self.log.failure("the connection to Redis at {address} was given up", failure, address=self._name)

    @property
    def _name(self) -> str:
        return self.address.masked()

    async def _stay_connected(self) -> None:
        attempts = 0
        while True:
            try:
                protocol = await self._connect()
            except defer.CancelledError:
                raise
            except Exception as error:
                self._attempt_failed(one_line(error))
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
        # PING also tells a server that is still loading its data from one that can be used.
        commands.append(("PING",))
        if address.sentinels:
            commands.append(("ROLE",))
        if self._probe is not None:
            commands.append(("HGET", self._probe, ""))
        replies = await protocol.pipeline(commands)
        if self._probe is not None:
            self._check_place(replies.pop(), protocol)
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
            raise txredisapi.ConnectionError("the sentinels name a server that is no master (yet)")

    @staticmethod
    def _check_place(reply: Any, protocol: RedisProtocol) -> None:
        """Whether the keys are here; what else may be wrong is for those to say who use them."""
        if (target := moved_to(reply)) is not None:
            host, port = target
            raise _Elsewhere(host or protocol.transport.getPeer().host, port)
        if str(reply).startswith("CLUSTERDOWN"):
            raise txredisapi.ConnectionError(one_line(reply))

    async def _use(self, protocol: RedisProtocol) -> None:
        self._protocol = protocol
        self._reasons.clear()
        self.log.info("connected to Redis at {address}", address=self._name)
        self._notify(self._ready)
        reason = "stopped"
        try:
            reason = one_line(await protocol.when_lost())
            self.log.warn(
                "lost Redis at {address}: {reason}; trying again", address=self._name, reason=reason
            )
        finally:
            self._protocol = None
            await self._close(protocol)
            self._notify(self._lost, reason)

    async def _close(self, protocol: RedisProtocol) -> None:
        protocol.transport.loseConnection()
        # What was written may never drain when the server hangs.
        overdue = self._reactor.callLater(_CLOSE_TIMEOUT, protocol.transport.abortConnection)
        await protocol.when_lost()
        if overdue.active():
            overdue.cancel()

    def _attempt_failed(self, reason: str) -> None:
        # Each reason once per outage: a refused connection that turns into a refused password is worth a
        # line, the hundredth attempt is not.
        if reason not in self._reasons and len(self._reasons) < _REASONS_LOGGED:
            self._reasons.add(reason)
            self.log.warn(
                "cannot connect to Redis at {address}: {reason}; trying again",
                address=self._name,
                reason=reason,
            )

    def _notify(self, callback: Callable[..., object] | None, *arguments: object) -> None:
        if callback is None:
            return
        try:
            callback(*arguments)
        except Exception:
            self.log.failure("a callback of the connection to Redis at {address} failed", address=self._name)


def _refusal(command: Sequence[Argument], text: str, password: str | None) -> str:
    # Some servers repeat the arguments of a command they don't know, cut at any length.
    text = text.partition(", with args")[0]
    if password and password in text:
        text = text.partition(" ")[0]
    return f"{command[0]!s} refused: {text}"
