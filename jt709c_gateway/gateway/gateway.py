"""The one place where TCP, UDP, sessions, the committer and commands meet."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from attrs import define, field
from msgspec import UNSET
from twisted.logger import Logger

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.connection import DeviceConnection
from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.event_budget import EventAllowance
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.event_records import listen, position_record, record_of
from jt709c_gateway.gateway.limit_warnings import LimitWarnings
from jt709c_gateway.gateway.new_device_limit import NewDeviceLimiter
from jt709c_gateway.gateway.rate_limit import RateLimiter, kept
from jt709c_gateway.gateway.session_lifecycle import SessionLifecycle
from jt709c_gateway.gateway.session_limits import SessionLimits
from jt709c_gateway.gateway.sessions import Session, Sessions
from jt709c_gateway.gateway.time_slices import TimeSlicer
from jt709c_gateway.gateway.udp_decoder import DatagramDecoder
from jt709c_gateway.gateway.udp_guests import UdpGuests
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import VERSION
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.reassembly import PartStore, Reassembler
from jt709c_gateway.protocol.zones import Utc8Devices
from jt709c_gateway.redis.batch import Answer
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.transport.interfaces import Link
from jt709c_gateway.util.clock import Clock

#: Lines about bad input in so many seconds; all of it is counted, and the last of it is in Redis.
_LOG_LINES: Final = 20
_LOG_SECONDS: Final = 60.0


@define
class Policy:
    """Limits on locks and their links. Seconds and counts."""

    idle_timeout: float = 900.0
    first_frame_timeout: float = 60.0
    max_malformed: int = 20
    max_sessions: int = 100_000
    #: Locks of one link, and of one address, that keep their places when there are too many.
    devices_per_connection: int = 8
    sessions_per_address: int = 20_000
    #: Frames a second of one lock; 0 for any number.
    max_rate: float = 0.0
    #: Events of one lock in an hour, at once if need be; 0 for any number.
    max_share: float = 0.0
    #: Devices that nobody has heard of, a minute from one address; 0 for any number. See `Newcomers`.
    max_new_devices: int | None = 0
    #: Answer a sub-lock's report by the serial of its sentence, not by the sub-lock's own.
    sentence_serial: bool = False
    #: Whose times are UTC+8.
    utc8: Utc8Devices = field(factory=Utc8Devices)
    #: How often a session that speaks has its time to live in Redis renewed.
    session_refresh: float = 60.0

    @property
    def session_ttl(self) -> int:
        """Seconds after which a session whose gateway has died is gone from Redis."""
        return int(self.idle_timeout + 2 * self.session_refresh)


@define
class Moment:
    """One instant on the clocks: monotonic seconds, UTC, ISO 8601, epoch seconds."""

    now: float
    utc: datetime
    iso: str
    epoch: float


@define(eq=False)
class Gateway:
    """Takes every message of every lock: sessions, events, and answers once they are committed."""

    log = Logger()

    name: str
    clock: Clock
    committer: Committer
    ids: EventIds
    policy: Policy = field(factory=Policy)
    admission: Admission = field(factory=Admission)
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    counters: Counters = field(factory=Counters)
    #: Told of a lock that came, so that its commands are sent; and of one that went.
    on_online: Callable[[Session], None] = lambda session: None
    on_offline: Callable[[Session, str], None] = lambda session, reason: None
    #: Told of a lock whose first report over its link is committed, and of a device whose IMEI became known.
    on_reported: Callable[[Session], None] = lambda session: None
    on_named: Callable[[str], None] = lambda device: None
    #: Set while stopping: frames are let go unanswered, and the locks send them to whoever comes next.
    draining: bool = False
    sessions: Sessions = field(init=False)
    gate: RateLimiter = field(init=False, repr=False)
    presence: SessionLifecycle = field(init=False, repr=False)
    guests: UdpGuests = field(init=False, repr=False)
    slices: TimeSlicer = field(init=False, repr=False)
    conversations: set[DeviceConnection] = field(factory=set, repr=False)
    #: Those that stopped reading, in the order in which they did.
    _paused: dict[DeviceConnection, None] = field(factory=dict, repr=False)
    #: Parts of split messages, of all connections and addresses together.
    parts: PartStore = field(factory=PartStore, init=False, repr=False)
    _turning_away: LimitWarnings = field(factory=LimitWarnings, init=False, repr=False)
    _log_minute: float = 0.0
    _logged: int = 0

    def __attrs_post_init__(self) -> None:
        policy = self.policy
        room = SessionLimits(policy.devices_per_connection, policy.sessions_per_address)
        self.sessions = Sessions(policy.max_sessions, room)
        self.slices = TimeSlicer(self.clock)
        self.presence = SessionLifecycle(self)
        self.guests = UdpGuests(self)
        self.gate = RateLimiter(
            self,
            self.admission,
            EventAllowance(policy.max_rate, policy.max_share),
            NewDeviceLimiter(policy.max_new_devices),
        )
        self.committer.drained = self._drained

    @property
    def token_start(self) -> str:
        """How the tokens of this run's sessions begin: commit.lua takes the gateway's name out of them."""
        return f"{self.name}/{self.committer.boot}-"

    def moment(self) -> Moment:
        """Now, on all clocks; event ids made from here on carry it."""
        self.ids.tick()
        utc = self.wall()
        return Moment(self.clock.seconds(), utc, events.time_text(utc), utc.timestamp())

    # What transports see (transport.link.Handler)

    def open(self, link: Link) -> DeviceConnection:
        """A peer is there."""
        sentence_serial = self.policy.sentence_serial
        if link.transport_name == "udp":
            parts = self.parts.address(link.peer)
            decoder: Decoder = DatagramDecoder(
                sentence_serial=sentence_serial, parts=parts, withheld=lambda: self.dropped("long_answer")
            )
        else:
            decoder = Decoder(sentence_serial=sentence_serial, parts=Reassembler(self.parts))
        conversation = DeviceConnection(self, link, decoder, self.clock.seconds())
        self.conversations.add(conversation)
        return conversation

    def dropped(self, reason: str) -> None:
        """A link was closed by us, or turned away, for this reason."""
        self.counters.dropped[reason] += 1
        self._turning_away.tell(reason, self.counters.dropped[reason], self.clock.seconds())

    # What conversations see

    def take(self, session: Session, message: Message, moment: Moment) -> None:
        """Have all that a message says committed, and its answer sent after that."""
        # Before anything is made of what it says: when that was, is seen by its clock.
        at = listen(session, message, moment)
        steps = session.executor.process_message(message, moment) if session.executor is not None else None
        session.last_heard = moment.now
        if session.refused:
            session.refused = False
            self.presence.affirm(session)
        dialect = message.dialect
        if dialect != session.dialect:
            dialect = session.hear_dialect(message)
        refresh = None
        if moment.now - session.refreshed > self.policy.session_refresh:
            session.refreshed = moment.now
            refresh = ("keep", session.token, self.policy.session_ttl)
        if message.is_position and refresh is None:
            content = position_record(session, message, moment, dialect, self.ids(), at)
        else:
            content = record_of(session, message, moment, dialect, self.ids, refresh)
        self.counters.frames[dialect, message.facts[0][0] if message.facts else "none"] += 1
        answer: Answer = message.answer if message.is_position else session.answer_to(message)
        if message.time_answer is not None:
            answer = partial(self._answer_now, message)
        then = None
        if session.fresh and message.report:
            session.fresh = False
            then = partial(self._reported, session)
        elif message.imei is not None and message.imei != session.imei:
            self.sessions.name(session, message.imei)
            then = partial(self._named, session.device)
        self.committer.submit(content, session.conversation, answer, then)
        if message.impossible_date or message.wrong_length:
            reason = "length" if message.wrong_length else "date"
            self.malformed(session.origin.peer or "", reason, kept(message), moment.iso)
        if steps is not None:
            steps()

    def _answer_now(self, message: Message) -> bytes | None:
        """The time is that of the answer, not of the question: a commit may have to wait for Redis."""
        return message.answer_at(self.wall())

    def _reported(self, session: Session, written: bool) -> None:
        if written:
            self.on_reported(session)

    def _named(self, device: str, written: bool) -> None:
        if written:
            self.on_named(device)

    def malformed(
        self, peer: str, reason: str, raw: bytes, iso: str, sender: DeviceConnection | None = None
    ) -> None:
        """Keep what could not be read for a person to look at; passwords are masked already.

        `sender` is told when that is done.
        """
        self.counters.malformed[reason] += 1
        self.committer.submit(("", peer, reason, raw.hex(), iso), sender)

    def may_log(self, now: float) -> bool:
        """Whether one more line about somebody's bad input may go into the log."""
        if now - self._log_minute >= _LOG_SECONDS:
            self._log_minute, self._logged = now, 0
        self._logged += 1
        return self._logged <= _LOG_LINES

    def paused(self, conversation: DeviceConnection) -> None:
        """This conversation waits until there is room."""
        self._paused[conversation] = None

    # Events of our own

    def encode(
        self,
        device: str,
        kind: str,
        data: events.EventData,
        session: Session | None = None,
    ) -> str:
        """An event of the gateway's own making, as JSON."""
        transport: Literal["tcp", "udp"] | Any = None if session is None else session.origin.transport
        event = events.Event(
            VERSION,
            self.ids(),
            kind,
            device,
            None if session is None else session.imei,
            None if session is None else session.speaks(None),
            None,
            False,
            self.wall(),
            None if session is None else session.clock.skew_s,
            self.name,
            transport,
            None if session is None else session.origin.peer,
            None,
            UNSET,
            data,
        )
        return events.to_text(event)

    def _drained(self) -> None:
        paused, self._paused = self._paused, {}
        self.slices.run(paused, DeviceConnection.read_on)

    def forget_paused(self, conversation: DeviceConnection) -> None:
        """This conversation is over."""
        self._paused.pop(conversation, None)
