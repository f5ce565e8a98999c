"""Who is connected: one session per device, the newest connection wins (DESIGN.md §2, §3)."""

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

#: Addresses of a lock that stay proven while it moves between them.
_MAX_PROOFS: Final = 4


@define(eq=False)
class Session:
    """A lock that is there. Times are monotonic seconds, but for `since`, which is ISO 8601."""

    device: str
    conversation: "DeviceConnection"
    token: str
    since: str
    opened: float
    origin: Origin
    imei: str | None = None
    identity_wire: bytes | None = None
    #: When the session's hash in Redis got its time to live.
    refreshed: float = 0.0
    last_heard: float = 0.0
    lock_state: str | None = None
    #: When it was in that state, epoch seconds: what its reports say of before changes nothing.
    state_at: float = 0.0
    #: Whether Redis knows of it. A session that Redis names later is newer, wherever it is.
    stored: bool = False
    #: Redis refused to note it, which is tried again when the lock speaks.
    refused: bool = False
    #: What its reports have shown it to speak, and what it seems to speak as long as none has come.
    dialect: str | None = None
    guess: str | None = None
    #: The protocol version of its `$` frames, and the one in the head of its grouped sentences.
    master_version: int | None = None
    sentence_version: int | None = None
    #: What it may still send.
    budget: EventBudget = field(factory=lambda: EventBudget(inf, inf, 0.0), repr=False)
    #: What is known of the sub-locks behind it; None where it has none.
    sublocks: SubLockStates | None = field(default=None, repr=False)
    #: Whether the times that it sends are UTC+8.
    utc8: bool = False
    #: How far its clock is from ours.
    clock: LockClock = field(factory=LockClock, repr=False)
    #: Whether its first report over this link is still to come.
    fresh: bool = True
    #: Over UDP: addresses from which an answer came that only who is there can give, the last of them last;
    #: and when the lock may be asked again, in epoch seconds.
    proofs: tuple[str, ...] = ()
    ask_again: float = 0.0
    #: Whether Redis was asked to take it and has not said so yet.
    offered: bool = False
    #: Commands for this lock that are under way, or may still be settled by what it reports.
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
    def proven(self) -> bool:
        """Whether its address has answered what was sent there."""
        return self.conversation.link.peer in self.proofs

    def prove(self) -> None:
        """Its address has answered what was sent there."""
        peer = self.conversation.link.peer
        if peer not in self.proofs:
            self.proofs = (*self.proofs[1 - _MAX_PROOFS :], peer)

    def noted(self, written: bool) -> None:
        """Redis has noted it, or refused to."""
        self.stored, self.refused = written, not written

    def hear_dialect(self, message: Message) -> str:
        """Take up what a message tells of the lock's dialect; the dialect of the message's events.

        A heartbeat, an answer or a sentence is the same for several dialects: it changes nothing once a
        report has shown which it is.
        """
        if message.tells_dialect:
            self.dialect = self.guess = message.dialect
        elif self.dialect is None and message.dialect != SENTENCE:
            self.guess = message.dialect
        return self.dialect or self.guess or SENTENCE

    def answer_to(self, message: Message) -> bytes | None:
        """The answer to a message, as a unit of this version wants it; the message may tell the version."""
        if not isinstance(message, VersionedMessage):
            return message.answer
        if message.master_version is not None:
            self.master_version = message.master_version
        if message.sentence_version is not None:
            self.sentence_version = message.sentence_version
        if self.master_version is None or self.master_version >= VERSION_JT701D:
            return message.answer
        return message.old_answer or message.answer

    def speaks(self, known: str | None) -> str | None:
        """The lock's dialect, `known` being what it was before it came."""
        return self.dialect or known or self.guess

    def send(self, data: bytes) -> bool:
        """Write to the lock; False when its link is gone."""
        return self.conversation.link.send(data)


@define
class Sessions:
    """device -> session. At most `limit` at a time; `room` knows who goes first."""

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
        """The session of a device, named by its id or by its IMEI."""
        return self._by_device.get(device) or self._by_device.get(self._by_imei.get(device, ""))

    @property
    def full(self) -> bool:
        """Whether no new device fits."""
        return len(self._by_device) >= self.limit

    def put(self, session: Session) -> Session | None:
        """Make this the device's session; give the one it takes over from."""
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

    def name(self, session: Session, imei: str) -> None:
        """The device has said its IMEI."""
        if session.imei and self._by_imei.get(session.imei) == session.device:
            del self._by_imei[session.imei]
        session.imei = imei
        if self._by_device.get(session.device) is session:
            self._by_imei[imei] = session.device

    def remove(self, session: Session) -> bool:
        """Take out this very session; False when another has taken over already."""
        if self._by_device.get(session.device) is not session:
            return False
        del self._by_device[session.device]
        self.room.leave(session)
        if session.imei and self._by_imei.get(session.imei) == session.device:
            del self._by_imei[session.imei]
        return True
