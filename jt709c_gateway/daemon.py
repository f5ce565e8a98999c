"""The daemon: builds all parts of a gateway in one phase, connects them, and starts and stops them.

What is built later gets what was built before. `connect` has the calls in the other direction.
"""

import gc
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.commands.signing import SigningKeys
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.configured_parts import admission, partition_layout, policy
from jt709c_gateway.gateway.background_tasks import BackgroundTasks
from jt709c_gateway.gateway.clock_sync import ClockSync
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.identity_queries import IdentityPoller
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.imei_index import ImeiIndex
from jt709c_gateway.gateway.maintenance import Maintenance
from jt709c_gateway.gateway.metrics import CommitMetrics, GatewayCollector
from jt709c_gateway.lock_ports import inherited_listener, lock_listeners
from jt709c_gateway.partition import Partition, SharedParts, away, deregister, rights_missing
from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, parse_redis_addresses
from jt709c_gateway.redis.commit_router import CommitRouter
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.redis.fleet_stats import FleetCounts
from jt709c_gateway.redis.partition_check import PartitionCheck
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.redis.scripts import ScriptLoader
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


class ConnectedParts(Protocol):
    """The parts of a partition that call others and are called by them."""

    committer: Committer
    dispatcher: CommandDispatcher
    poller: IdentityPoller
    background_tasks: BackgroundTasks


