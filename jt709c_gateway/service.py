"""Builds the gateway's parts from its options. ``twistd`` loads `Options` and `makeService` from here."""

import gc
import secrets
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import txredisapi
from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.commands.profiles import ProfileError, ProfileRegistry, load_profiles
from jt709c_gateway.commands.record import Limits as CommandLimits
from jt709c_gateway.commands.signing import SigningKeys
from jt709c_gateway.config.options import Options
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.config.values import ADMIT_FILE, ADMIT_REDIS, SENTENCE_SERIAL
from jt709c_gateway.gateway.admission import Admission, FileAdmission, SetAdmission
from jt709c_gateway.gateway.background_tasks import BackgroundTasks
from jt709c_gateway.gateway.clock_sync import ClockSync
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.identity_queries import IdentityPoller
from jt709c_gateway.gateway.data_loss import DataLossDetector
from jt709c_gateway.gateway.event_budget import share_of
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.fleet_stats import FleetStats
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.metrics import CommitMetrics, GatewayCollector
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.gateway.rights_check import RightsCheck
from jt709c_gateway.protocol.zones import Utc8Devices
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.address import RedisAddress, parse_redis_address
from jt709c_gateway.redis.allowlist import RedisAllowlist
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.committer import Committer, Limits
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.embedded.server import EmbeddedServer
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.startup import (
    StartError,
    embedded_server,
    redis_connector,
    reply_timeout,
    start_embedded,
    stop_for,
    tcp_descriptions,
)
from jt709c_gateway.transport.backlog import listening_endpoint, warn_of_limit
from jt709c_gateway.transport.listeners import Inherited, ListenError, TcpService, UdpService, address_text
from jt709c_gateway.transport.proxy_protocol import split_proxied
from jt709c_gateway.transport.tcp import LockFactory, ProxiedLockFactory
from jt709c_gateway.transport.udp import LockDatagrams
from jt709c_gateway.util.clock import count_monotonic
from jt709c_gateway.util.file_descriptors import room_for_connections
from jt709c_gateway.util.signals import Signals
from jt709c_gateway.web.service import WebService
from jt709c_gateway.workers.supervisor import Supervisor

__all__ = ["GatewayService", "Options", "StartError", "makeService"]

#: Reply timeout of the connection for BLMOVE, in seconds: longer than BLMOVE itself waits.
_BLOCKING_TIMEOUT: Final = 20.0
_DRAIN_CHECK: Final = 0.02


class _NoConnection:
    """Placeholder until Redis's address is known."""

    connected = False

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        """Fail with ConnectionError."""
        return defer.fail(txredisapi.ConnectionError("the address of Redis is not known yet"))

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> "defer.Deferred[list[Any]]":
        """Fail with ConnectionError."""
        return self.call()


