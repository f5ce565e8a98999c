"""Connected devices: one session per device, the newest connection wins (docs/fencing.rst)."""

from math import inf
from typing import TYPE_CHECKING, Any, Final

from attrs import define, field

from jt709c_gateway.gateway.event_budget import EventBudget
from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.gateway.session_limits import SessionLimits
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol.decoder import SENTENCE
from jt709c_gateway.protocol.envelope import Origin
from jt709c_gateway.protocol.jt701 import VERSION_JT701D
from jt709c_gateway.protocol.message import Message, VersionedMessage

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.executor import CommandExecutor
    from jt709c_gateway.gateway.connection import DeviceConnection

#: Proven addresses that are kept per device while it moves between them.
_MAX_PROOFS: Final = 4


@define(eq=False)
class Session:
    """The session of a connected device. Times are monotonic seconds, except `since` (ISO 8601)."""

    device: str
    connection: "DeviceConnection"
    token: str
    since: str
    opened: float
    origin: Origin
    imei: str | None = None
    identity_wire: bytes | None = None
    #: When the time to live of the session's hash in Redis was renewed.
    refreshed: float = 0.0
    last_heard: float = 0.0
    lock_state: str | None = None
    #: When that state was reported, in epoch seconds; older reports change nothing.
    state_at: float = 0.0
    #: Whether Redis has stored it. A session that Redis stores later is newer, at whatever gateway.
    stored: bool = False
    #: Whether Redis refused to store it; repeated with the device's next message.
    refused: bool = False
    #: Dialect that its reports have shown, and the guess until a report arrives.
    dialect: str | None = None
    guess: str | None = None
    #: Protocol version of its `$` frames, and the one in the head of its grouped sentences.
    master_version: int | None = None
    sentence_version: int | None = None
    #: Events that it may still cause.
    budget: EventBudget = field(factory=lambda: EventBudget(inf, inf, 0.0), repr=False)
    #: Last states of its sub-locks; None when it has none.
    sublocks: SubLockStates | None = field(default=None, repr=False)
    #: Whether it sends times in UTC+8.
    utc8: bool = False
    #: Offset of its clock.
    clock: LockClock = field(factory=LockClock, repr=False)
    #: Whether its first report over this connection is still to come.
    fresh: bool = True
    #: UDP only: addresses that have answered a query, the newest last; and when the next address query is
    #: allowed, in epoch seconds.
    proofs: tuple[str, ...] = ()
    ask_again: float = 0.0
    #: Whether an offer to Redis is pending.
    offered: bool = False
    #: Executor of its commands; None when it has none to execute or confirm.
    executor: "CommandExecutor | None" = field(default=None, repr=False)

    def hash_fields(self) -> tuple[str, ...]:
        """Field, value, … of `jt709c:session:<device>`."""
        origin = self.origin
        return (
            "gateway",
            origin.gateway or "",
            "transport",
            origin.transport or "",
            "peer",
            origin.peer or "",
            "since",
            self.since,
        )

    @property
    def address_proven(self) -> bool:
        """Whether its UDP address has answered a query."""
        return self.connection.link.peer in self.proofs

    def mark_address_proven(self) -> None:
        """Note that its UDP address has answered a query."""
        peer = self.connection.link.peer
        if peer not in self.proofs:
            self.proofs = (*self.proofs[1 - _MAX_PROOFS :], peer)

    def on_stored(self, written: bool) -> None:
        """Note whether Redis has stored the session."""
        self.stored, self.refused = written, not written

    def update_dialect(self, message: Message) -> str:
        """Update the device's dialect from a message; returns the dialect for the message's events.

        Heartbeats, answers and sentences are the same in several dialects: they change nothing once a report
        has shown the dialect.
        """
        if message.tells_dialect:
            self.dialect = self.guess = message.dialect
        elif self.dialect is None and message.dialect != SENTENCE:
            self.guess = message.dialect
        return self.dialect or self.guess or SENTENCE

    def answer_to(self, message: Message) -> bytes | None:
        """The answer to a message, in the form for the device's protocol version.

        The version is updated if the message contains it.
        """
        if not isinstance(message, VersionedMessage):
            return message.answer
        if message.master_version is not None:
            self.master_version = message.master_version
        if message.sentence_version is not None:
            self.sentence_version = message.sentence_version
        if self.master_version is None or self.master_version >= VERSION_JT701D:
            return message.answer
        return message.old_answer or message.answer

    def dialect_or_guess(self, known: str | None) -> str | None:
        """The device's dialect; `known` is the one from before this session."""
        return self.dialect or known or self.guess

    def send(self, data: bytes) -> bool:
        """Send bytes to the device; False when its connection is closed."""
        return self.connection.link.send(data)


@define
class Sessions:
    """Sessions by device, at most `limit`; `room` tells which one is evicted first."""

    limit: int
    room: SessionLimits = field(factory=SessionLimits)
    _by_device: dict[str, Session] = field(factory=dict)
    _by_imei: dict[str, str] = field(factory=dict)

    def __len__(self) -> int:
        return len(self._by_device)

    def __iter__(self) -> Any:
        return iter(list(self._by_device.values()))

    def __contains__(self, device: str) -> bool:
        return device in self._by_device

    def get(self, device: str) -> Session | None:
        """The session of a device, by its id or IMEI."""
        return self._by_device.get(device) or self._by_device.get(self._by_imei.get(device, ""))

    @property
    def full(self) -> bool:
        """Whether there is no room for another device."""
        return len(self._by_device) >= self.limit

    def put(self, session: Session) -> Session | None:
        """Register a session; returns the one that it replaces."""
        before = self._by_device.get(session.device)
        if before is not None:
            self.room.leave(before)
        self.room.enter(session)
        self._by_device[session.device] = session
        if before is not None and session.imei is None:
            session.imei = before.imei
        if session.imei:
            self._by_imei[session.imei] = session.device
        return before

    def set_imei(self, session: Session, imei: str) -> None:
        """Set the IMEI that a device has reported."""
        if session.imei and self._by_imei.get(session.imei) == session.device:
            del self._by_imei[session.imei]
        session.imei = imei
        if self._by_device.get(session.device) is session:
            self._by_imei[imei] = session.device

    def remove(self, session: Session) -> bool:
        """Remove this session; False when another one has replaced it."""
        if self._by_device.get(session.device) is not session:
            return False
        del self._by_device[session.device]
        self.room.leave(session)
        if session.imei and self._by_imei.get(session.imei) == session.device:
            del self._by_imei[session.imei]
        return True