def connect(gateway: Gateway, partitions: Sequence[ConnectedParts], imeis: ImeiIndex | None = None) -> None:
    """Let each part call those that were built after it; `imeis` is for more than one partition."""
    callbacks = gateway.callbacks

    def parts(device: str) -> ConnectedParts:
        return partitions[0 if imeis is None else imeis.partitions.number(device)]

    def named(device: str) -> None:
        session = gateway.sessions.get(device)
        if imeis is not None and session is not None and session.imei:
            imeis.note(session.imei, device)
        parts(device).dispatcher.dispatch(device)

    callbacks.online = lambda session: parts(session.device).dispatcher.attach(session)
    callbacks.offline = lambda session, reason: parts(session.device).dispatcher.detach(session, reason)
    callbacks.reported = lambda session: parts(session.device).poller.enqueue(session)
    callbacks.named = named
    for one in partitions:
        one.committer.drained = gateway.resume_paused
        claims, membership = one.dispatcher.context.claims, one.background_tasks.membership
        claims.leased, claims.renew = membership.is_leased, membership.renew
        if imeis is not None:
            one.poller.identified = imeis.note


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
        self._build_partitions()
        self._build_gateway(profiles)
        self._build_listeners(profiles, inherited)
        self.redis_time.stepped = self._clock_set
        # Children are stopped in reverse.
        for part in (*self.partitions, self._maintenance, self._clock_sync, self._web):
            if part is not None:
                part.setServiceParent(self)  # type: ignore[no-untyped-call]

    # Building, from Redis to the ports

    def _build_partitions(self) -> None:
        reactor, settings = self._reactor, self._settings
        addresses = parse_redis_addresses(settings.redis)
        #: Either the addresses of Redis, or the embedded server, which has one when it has started.
        self._addresses = [one for one in addresses if isinstance(one, RedisAddress)]
        embedded = [one for one in addresses if isinstance(one, EmbeddedAddress)]
        self._embedded = embedded_server(reactor, settings, embedded[0]) if embedded else None
        self.redis_time = RedisTime(reactor)
        layout = partition_layout(settings)
        shared = SharedParts(
            reactor,
            settings,
            layout,
            self.redis_time,
            secrets.token_hex(8),
            CommitMetrics(self.registry).observe,
            reply_timeout(settings),
            PartitionCheck(reactor, layout),
            ScriptLoader(reactor),
            self._partition_ready,
            partial(stop_for, reactor),
        )
        self.partitions = [Partition(shared, number) for number in range(layout.count)]
        self._queries = PartitionedQueries(layout, [one.store for one in self.partitions], reactor)
        self._clock_sync = ClockSync(
            reactor, self.redis_time, self.partitions[0].redis.commands, settings.gateway_ttl / 3
        )

    def _build_gateway(self, profiles: ProfileRegistry) -> None:
        reactor, settings, layout = self._reactor, self._settings, self._queries.partitions
        committers = [one.committer for one in self.partitions]
        self.gateway = Gateway(
            settings.gateway,
            reactor,
            committers[0] if layout.count == 1 else CommitRouter(layout, committers),
            EventIds(settings.gateway, self.redis_time.seconds),
            policy(settings),
            admission(settings, self.partitions, self._queries),
            self.redis_time.utc,
            self._queries,
        )
        self._maintenance = Maintenance(reactor, self.gateway)
        authorizer = CommandAuthorizer(SigningKeys(settings.command_keys, settings.command_window))
        for one in self.partitions:
            one.build_commands(self.gateway, profiles, authorizer, self._queries, self.partitions)
            one.background_tasks.superseded = self._superseded
        contexts = [one.context for one in self.partitions]
        self._imeis = ImeiIndex(layout, contexts, 2 * settings.devices_max) if layout.count > 1 else None
        connect(self.gateway, self.partitions, self._imeis)
        self.registry.register(
            GatewayCollector(
                self.gateway,
                lambda: self.is_connected,
                lambda: FleetCounts.sum_of([one.fleet_stats.fleet for one in self.partitions]),
                lambda: self.redis_time.skew,
                lambda: len(rights_missing(self.partitions)),
                lambda: away(self.partitions),
            )
        )

    def _build_listeners(self, profiles: ProfileRegistry, inherited: Sequence[Inherited] | None) -> None:
        reactor, settings, gateway = self._reactor, self._settings, self.gateway
        factory = LockFactory(gateway, settings.max_connections, settings.max_connections_per_address)
        self._factory = factory
        reads = GatheredReads.where_possible(reactor, settings.commit_window, gateway.committer)
        self._web: WebService | None = None
        self._web_ports: list[TcpService] = []
        if inherited is not None:
            self._lock_ports = [
                inherited_listener(reactor, settings, gateway, factory, reads, one) for one in inherited
            ]
            return
        self._lock_ports = lock_listeners(reactor, settings, gateway, factory, reads)
        if settings.http:
            self._web = WebService(reactor, settings, self._queries.partitions, profiles, self.redis_time)
            self._web_ports.append(self._web.port(self.registry, self.readiness))

    @property
    def listeners(self) -> list[TcpService | UdpService]:
        """All ports: for locks, and for the status page."""
        return [*self._lock_ports, *self._web_ports]

    @property
    def is_connected(self) -> bool:
        """Whether any partition can be used: its devices are served, whatever becomes of others."""
        return len(away(self.partitions)) < len(self.partitions)

    @property
    def _awaited(self) -> int:
        """Number of records that will be committed soon."""
        return sum(one.committer.unacked for one in self.partitions if one.redis.connected)

    # Running

    def readiness(self) -> dict[str, Any]:
        """Whether devices can be served, with the single checks, and whether this host's clock is right."""
        checks = {
            "redis": self.is_connected,
            "listeners": all(one.port is not None for one in self.listeners),
        }
        skew = self.redis_time.skew
        clock = {} if skew is None else {"clock": self.redis_time.is_right, "clock_offset_s": round(skew, 1)}
        missing, gone = rights_missing(self.partitions), away(self.partitions)
        lacking = {"rights": False, "rights_missing": missing} if missing else {}
        several = {"partitions_away": gone} if len(self.partitions) > 1 else {}
        return {"ready": all(checks.values()) and not lacking, **checks, **several, **lacking, **clock}

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
            start_embedded(self._reactor, self._embedded, lambda address: self._use_redis([address]))
        else:
            self._use_redis(self._addresses)
        # Loaded objects are permanent. If each full collection scanned them, it would delay devices by some
        # 40 ms.
        gc.collect()
        gc.freeze()

    def _use_redis(self, addresses: Sequence[RedisAddress]) -> None:
        """Connect to Redis; of several servers, each has every so-many-th partition."""
        if self._stopping:
            return
        embedded = self._embedded is not None
        connectors = [
            redis_connector(self._reactor, self._settings, one, embedded=embedded) for one in addresses
        ]
        if self._web is not None:
            self._web.use(connectors)
        for one in self.partitions:
            connector = connectors[one.number % len(connectors)]
            one.use(connector if len(self.partitions) == 1 else connector.named(f"partition {one.number}"))

    def _partition_ready(self, number: int) -> None:
        self.gateway.admission.on_redis_ready()
        if self._imeis is not None:
            self._imeis.flush(number)

    def _clock_set(self, change: float) -> None:
        for one in self.partitions:
            one.dispatcher.clock_set(change)

    def reread(self) -> None:
        """Read changed files again now, as SIGHUP asks for."""
        self.gateway.admission.reread()
        self._maintenance.review()
        if self._web is not None:
            self._web.reread()

    # Stopping

    def _superseded(self) -> None:
        name = self._settings.gateway
        stop_for(self._reactor, f"a process that was started later as gateway {name} goes on in its place")

    async def _drain(self) -> None:
        """Stop intake, finish pending commands and deregister, within --shutdown-timeout."""
        commits = self.gateway.committer
        for one in self.partitions:
            one.background_tasks.stop_intake()
        # Datagrams are still received: a device has no other way to answer its command over UDP.
        await self._stop_listening(TcpService)
        limit = self._reactor.seconds() + self._settings.shutdown_timeout
        if self.is_connected:
            await self._until(lambda: all(one.is_drained for one in self.partitions), limit)
            # From here on no frame is accepted, so that all accepted ones can be committed and answered.
            self.gateway.draining = True
            await self._until(lambda: not self._awaited, limit)
        self.gateway.close_connections()
        await self._stop_listening(UdpService)
        await self._until(lambda: not self.gateway.time_slicer.running, limit)
        if self.is_connected:
            await self._until(lambda: not self._awaited, limit)
        if commits.unacked:
            self.log.warn(
                "{count} records were not committed; their locks will send again", count=commits.unacked
            )
        await deregister(self.partitions)

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
