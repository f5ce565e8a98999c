"""What a gateway has once for each partition: connections to Redis, committer, commands and their tasks."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import frozen
from twisted.application.service import MultiService

from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.commands.record import Limits as CommandLimits
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.config.values import ADMIT_REDIS
from jt709c_gateway.gateway.background_tasks import BackgroundTasks
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.identity_queries import IdentityPoller
from jt709c_gateway.gateway.commands.partition_routing import PartitionRouting
from jt709c_gateway.gateway.data_loss import DataLossDetector
from jt709c_gateway.gateway.event_labels import EventLabels, LabelReader
from jt709c_gateway.gateway.fleet_stats import FleetStats
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.rights_check import RightsCheck
from jt709c_gateway.redis.client_protocol import RedisProtocol
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.committer import Committer, Limits
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.gateway_connections import GatewayConnections
from jt709c_gateway.redis.partition_check import PartitionCheck
from jt709c_gateway.redis.partition_marker import WrongPartitions, problem, read_marker
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries, gather
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.redis.scripts import ScriptLoader
from jt709c_gateway.redis.transfers import TransferStore

#: Bytes of records that wait for all partitions together, and at least for each.
_ALL_BYTES: Final = 128 << 20
_LEAST_BYTES: Final = 8 << 20


@frozen
class SharedParts:
    """What the partitions of a gateway share. `boot` identifies this run; `observed` is that of Committer."""

    reactor: Any
    settings: Settings
    partitions: Partitions
    redis_time: RedisTime
    boot: str
    observed: Callable[[float, int], None]
    reply_timeout: float
    check: PartitionCheck
    loader: ScriptLoader
    #: Called when Redis has become usable, with the number of the partition.
    ready: Callable[[int], None]
    #: Called with the reason when the store is divided in another way.
    refused: Callable[[str], None]


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


def away(partitions: "Sequence[Partition]") -> list[int]:
    """Return the numbers of the partitions that can't be used now."""
    return [one.number for one in partitions if not one.redis.connected]


def rights_missing(partitions: "Sequence[Partition]") -> list[str]:
    """Return the rights that the gateway's Redis user lacks, in any partition."""
    return [right for one in partitions for right in one.rights.missing]


async def deregister(partitions: "Sequence[Partition]") -> None:
    """Deregister a gateway from all partitions at once, but not where its records wait to be committed."""
    await gather(
        [
            one.background_tasks.deregister()
            for one in partitions
            if one.redis.connected and not one.committer.unacked
        ]
    )


class Partition(MultiService):
    """One partition of a gateway. The parts that need the gateway are built by `build_commands`."""

    dispatcher: CommandDispatcher
    background_tasks: BackgroundTasks
    fleet_stats: FleetStats
    data_loss: DataLossDetector
    poller: IdentityPoller

    def __init__(self, shared: SharedParts, number: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.number = number
        self.keys = shared.partitions.keys[number]
        self._shared = shared
        reactor, settings = shared.reactor, shared.settings
        self.redis = GatewayConnections(
            settings.durability,
            shared.reply_timeout,
            self.keys,
            # The clocks of all nodes must agree; the gateway follows that of one of them.
            shared.redis_time if number == 0 else None,
            loader=shared.loader if shared.partitions.count > 1 else None,
            examine=self._examine,
            commits_ready=lambda: self.committer.resume(),
            commands_ready=self._commands_ready,
        )
        self.rights = RightsCheck(reactor, self.keys, self.redis.commands, settings.admit == ADMIT_REDIS)
        self.store = CommandStore(self.redis.commands, self.keys, settings.gateway)
        self.committer = Committer(
            reactor,
            self.redis.commits,
            self.keys,
            settings.gateway,
            shared.boot,
            _limits(settings),
            settings.max_unacked,
            max(_ALL_BYTES // shared.partitions.count, _LEAST_BYTES),
            durability=settings.durability,
            observed=shared.observed,
            now=shared.redis_time.seconds,
        )

    def build_commands(
        self,
        gateway: Gateway,
        profiles: ProfileRegistry,
        authorizer: CommandAuthorizer,
        queries: PartitionedQueries,
        siblings: "Sequence[Partition]",
    ) -> None:
        """Build the parts that execute the commands of this partition."""
        shared, settings = self._shared, self._shared.settings
        routing = None
        if len(siblings) > 1:
            transfers = TransferStore(self.redis.commands, self.keys, settings.gateway)
            callers = [one.redis.commands for one in siblings]
            routing = PartitionRouting(
                shared.partitions,
                self.number,
                queries,
                callers,
                transfers,
                shared.reactor,
                authorizer.seal,
            )
        self.context = CommandContext(
            gateway,
            self.committer,
            self.store,
            profiles,
            CommandLimits(confirm_timeout=settings.confirm_timeout),
            settings.udp_window,
            settings.static_password,
            authorizer,
            udp_commands=settings.udp_commands,
            routing=routing,
        )
        self.dispatcher = CommandDispatcher(self.context)
        self.poller = IdentityPoller(self.dispatcher, settings.ask)
        self.background_tasks = BackgroundTasks(
            shared.reactor, gateway, self.dispatcher, self.keys, settings.gateway_ttl, self.poller
        )
        self.background_tasks.divided = self._divided
        self.fleet_stats = FleetStats(shared.reactor, self.context)
        self.data_loss = DataLossDetector(shared.reactor, self.dispatcher)
        parts = [self.redis, self.background_tasks, self.fleet_stats, self.data_loss, self.rights]
        if settings.labels_in_events:
            labels = EventLabels(gateway.sessions, gateway.events.labels)
            parts.append(LabelReader(shared.reactor, self.redis.commands, self.keys, labels))
        # Children are stopped in reverse: the connections to Redis last.
        for part in parts:
            part.setServiceParent(self)  # type: ignore[no-untyped-call]

    def use(self, connector: RedisConnector) -> None:
        """Connect to this server."""
        self.redis.use(connector)
        self.background_tasks.start(self.redis.blocking)

    @property
    def is_drained(self) -> bool:
        """Whether no command is under way that could end; none can while the partition is away."""
        return self.background_tasks.is_drained or not self.redis.connected

    async def _examine(self, protocol: RedisProtocol) -> None:
        """Check a new connection before it is used."""
        try:
            await self._shared.check.check(protocol, self.number)
        except WrongPartitions as error:
            self._refused(str(error))
            raise
        await self.rights.examine(protocol)

    def _divided(self, marker: bytes) -> None:
        """End the gateway, which was suspended while the fleet was divided in another way."""
        partitions, key = self._shared.partitions, self.keys.partitions
        self._refused(problem(partitions.prefix, key, read_marker(marker), partitions.count))

    def _refused(self, reason: str) -> None:
        # Others find the same.
        if self._shared.check.first_refusal():
            self._shared.refused(reason)

    def _commands_ready(self) -> None:
        self.background_tasks.on_redis_ready()
        self.fleet_stats.on_redis_ready()
        self.data_loss.check()
        self._shared.ready(self.number)