class GatewayService(MultiService):
    """The whole daemon: builds its parts, and starts and stops them in sequence."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        profiles: ProfileRegistry,
        inherited: Sequence[Inherited] | None = None,
    ) -> None:
        """With `inherited`, the sockets of a worker, no port is bound."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._settings = settings
        self._inherited = inherited
        self._stopping = False
        keys = Keys(settings.prefix)
        self.allowed = RedisAllowlist(_NoConnection(), keys)
        self.registry = CollectorRegistry()
        self.redis_time = RedisTime(reactor)
        self.committer = Committer(
            reactor,
            _NoConnection(),
            keys,
            settings.gateway,
            secrets.token_hex(8),
            Limits(
                events=settings.events_max,
                history=settings.history_max,
                malformed=settings.malformed_max,
                devices=settings.devices_max,
                max_age_ms=int(settings.events_max_age * 1000),
                track=settings.track_max,
                histories=settings.histories_max,
            ),
            settings.max_unacked,
            commit_window=settings.commit_window,
            durability=settings.durability,
            observed=CommitMetrics(self.registry).observe,
            now=self.redis_time.seconds,
        )
        self.gateway = Gateway(
            settings.gateway,
            reactor,
            self.committer,
            EventIds(settings.gateway, self.redis_time.seconds),
            Policy(
                idle_timeout=settings.idle_timeout,
                first_frame_timeout=settings.first_frame_timeout,
                max_malformed=settings.max_malformed,
                max_sessions=settings.max_sessions,
                devices_per_connection=settings.devices_per_connection,
                sessions_per_address=settings.sessions_per_address,
                max_rate=settings.max_rate,
                max_share=share_of(settings.events_max, settings.max_share),
                utc8=Utc8Devices(settings.utc8),
                max_new_devices=settings.max_new_devices,
                sentence_serial=settings.sublock_answer == SENTENCE_SERIAL,
            ),
            self._make_admission(),
            wall=self.redis_time.utc,
        )
        self.store = CommandStore(_NoConnection(), keys, settings.gateway)
        commands = CommandContext(
            self.gateway,
            self.store,
            profiles,
            CommandLimits(confirm_timeout=settings.confirm_timeout),
            settings.udp_window,
            settings.static_password,
            CommandAuthorizer(SigningKeys(settings.command_keys, settings.command_window)),
            udp_commands=settings.udp_commands,
        )
        self.dispatcher = CommandDispatcher(commands)
        asking = IdentityPoller(self.dispatcher, settings.ask)
        self.background_tasks = BackgroundTasks(
            reactor, self.gateway, self.dispatcher, keys, settings.gateway_ttl, asking
        )
        self.background_tasks.superseded = self._superseded
        self.background_tasks.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.fleet_stats = FleetStats(reactor, commands)
        self.fleet_stats.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.gateway.rate_limiter.new_device_limiter.store = self.store
        self.committer.drained = self.gateway.resume_paused
        self.redis_time.stepped = self.dispatcher.clock_set
        self._clock_sync = ClockSync(reactor, self.redis_time, _NoConnection(), settings.gateway_ttl / 3)
        self._clock_sync.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.data_loss = DataLossDetector(reactor, self.dispatcher)
        self.data_loss.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.registry.register(
            GatewayCollector(
                self.gateway,
                self._redis_up,
                lambda: self.fleet_stats.fleet,
                lambda: self.redis_time.skew,
                lambda: len(self.rights.missing),
            )
        )
        self.rights = RightsCheck(
            reactor, self.committer.keys, _NoConnection(), settings.admit == ADMIT_REDIS
        )
        self.rights.setServiceParent(self)  # type: ignore[no-untyped-call]
        self._embedded: EmbeddedServer | None = None
        self._connections: list[RedisConnection] = []
        self._web: WebService | None = None
        self._web_port: TcpService | None = None
        self.listeners = self._make_listeners(profiles)

    def _make_admission(self) -> Admission:
        if self._settings.admit == ADMIT_FILE:
            assert self._settings.devices is not None
            return FileAdmission(self._settings.devices)
        return SetAdmission(self.allowed) if self._settings.admit == ADMIT_REDIS else Admission()

    def _make_listeners(self, profiles: ProfileRegistry) -> list[TcpService | UdpService]:
        settings = self._settings
        listeners: list[TcpService | UdpService] = []
        factory = LockFactory(self.gateway, settings.max_connections, settings.max_connections_per_address)
        self._factory = factory
        if self._inherited is not None:
            return [self._adopt(one, factory) for one in self._inherited]
        for description in () if settings.no_tcp else settings.listen:
            plain, proxied = split_proxied(description)
            endpoint = listening_endpoint(self._reactor, plain)
            connected = ProxiedLockFactory(factory) if proxied else factory
            listeners.append(TcpService(endpoint, connected, description))
        for port in () if settings.no_udp else settings.udp:
            datagrams = LockDatagrams(self.gateway, settings.max_sessions)
            listeners.append(UdpService(self._reactor, port.port, port.interface, datagrams))
        if settings.http:
            self._web = WebService(self._reactor, settings, profiles, self.redis_time)
            self._web.setServiceParent(self)  # type: ignore[no-untyped-call]
            self._web_port = self._web.port(self.registry, self.readiness)
            listeners.append(self._web_port)
        return listeners

    def _lock_listeners(self) -> list[TcpService | UdpService]:
        return [listener for listener in self.listeners if listener is not self._web_port]

    def _adopt(self, inherited: Inherited, factory: LockFactory) -> TcpService | UdpService:
        if inherited.kind == socket.SOCK_STREAM:
            connected = ProxiedLockFactory(factory) if inherited.proxied else factory
            return inherited.stream_service(self._reactor, connected)
        datagrams = LockDatagrams(self.gateway, self._settings.max_sessions)
        return inherited.datagram_service(self._reactor, datagrams)

    def _redis_up(self) -> bool:
        return bool(self._connections) and all(one.connected for one in self._connections)

    def readiness(self) -> dict[str, Any]:
        """Whether devices can be served, with the single checks, and whether this host's clock is right."""
        checks = {
            "redis": self._redis_up(),
            "listeners": all(one.port is not None for one in self.listeners),
        }
        skew = self.redis_time.skew
        clock = {} if skew is None else {"clock": self.redis_time.is_right, "clock_offset_s": round(skew, 1)}
        lacking = {"rights": False, "rights_missing": self.rights.missing} if self.rights.missing else {}
        return {"ready": all(checks.values()) and not lacking, **checks, **lacking, **clock}

    def privilegedStartService(self) -> None:
        """Bind every port while privileges last; raises StartError when one can't be bound."""
        super().privilegedStartService()  # type: ignore[no-untyped-call]
        try:
            for listener in self.listeners:
                listener.privilegedStartService()
        except ListenError as error:
            raise StartError(error) from None
        if self._inherited is not None:
            return
        for listener in self._lock_listeners():
            self.log.info("listening for locks on {address}", address=address_text(listener.port.getHost()))
        warn_of_limit(tcp_descriptions(self._settings))
        if self._web is not None:
            self._web.log_url()
            self._web.warn_of_plain_text()

    def startService(self) -> None:
        """Start everything; raises StartError when the embedded server can't be started."""
        super().startService()  # type: ignore[no-untyped-call]
        self._factory.max_connections = room_for_connections(self._settings.max_connections)
        for listener in self.listeners:
            listener.startService()
        address = parse_redis_address(self._settings.redis)
        if isinstance(address, RedisAddress):
            self._connect(address)
        else:
            self._embedded = embedded_server(self._reactor, self._settings, address)
            start_embedded(self._reactor, self._embedded, self._connect)
        # Loaded objects are permanent. If each full collection scanned them, it would delay devices by some
        # 40 ms.
        gc.collect()
        gc.freeze()

    def _connect(self, address: RedisAddress) -> None:
        if self._stopping:
            return
        settings = self._settings
        way = redis_connector(self._reactor, settings, address, embedded=self._embedded is not None)
        if self._web is not None:
            self._web.use(way)
        make = partial(way.connection, probe=self.committer.keys.imei)
        usable = partial(make, prepare=self._prepare)
        blocking = make(reply_timeout=_BLOCKING_TIMEOUT)
        checked = partial(make, prepare=self._prepare_synced) if settings.durability.fsync else usable
        timeout, durability = reply_timeout(settings), settings.durability
        if durability.waits:
            # A commit that waits for durability blocks its connection.
            dispatcher = usable(reply_timeout=timeout, ready=self._commands_ready)
            timeout += durability.timeout
            commits = checked(reply_timeout=timeout, ready=self.committer.resume)
            self._connections = [commits, dispatcher, blocking]
        else:
            commits = dispatcher = usable(reply_timeout=timeout, ready=self._redis_ready)
            self._connections = [commits, blocking]
        self.committer.connection = commits
        self.store.caller = self.allowed.caller = self._clock_sync.caller = self.rights.caller = dispatcher
        for one in self._connections:
            one.setServiceParent(self)  # type: ignore[no-untyped-call]
        self.background_tasks.start(blocking)

    async def _prepare(self, protocol: RedisProtocol) -> None:
        """Measure Redis's clock, load the scripts and check the rights before a connection is used."""
        # The next rights check reports a missing right.
        with suppress(txredisapi.ResponseError):
            await self.redis_time.measure(protocol)
        await scripts.load(protocol)
        await self.rights.examine(protocol)

    async def _prepare_synced(self, protocol: RedisProtocol) -> None:
        await self._prepare(protocol)
        await _check_sync(protocol)

    def _superseded(self) -> None:
        name = self._settings.gateway
        stop_for(self._reactor, f"a process that was started later as gateway {name} goes on in its place")

    def reread(self) -> None:
        """Read changed files again now, as SIGHUP asks for."""
        self.gateway.rate_limiter.admission.reread()
        defer.ensureDeferred(self.gateway.rate_limiter.review()).addErrback(
            lambda failure: self.log.failure("reviewing which locks are admitted failed", failure)
        )
        if self._web is not None:
            self._web.reread()

    def _redis_ready(self) -> None:
        self.committer.resume()
        self._commands_ready()

    def _commands_ready(self) -> None:
        self.background_tasks.on_redis_ready()
        self.fleet_stats.on_redis_ready()
        self.data_loss.check()

    async def _drain(self) -> None:
        """Stop intake, finish pending commands and deregister, within --shutdown-timeout."""
        self.background_tasks.stop_intake()
        # Datagrams are still received: a device has no other way to answer its command over UDP.
        await self._stop_listening(TcpService)
        limit = self._reactor.seconds() + self._settings.shutdown_timeout
        if self._redis_up():
            await self._until(lambda: self.background_tasks.is_drained, limit)
            # From here on no frame is accepted, so that all accepted ones can be committed and answered.
            self.gateway.draining = True
            await self._until(lambda: not self.committer.unacked, limit)
        self.gateway.close_connections()
        await self._stop_listening(UdpService)
        await self._until(lambda: not self.gateway.time_slicer.running, limit)
        if self._redis_up():
            await self._until(lambda: not self.committer.unacked, limit)
        if self.committer.unacked:
            self.log.warn(
                "{count} records were not committed; their locks will send again",
                count=self.committer.unacked,
            )
        elif self._redis_up():
            await self.background_tasks.deregister()

    async def _stop_listening(self, kind: type[TcpService | UdpService]) -> None:
        chosen = [listener for listener in self.listeners if isinstance(listener, kind)]
        await defer.DeferredList([listener.stopService() for listener in chosen])

    async def _until(self, done: Any, limit: float) -> None:
        while not done() and self._reactor.seconds() < limit:
            await task.deferLater(self._reactor, _DRAIN_CHECK, lambda: None)

    async def _stop(self) -> None:
        try:
            await self._drain()
        except Exception:
            self.log.failure("graceful shutdown failed")
        await defer.maybeDeferred(super().stopService)
        if self._embedded is not None:
            await self._embedded.stopService()

    def stopService(self) -> "defer.Deferred[None]":
        """Stop listeners, devices, commands, connections and last the embedded server."""
        self._stopping = True
        return defer.Deferred.fromCoroutine(self._stop())


