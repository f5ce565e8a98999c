"""Wiring: from options to a running gateway. ``twistd`` looks here for `Options` and `makeService`."""

import secrets
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, Final

import txredisapi
from attrs import evolve
from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.internet import defer, task
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from jt709c_gateway.commands.order_keys import OrderKeys
from jt709c_gateway.commands.profiles import ProfileError, ProfileSet, load_profiles
from jt709c_gateway.commands.record import Limits as OrderLimits
from jt709c_gateway.gateway.asking import Asking
from jt709c_gateway.gateway.authority import Authority
from jt709c_gateway.gateway.core import Gateway, Policy
from jt709c_gateway.gateway.duties import Duties
from jt709c_gateway.gateway.ids import EventIds
from jt709c_gateway.gateway.orders import Orders
from jt709c_gateway.options import Options
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.address import (
    EmbeddedAddress,
    RedisAddress,
    client_endpoint,
    parse_redis_address,
)
from jt709c_gateway.redis.committer import SCRIPT, Committer, Limits
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.embedded import EmbeddedServer, EmbeddedServerError
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.orders import OrderStore
from jt709c_gateway.redis.protocol import RedisProtocol
from jt709c_gateway.transport.listen import ListenError, TcpService, UdpService
from jt709c_gateway.transport.tcp import LockFactory
from jt709c_gateway.transport.udp import LockDatagrams
from jt709c_gateway.web.metrics import CommitMetrics, GatewayCollector
from jt709c_gateway.web.site import make_site

__all__ = ["GatewayService", "Options", "StartError", "makeService"]

#: Seconds that the connection for BLMOVE waits for a reply: the command's own five, and some.
_BLOCKING_TIMEOUT: Final = 20.0
_DRAIN_CHECK: Final = 0.02


class StartError(SystemExit, Exception):
    """The gateway can't start: one line for the operator, and no traceback.

    An Exception as well, so that twistd in the background tells its parent and removes its pid file.
    """

    def __init__(self, message: object) -> None:
        super().__init__(f"jt709c-gateway: {message}")
        # Once twistd has begun its log, stderr leads there.
        if sys.__stderr__ is not None and sys.stderr is not sys.__stderr__:
            sys.__stderr__.write(f"{self}\n")


class _NoConnection:
    """Stands in until Redis's address is known."""

    connected = False

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Fail as a connection does that isn't there."""
        return defer.fail(txredisapi.ConnectionError("the address of Redis is not known yet"))


