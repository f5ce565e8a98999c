"""The session of a connected device, and what it needs of its connection and of its commands."""

from collections.abc import Callable
from math import inf
from typing import Any, Final, Protocol, TypeGuard

from attrs import define, field
from msgspec import UNSET

from jt709c_gateway.gateway.event_budget import EventBudget
from jt709c_gateway.gateway.lock_clock import LockClock, credible
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.dialects import SENTENCE
from jt709c_gateway.protocol.envelope import Origin
from jt709c_gateway.protocol.jt701 import VERSION_JT701D
from jt709c_gateway.protocol.message import Message, VersionedMessage
from jt709c_gateway.protocol.zones import to_utc
from jt709c_gateway.redis.batch import Recipient
from jt709c_gateway.transport.interfaces import Link

#: A position: latitude, longitude, speed in km/h, the lock's time and the arrival in epoch seconds, and the
#: arrival in monotonic seconds. None for what the lock did not say. A tuple: one is made for each report.
Place = tuple[float | None, float | None, float | None, float | None, float, float]
#: Seconds by which two reports may seem to be in the wrong order: their times are whole seconds, and the skew
#: of a clock is known to two.
_SAME_TIME: Final = 3.0
#: Proven addresses that are kept per device while it moves between them.
_MAX_PROOFS: Final = 4


class MessageProcessor(Protocol):
    """The commands of a session's device, which get each of its messages."""

    def process_message(
        self, message: Message, moment: Moment, elsewhere: bool = False
    ) -> Callable[[], None] | None:
        """Match a message to the commands; returns what to call after its events are submitted.

        `elsewhere` says that it does not come from the session's own address.
        """


class SessionConnection(Recipient, Protocol):
    """A device connection, as its sessions and their limits see it."""

    link: Link
    is_datagram: bool
    is_open: bool
    #: When it was opened and last received something, in monotonic seconds.
    opened: float
    last_received: float
    sessions: "dict[str, Session]"
    #: UDP only: sessions that are not registered.
    guests: "dict[str, Session]"
    #: Number of sessions, kept by `SessionLimits`.
    locks: int

    @property
    def origin(self) -> Origin:
        """Gateway, transport and peer of its frames."""

    @property
    def asking(self) -> bool:
        """Whether a device on this connection awaits its admission."""

    def last_location(self, device: str) -> tuple[events.Location | None, float]:
        """A device's last position in datagrams from this address, and when it arrived."""

    def resume_reading(self) -> None:
        """Process buffered frames and resume reading."""

    def drop_datagram(self, reason: str) -> None:
        """Count a dropped datagram, and close its address if it has no use."""


@define(eq=False)
class Session:
    """The session of a connected device. Times are monotonic seconds, except `since` (ISO 8601)."""

    device: str
    connection: SessionConnection
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
    #: Its last live position with a GNSS fix; None also when its last report was not the newest one.
    place: Place | None = field(default=None, repr=False)
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
    #: What its label adds to its events; always "" without --labels-in-events.
    label: str = field(default="", repr=False)
    #: Executor of its commands, set by `assign_executor`; None when it has none to execute or confirm.
    executor: MessageProcessor | None = field(default=None, repr=False)

    # What its messages show, in this sequence: `observe_clocks`, the commands, `observe_state`

    def observe_clocks(self, message: Message, moment: Moment) -> float | None:
        """Update the clocks of the device and its sub-locks, and convert the message's times to UTC.

        Returns the newest time in it, in epoch seconds; None for a stored message, and for one without a
        credible time. The clocks tell when the reported events took place, so they come first.
        """
        if self.utc8:
            to_utc(message)
        clock, reported = self.clock, message.events
        if message.is_position:
            location: Any = reported[0][1]
            return clock.observe(location.time, moment.epoch, message.wire)
        if message.stored:
            return None
        newest, dated = None, False
        for _, data in reported:
            if type(data) is events.Peripheral:
                self._known_sublocks().observe(data, moment.epoch, message.wire)
                time = data.master_time
            elif isinstance(data, events.Location) or _is_own(data):
                time = data.time
            else:
                continue
            dated = True
            if time is not None and (newest is None or time > newest):
                newest = time
        return clock.observe(newest, moment.epoch, message.wire) if dated else None

    def observe_state(self, message: Message, moment: Moment, at: float | None) -> None:
        """Update the states of the lock and its sub-locks; older reports change nothing.

        Commands compare a message with the states before it, so they get it first. `at` is the result of
        `observe_clocks`.
        """
        if message.is_position:
            location: Any = message.events[0][1]
            if not self._observe_lock(location.lock_state, at, moment.epoch) or location.fix != "gnss":
                self.place = None
            else:
                # As `_observe_place`, inline since every report passes here.
                self.place = (
                    location.latitude,
                    location.longitude,
                    location.speed_kmh,
                    at,
                    moment.epoch,
                    moment.now,
                )
            return
        now = moment.epoch
        for _, data in message.events:
            if isinstance(data, events.Location) and not message.stored:
                at = credible(data.time, now)
                self._observe_place(data, at, moment, self._observe_lock(data.lock_state, at, now))
            elif is_current_movement(data) and not message.stored:
                # A position that shows the same state afterwards is no second movement.
                self._observe_lock(data.action, credible(data.time, now), now)
            elif type(data) is events.Peripheral:
                self._known_sublocks().update(data, now)

    def _observe_lock(self, lock_state: str | None, at: float | None, now: float) -> bool:
        """Update the state of the lock; False when the report is from before the last one."""
        happened = now if at is None else self.clock.to_gateway_time(at, now)
        if happened >= self.state_at:
            self.lock_state, self.state_at = lock_state, happened
            return True
        return happened >= self.state_at - _SAME_TIME

    def _observe_place(self, data: events.Location, at: float | None, moment: Moment, newest: bool) -> None:
        """Update the position of the lock; a report without a fix, or that may be older, leaves none."""
        if not newest or data.fix != "gnss":
            self.place = None
        else:
            self.place = (data.latitude, data.longitude, data.speed_kmh, at, moment.epoch, moment.now)

    def _known_sublocks(self) -> SubLockStates:
        if self.sublocks is None:
            self.sublocks = SubLockStates()
        return self.sublocks

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
        """Note that its UDP address has answered a query or a command; over TCP this changes nothing."""
        peer = self.connection.link.peer
        if self.connection.is_datagram and peer not in self.proofs:
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

    def assign_executor(self, executor: MessageProcessor | None) -> None:
        """Set the executor of its commands; while there is one, its messages are read at once."""
        before, self.executor = self.executor, executor
        if (before is None) != (executor is None):
            self.connection.link.hasten(executor is not None)

    def send(self, data: bytes) -> bool:
        """Send bytes to the device; False when its connection is closed."""
        return self.connection.link.send(data)


def is_current_movement(data: events.EventData) -> TypeGuard[events.LockEvent]:
    """Whether an event of a live message says that the device itself was locked or unlocked."""
    return _is_own(data) and data.action in ("locked", "unlocked")


def _is_own(data: events.EventData) -> TypeGuard[events.LockEvent]:
    """Whether an event is the device's own: events of sub-locks have the time of the sub-lock's clock."""
    return isinstance(data, events.LockEvent) and data.peripheral is UNSET
