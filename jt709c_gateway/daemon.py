"""The daemon: builds all parts of a gateway in one phase, connects them, and starts and stops them.

What is built later gets what was built before. `connect` has the calls in the other direction.
"""

import gc
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.commands.record import Limits as CommandLimits
from jt709c_gateway.commands.signing import SigningKeys
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
from jt709c_gateway.lock_ports import inherited_listener, lock_listeners
from jt709c_gateway.protocol.zones import Utc8Devices
from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, parse_redis_address
from jt709c_gateway.redis.allowlist import RedisAllowlist
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.committer import Committer, Limits
from jt709c_gateway.redis.gateway_connections import GatewayConnections
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.startup import (
    cannot_listen,
    embedded_server,
    redis_connector,
    reply_timeout,
    start_embedded,
    stop_for,
    tcp_descriptions,
)
from jt709c_gateway.transport.backlog import warn_of_limit
from jt709c_gateway.transport.gathered_reads import GatheredReads
from jt709c_gateway.transport.listeners import Inherited, ListenError, TcpService, UdpService, address_text
from jt709c_gateway.transport.tcp import LockFactory
from jt709c_gateway.util.file_descriptors import room_for_connections
from jt709c_gateway.web.service import WebService

#: Seconds between looks whether a shutdown may go on.
_DRAIN_CHECK: Final = 0.02


def connect(
    gateway: Gateway, dispatcher: CommandDispatcher, poller: IdentityPoller, tasks: BackgroundTasks
) -> None:
    """Let each part call those that were built after it."""
    gateway.committer.drained = gateway.resume_paused
    gateway.callbacks.online = dispatcher.attach
    gateway.callbacks.offline = dispatcher.detach
    gateway.callbacks.named = dispatcher.dispatch
    gateway.callbacks.reported = poller.enqueue
    claims = dispatcher.context.claims
    claims.leased, claims.renew = tasks.membership.is_leased, tasks.membership.renew


def _limits(settings: Settings) -> Limits:
    return Limits(
        events=settings.events_max,
        history=settings.history_max,
        malformed=settings.malformed_max,
        devices=settings.devices_max,
        max_age_ms=int(settings.events_max_age * 1000),
        track=settings.track_max,
        histories=settings.histories_max,
    )


def _policy(settings: Settings) -> Policy:
    return Policy(
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
        moment_length=0.001,
        sentence_serial=settings.sublock_answer == SENTENCE_SERIAL,
    )


def _admission(settings: Settings, caller: Caller, keys: Keys) -> Admission:
    if settings.admit == ADMIT_FILE:
        assert settings.devices is not None
        return FileAdmission(settings.devices)
    return SetAdmission(RedisAllowlist(caller, keys)) if settings.admit == ADMIT_REDIS else Admission()


def _commands(
    settings: Settings, profiles: ProfileRegistry, gateway: Gateway, store: CommandStore
) -> CommandContext:
    return CommandContext(
        gateway,
        store,
        profiles,
        CommandLimits(confirm_timeout=settings.confirm_timeout),
        settings.udp_window,
        settings.static_password,
        CommandAuthorizer(SigningKeys(settings.command_keys, settings.command_window)),
        udp_commands=settings.udp_commands,
    )