class GatewayService(MultiService):
    """The whole daemon. Started and stopped as one, in an order that keeps its promises."""

    log = Logger()

    def __init__(self, reactor: Any, settings: dict[str, Any], profiles: ProfileSet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._settings = settings
        self._stopping = False
        keys = Keys(settings["prefix"])
        self.registry = CollectorRegistry()
        self.committer = Committer(
            reactor,
            _NoConnection(),
            keys,
            settings["gateway"],
            secrets.token_hex(8),
            Limits(
                events=settings["events_max"],
                history=settings["history_max"],
                malformed=settings["malformed_max"],
                devices=settings["devices_max"],
                max_age_ms=int(settings["events_max_age"] * 1000),
            ),
            settings["max_unacked"],
            observed=CommitMetrics(self.registry).observe,
        )
        self.gateway = Gateway(
            settings["gateway"],
            reactor,
            self.committer,
            EventIds(settings["gateway"], time.time),
            Policy(
                idle_timeout=settings["idle_timeout"],
                first_frame_timeout=settings["first_frame_timeout"],
                max_malformed=settings["max_malformed"],
                max_sessions=settings["max_sessions"],
            ),
        )
        self.store = OrderStore(_NoConnection(), keys, settings["gateway"])
        self.orders = Orders(
            self.gateway,
            self.store,
            profiles,
            OrderLimits(confirm_timeout=settings["confirm_timeout"]),
            settings["udp_window"],
            settings["static_password"],
            Authority(OrderKeys(settings["order_keys"], settings["order_window"])),
        )
        asking = Asking(self.orders, settings["ask"])
        self.duties = Duties(reactor, self.gateway, self.orders, keys, settings["gateway_ttl"], asking)
        self.duties.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.registry.register(GatewayCollector(self.gateway, self._redis_up))
        self._embedded: EmbeddedServer | None = None
        self._connections: list[RedisConnection] = []
        self.listeners = self._make_listeners()

    def _make_listeners(self) -> list[TcpService | UdpService]:
        settings = self._settings
        listeners: list[TcpService | UdpService] = []
        factory = LockFactory(
            self.gateway, settings["max_connections"], settings["max_connections_per_address"]
        )
        for description in () if settings["no_tcp"] else settings["listen"]:
            endpoint = serverFromString(self._reactor, description)  # type: ignore[no-untyped-call]
            listeners.append(TcpService(endpoint, factory, description))
        for port in () if settings["no_udp"] else settings["udp"]:
            datagrams = LockDatagrams(self.gateway, settings["max_sessions"])
            listeners.append(UdpService(self._reactor, port.port, port.interface, datagrams))
        if settings["http"]:
            site = make_site(self.registry, self._readiness)
            endpoint = serverFromString(self._reactor, settings["http"])  # type: ignore[no-untyped-call]
            listeners.append(TcpService(endpoint, site, settings["http"]))
        return listeners

    def _redis_up(self) -> bool:
        return bool(self._connections) and all(one.connected for one in self._connections)

    def _readiness(self) -> dict[str, bool]:
        return {"redis": self._redis_up(), "listeners": all(one.port is not None for one in self.listeners)}

    def privilegedStartService(self) -> None:
        """Bind every port, while there may still be the right to; StartError when one can't be had."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            for listener in self.listeners:
                listener.privilegedStartService()
        except ListenError as error:
            raise StartError(error) from None
        for listener in self.listeners:
            self.log.info("listening on {address}", address=listener.port.getHost())

    def startService(self) -> None:
        """Start everything; StartError when the embedded server can't be started at once."""
        super().startService()  # type: ignore[no-untyped-call]
        for listener in self.listeners:
            listener.startService()
        address = parse_redis_address(self._settings["redis"])
        if isinstance(address, RedisAddress):
            self._connect(address)
            return
        failed: list[Any] = []
        self._start_embedded(address).addCallbacks(self._connect, failed.append)
        if failed and failed[0].check(EmbeddedServerError):
            raise StartError(failed[0].getErrorMessage())

    def _start_embedded(self, address: EmbeddedAddress) -> "defer.Deferred[RedisAddress]":
        self._embedded = EmbeddedServer(self._reactor, self._settings["data_dir"], address.port)
        starting = self._embedded.start()
        if not starting.called:
            # Past this call nobody is there to raise to.
            starting.addErrback(self._embedded_failed)
        return starting

    def _embedded_failed(self, failure: Any) -> Any:
        if not failure.check(defer.CancelledError):
            self.log.critical("stopping: {reason}", reason=failure.getErrorMessage())
            self._reactor.callLater(0, self._reactor.stop)
        return failure

    def _connect(self, address: RedisAddress) -> None:
        if self._stopping:
            return
        settings = self._settings
        if settings["redis_password"] is not None and self._embedded is None:
            address = evolve(address, password=settings["redis_password"])
        files = [
            None if settings[name] is None else str(settings[name])
            for name in ("redis_ca", "redis_cert", "redis_key")
        ]
        try:
            connect = partial(client_endpoint, address, self._reactor, *files)
            connection = RedisConnection(
                self._reactor,
                address,
                connect(),
                reply_timeout=settings["redis_timeout"],
                prepare=_load_scripts,
                ready=self._redis_ready,
            )
            blocking = RedisConnection(self._reactor, address, connect(), reply_timeout=_BLOCKING_TIMEOUT)
        except ValueError as error:
            raise StartError(error) from None
        self._connections = [connection, blocking]
        self.committer.connection = connection
        self.store.caller = connection
        for one in self._connections:
            one.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.duties.begin(blocking)

    def _redis_ready(self) -> None:
        self.committer.resume()
        self.duties.wake()

    async def _leave(self) -> None:
        """Take nothing more, settle what is under way, say goodbye; bounded by --shutdown-timeout."""
        self.duties.stop_taking()
        # Datagrams go on being heard: a lock that answers its order over UDP has no other way.
        await self._stop_listening(TcpService)
        limit = self._reactor.seconds() + self._settings["shutdown_timeout"]
        if self._redis_up():
            await self._until(lambda: not self.orders.under_way, limit)
            # From here on nothing is taken, so that what was taken can all be committed and answered.
            self.gateway.draining = True
            await self._until(lambda: not self.committer.unacked, limit)
        self.gateway.shut_down()
        await self._stop_listening(UdpService)
        if self._redis_up():
            await self._until(lambda: not self.committer.unacked, limit)
        if self.committer.unacked:
            self.log.warn(
                "{count} records were not committed; their locks will send again",
                count=self.committer.unacked,
            )
        elif self._redis_up():
            await self.duties.leave()

    async def _stop_listening(self, kind: type[TcpService | UdpService]) -> None:
        chosen = [listener for listener in self.listeners if isinstance(listener, kind)]
        await defer.DeferredList([listener.stopService() for listener in chosen])

    async def _until(self, done: Any, limit: float) -> None:
        while not done() and self._reactor.seconds() < limit:
            await task.deferLater(self._reactor, _DRAIN_CHECK, lambda: None)

    async def _stop(self) -> None:
        try:
            await self._leave()
        except Exception:
            self.log.failure("leaving in good order failed")
        await defer.maybeDeferred(super().stopService)
        if self._embedded is not None:
            await self._embedded.stopService()

    def stopService(self) -> "defer.Deferred[None]":
        """Stop in order: listeners, locks, orders, connections, and last the embedded server."""
        self._stopping = True
        return defer.Deferred.fromCoroutine(self._stop())


async def _load_scripts(protocol: RedisProtocol) -> None:
    """A connection is of use only to a server that knows the scripts."""
    await protocol.call("SCRIPT", "LOAD", SCRIPT)
    await scripts.load(protocol)


def makeService(options: Options) -> GatewayService:
    """What ``twistd jt709c-gateway`` runs; StartError for what can be known to be wrong before the start."""
    from twisted.internet import reactor

    settings = options.settings
    directory: Path | None = settings["profiles"]
    try:
        profiles = load_profiles(directory, allow_raw=settings["allow_raw"])
    except ProfileError as error:
        raise StartError(error) from None
    return GatewayService(reactor, settings, profiles)