async def _check_sync(protocol: RedisProtocol) -> None:
    """Warn of a server configuration in which WAITAOF may reply too early.

    That happens with everysec in Redis 7.4 and in Valkey up to 9.1 at least (redis/redis#13793).
    """
    try:
        _, policy = await protocol.call("CONFIG", "GET", "appendfsync")
    except (txredisapi.ResponseError, ValueError):
        # The user may lack the right, or the server the option.
        return
    if policy == b"everysec":
        GatewayService.log.warn(
            "Redis has appendfsync everysec, with which some versions call synced what is not yet; "
            "--durability fsync can be relied on with always"
        )


def makeService(options: Options) -> GatewayService | Supervisor:
    """The service that ``twistd jt709c-gateway`` runs; raises StartError for invalid settings."""
    from twisted.internet import reactor

    count_monotonic(reactor)
    settings = options.settings
    directory: Path | None = settings.profiles
    try:
        profiles = load_profiles(directory, allow_raw=settings.allow_raw)
    except ProfileError as error:
        raise StartError(error) from None
    kind = Supervisor if settings.workers > 1 else GatewayService
    service: Supervisor | GatewayService = kind(reactor, settings, profiles)
    Signals(reactor, service.reread).setServiceParent(service)  # type: ignore[no-untyped-call]
    return service