class GatewayService(MultiService):
    """A whole gateway, as twistd or a supervisor runs it."""

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
        self._binds = inherited is None
        self._stopping = False
        self.registry = CollectorRegistry()
        self._build_redis(Keys(settings.prefix))
        self._build_gateway(profiles)
        self._build_listeners(profiles, inherited)
        connect(self.gateway, self.dispatcher, self._poller, self.background_tasks)
        self.redis_time.stepped = self.dispatcher.clock_set
        self.background_tasks.superseded = self._superseded
        # Children are stopped in reverse: the connections to Redis last.
        for part in (
            self.redis,
            self.background_tasks,
            self.fleet_stats,
            self._clock_sync,
            self.data_loss,
            self.rights,
            self._web,
        ):
            if part is not None:
                part.setServiceParent(self)  # type: ignore[no-untyped-call]

    # Building, from Redis to the ports

    def _build_redis(self, keys: Keys) -> None:
        reactor, settings = self._reactor, self._settings
        address = parse_redis_address(settings.redis)
        #: Either the address of Redis, or the embedded server, which has one when it has started.
        self._address = address if isinstance(address, RedisAddress) else None
        self._embedded = (
            embedded_server(reactor, settings, address) if isinstance(address, EmbeddedAddress) else None
        )
        self.redis_time = RedisTime(reactor)
        self.redis = GatewayConnections(
            settings.durability,
            reply_timeout(settings),
            keys.imei,
            self.redis_time,
            examine=lambda protocol: self.rights.examine(protocol),
            commits_ready=lambda: self.committer.resume(),
            commands_ready=self._commands_ready,
        )
        self._clock_sync = ClockSync(reactor, self.redis_time, self.redis.commands, settings.gateway_ttl / 3)
        self.rights = RightsCheck(reactor, keys, self.redis.commands, settings.admit == ADMIT_REDIS)
        self.store = CommandStore(self.redis.commands, keys, settings.gateway)
        self.committer = Committer(
            reactor,
            self.redis.commits,
            keys,
            settings.gateway,
            secrets.token_hex(8),
            _limits(settings),
            settings.max_unacked,
            durability=settings.durability,
            observed=CommitMetrics(self.registry).observe,
            now=self.redis_time.seconds,
        )

    def _build_gateway(self, profiles: ProfileRegistry) -> None:
        reactor, settings, keys = self._reactor, self._settings, self.committer.keys
        self.gateway = Gateway(
            settings.gateway,
            reactor,
            self.committer,
            EventIds(settings.gateway, self.redis_time.seconds),
            _policy(settings),
            _admission(settings, self.redis.commands, keys),
            self.redis_time.utc,
            self.store,
        )
        commands = _commands(settings, profiles, self.gateway, self.store)
        self.dispatcher = CommandDispatcher(commands)
        self._poller = IdentityPoller(self.dispatcher, settings.ask)
        self.background_tasks = BackgroundTasks(
            reactor, self.gateway, self.dispatcher, keys, settings.gateway_ttl, self._poller
        )
        self.fleet_stats = FleetStats(reactor, commands)
        self.data_loss = DataLossDetector(reactor, self.dispatcher)
        collector = GatewayCollector(
            self.gateway,
            lambda: self.redis.connected,
            lambda: self.fleet_stats.fleet,
            lambda: self.redis_time.skew,
            lambda: len(self.rights.missing),
        )
        self.registry.register(collector)

    def _build_listeners(self, profiles: ProfileRegistry, inherited: Sequence[Inherited] | None) -> None:
        reactor, settings, gateway = self._reactor, self._settings, self.gateway
        factory = LockFactory(gateway, settings.max_connections, settings.max_connections_per_address)
        self._factory = factory
        reads = GatheredReads(reactor, settings.commit_window, self.committer)
        self._web: WebService | None = None
        self._web_ports: list[TcpService] = []
        if inherited is not None:
            self._lock_ports = [
                inherited_listener(reactor, settings, gateway, factory, reads, one) for one in inherited
            ]
            return
        self._lock_ports = lock_listeners(reactor, settings, gateway, factory, reads)
        if settings.http:
            self._web = WebService(reactor, settings, profiles, self.redis_time)
            self._web_ports.append(self._web.port(self.registry, self.readiness))

    @property
    def listeners(self) -> list[TcpService | UdpService]:
        """All ports: for locks, and for the status page."""
        return [*self._lock_ports, *self._web_ports]

    # Running

    def readiness(self) -> dict[str, Any]:
        """Whether devices can be served, with the single checks, and whether this host's clock is right."""
        checks = {
            "redis": self.redis.connected,
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
            raise cannot_listen(error) from None
        if not self._binds:
            return
        for listener in self._lock_ports:
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
        if self._embedded is not None:
            start_embedded(self._reactor, self._embedded, self._use_redis)
        elif self._address is not None:
            self._use_redis(self._address)
        # Loaded objects are permanent. If each full collection scanned them, it would delay devices by some
        # 40 ms.
        gc.collect()
        gc.freeze()

    def _use_redis(self, address: RedisAddress) -> None:
        if self._stopping:
            return
        embedded = self._embedded is not None
        connector = redis_connector(self._reactor, self._settings, address, embedded=embedded)
        if self._web is not None:
            self._web.use(connector)
        self.redis.use(connector)
        self.background_tasks.start(self.redis.blocking)

    def _commands_ready(self) -> None:
        self.background_tasks.on_redis_ready()
        self.fleet_stats.on_redis_ready()
        self.data_loss.check()

    def reread(self) -> None:
        """Read changed files again now, as SIGHUP asks for."""
        self.gateway.admission.reread()
        defer.ensureDeferred(self.gateway.session_admission.review()).addErrback(
            lambda failure: self.log.failure("admission review failed", failure)
        )
        if self._web is not None:
            self._web.reread()

    # Stopping

    def _superseded(self) -> None:
        name = self._settings.gateway
        stop_for(self._reactor, f"a process that was started later as gateway {name} goes on in its place")

    async def _drain(self) -> None:
        """Stop intake, finish pending commands and deregister, within --shutdown-timeout."""
        self.background_tasks.stop_intake()
        # Datagrams are still received: a device has no other way to answer its command over UDP.
        await self._stop_listening(TcpService)
        limit = self._reactor.seconds() + self._settings.shutdown_timeout
        if self.redis.connected:
            await self._until(lambda: self.background_tasks.is_drained, limit)
            # From here on no frame is accepted, so that all accepted ones can be committed and answered.
            self.gateway.draining = True
            await self._until(lambda: not self.committer.unacked, limit)
        self.gateway.close_connections()
        await self._stop_listening(UdpService)
        await self._until(lambda: not self.gateway.time_slicer.running, limit)
        if self.redis.connected:
            await self._until(lambda: not self.committer.unacked, limit)
        if self.committer.unacked:
            self.log.warn(
                "{count} records were not committed; their locks will send again",
                count=self.committer.unacked,
            )
        elif self.redis.connected:
            await self.background_tasks.deregister()

    async def _stop_listening(self, kind: type[TcpService | UdpService]) -> None:
        chosen = [listener for listener in self.listeners if isinstance(listener, kind)]
        await defer.DeferredList([listener.stopService() for listener in chosen])

    async def _until(self, done: Callable[[], bool], limit: float) -> None:
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
