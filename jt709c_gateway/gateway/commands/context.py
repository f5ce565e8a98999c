"""The state that the commands of all devices share."""

from attrs import define, field

from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.profiles import CheckedCommand, ProfileRegistry
from jt709c_gateway.commands.record import Limits
from jt709c_gateway.gateway.commands.address_proof import AddressProof, UdpCommands
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.gateway.commands.claims import Claims
from jt709c_gateway.gateway.commands.partition_routing import PartitionRouting
from jt709c_gateway.gateway.commands.publisher import CommandPublisher
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.log_limit import LogLimiter
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.command_store_types import Claim, Known
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.redis.errors import ErrorLog


@define(eq=False)
class CommandContext:
    """The store, the publisher, the profiles and the settings that every command is executed with."""

    gateway: Gateway
    #: The committer and the store of the partition whose commands these are.
    committer: Committer
    store: CommandStore
    profiles: ProfileRegistry
    limits: Limits = field(factory=Limits)
    udp_window: float = 30.0
    #: Password for unlock commands without one.
    static_password: str | None = field(default=None, repr=False)
    #: Decides which commands may be accepted and written.
    authorizer: CommandAuthorizer = field(factory=CommandAuthorizer)
    #: When commands that open a lock may be sent over UDP.
    udp_commands: UdpCommands = UdpCommands.CONFIRMED
    #: Brings commands to the partition of their device; None when there is only one partition.
    routing: PartitionRouting | None = None
    #: Whether commands may be started; false until this run owns the gateway's name, and while stopping.
    sending: bool = False
    claims: Claims = field(init=False, repr=False)
    publisher: CommandPublisher = field(init=False, repr=False)
    address_proof: AddressProof = field(init=False, repr=False)
    refusals: ErrorLog = field(init=False, repr=False)
    #: Limits log lines about rejected commands.
    rejection_log: LogLimiter = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.claims = Claims(self.store)
        self.publisher = CommandPublisher(self.gateway, self.committer, self.store, self.claims, self.routing)
        self.address_proof = AddressProof(self.udp_commands)
        self.refusals = ErrorLog(self.gateway.clock)
        self.rejection_log = LogLimiter(self.gateway.clock, "rejected commands")

    @property
    def sessions(self) -> list[Session]:
        """The sessions of the partition's devices."""
        gateway, committer = self.gateway, self.committer
        return [one for one in gateway.sessions if gateway.committer.of(one.device) is committer]

    def has_name(self, name: str) -> bool:
        """Return whether the device with this IMEI would be noted in this partition."""
        return self.routing is None or self.routing.partitions.number_of(name) == self.routing.number

    async def look_up(self, name: str) -> Known:
        """Return the device that `name` stands for, wherever it is; txredisapi's errors are passed on."""
        return await (self.store if self.routing is None else self.routing.queries).look_up(name)

    def now(self) -> float:
        """Current time in epoch seconds."""
        return self.gateway.wall().timestamp()

    def can_reach(self, session: Session) -> bool:
        """Whether bytes can be sent now; over UDP only within the UDP window after the last datagram."""
        return not session.connection.is_datagram or self.heard_recently(session)

    def heard_recently(self, session: Session) -> bool:
        """Whether the last datagram is recent enough for a reply to reach the device."""
        return self.gateway.clock.seconds() - session.last_heard <= self.udp_window

    def check(self, command: Command, session: Session, claim: Claim) -> CheckedCommand | None:
        """Validate a command for its device's profile; raises InvalidCommand when it does not fit.

        None while the device's dialect is unknown.
        """
        profile = self.profiles.pick(session.device, session.dialect_or_guess(claim.dialect), claim.firmware)
        return None if profile is None else self.profiles.validate(command, profile)

    def gateway_parameters(self, claim: Claim) -> dict[str, str]:
        """Values that the gateway supplies to a command, by the names that profiles use."""
        known = {"static_password": self.static_password, "dynamic_password": claim.dynamic_password}
        return {name: value for name, value in known.items() if value is not None}
