"""The gateway's core: passes messages from connections to sessions, commands and the committer."""

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
from jt709c_gateway.gateway.event_records import message_record, position_record
from jt709c_gateway.gateway.limit_warnings import LimitWarnings
from jt709c_gateway.gateway.new_device_limit import NewDeviceLimiter
from jt709c_gateway.gateway.policy import Moment, Policy
from jt709c_gateway.gateway.rate_limit import RateLimiter, kept_bytes
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
from jt709c_gateway.redis.batch import Answer
from jt709c_gateway.redis.commit_records import CommitRecord, KeepSession, MalformedRecord
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.transport.interfaces import Link
from jt709c_gateway.util.clock import Clock

#: Log lines about bad input per so many seconds; all of it is counted, and the last of it is in Redis.
_LOG_LINES: Final = 20
_LOG_SECONDS: Final = 60.0


@define(eq=False)
class Gateway:
    """Handles every message: updates its session, commits its events, and sends its answer after that."""

    log = Logger()

    name: str
    clock: Clock
    committer: Committer
    ids: EventIds
    policy: Policy = field(factory=Policy)
    admission: Admission = field(factory=Admission)
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    counters: Counters = field(factory=Counters)
    #: Called when a session starts, so that commands are sent, and when it ends.
    on_online: Callable[[Session], None] = lambda session: None
    on_offline: Callable[[Session, str], None] = lambda session, reason: None
    #: Called when the first report of a session is committed, and when a device's IMEI becomes known.
    on_reported: Callable[[Session], None] = lambda session: None
    on_named: Callable[[str], None] = lambda device: None
    #: Set while stopping: frames are dropped unanswered, so that devices send them to another gateway.
    draining: bool = False
    sessions: Sessions = field(init=False)
    rate_limiter: RateLimiter = field(init=False, repr=False)
    lifecycle: SessionLifecycle = field(init=False, repr=False)
    udp_guests: UdpGuests = field(init=False, repr=False)
    time_slicer: TimeSlicer = field(init=False, repr=False)
    connections: set[DeviceConnection] = field(factory=set, repr=False)
    #: Connections that paused reading, in that order.
    _paused: dict[DeviceConnection, None] = field(factory=dict, repr=False)
    #: Parts of split messages, of all connections.
    parts: PartStore = field(factory=PartStore, init=False, repr=False)
    _limit_warnings: LimitWarnings = field(factory=LimitWarnings, init=False, repr=False)
    _log_window_start: float = 0.0
    _logged: int = 0

    def __attrs_post_init__(self) -> None:
        policy = self.policy
        room = SessionLimits(policy.devices_per_connection, policy.sessions_per_address)
        self.sessions = Sessions(policy.max_sessions, room)
        self.time_slicer = TimeSlicer(self.clock)
        self.lifecycle = SessionLifecycle(self)
        self.udp_guests = UdpGuests(self)
        self.rate_limiter = RateLimiter(
            self,
            self.admission,
            EventAllowance(policy.max_rate, policy.max_share),
            NewDeviceLimiter(policy.max_new_devices),
        )
        self.committer.drained = self._resume_paused

    @property
    def token_prefix(self) -> str:
        """Prefix of this run's session tokens; commit.lua extracts the gateway's name from it."""
        return f"{self.name}/{self.committer.boot}-"

    def moment(self) -> Moment:
        """The current time on all clocks; event ids made from now on contain it."""
        self.ids.tick()
        utc = self.wall()
        return Moment(self.clock.seconds(), utc, events.time_text(utc), utc.timestamp())

    # Called by transports (transport.interfaces.Handler)

    def open(self, link: Link) -> DeviceConnection:
        """Create the handler of a new connection."""
        sentence_serial = self.policy.sentence_serial
        if link.transport_name == "udp":
            parts = self.parts.address(link.peer)
            decoder: Decoder = DatagramDecoder(
                sentence_serial=sentence_serial, parts=parts, withheld=lambda: self.dropped("long_answer")
            )
        else:
            decoder = Decoder(sentence_serial=sentence_serial, parts=Reassembler(self.parts))
        connection = DeviceConnection(self, link, decoder, self.clock.seconds())
        self.connections.add(connection)
        return connection

    def dropped(self, reason: str) -> None:
        """Count a connection or datagram that was closed or rejected for a reason, and warn of limits."""
        self.counters.dropped[reason] += 1
        self._limit_warnings.warn(reason, self.counters.dropped[reason], self.clock.seconds())

    # Called by connections

    def handle_message(self, session: Session, message: Message, moment: Moment) -> None:
        """Queue the message's events for commit; the answer is sent after the commit."""
        at = session.observe_clocks(message, moment)
        steps = session.executor.process_message(message, moment) if session.executor is not None else None
        session.observe_state(message, moment, at)
        session.last_heard = moment.now
        if session.refused:
            session.refused = False
            self.lifecycle.reassert_session(session)
        dialect = message.dialect
        if dialect != session.dialect:
            dialect = session.update_dialect(message)
        refresh = None
        if moment.now - session.refreshed > self.policy.session_refresh:
            session.refreshed = moment.now
            refresh = KeepSession(token=session.token, ttl=self.policy.session_ttl)
        record: CommitRecord
        if message.is_position and refresh is None:
            record = position_record(session, message, moment, dialect, self.ids(), at)
        else:
            record = message_record(session, message, moment, dialect, self.ids, refresh)
        self.counters.frames[dialect, message.events[0][0] if message.events else "none"] += 1
        answer: Answer = message.answer if message.is_position else session.answer_to(message)
        if message.time_answer is not None:
            answer = partial(self._answer_now, message)
        then = None
        if session.fresh and message.report:
            session.fresh = False
            then = partial(self._first_report_committed, session)
        elif message.imei is not None and message.imei != session.imei:
            self.sessions.set_imei(session, message.imei)
            then = partial(self._imei_committed, session.device)
        self.committer.submit(record, session.connection, answer, then)
        if message.impossible_date or message.wrong_length:
            reason = "length" if message.wrong_length else "date"
            self.malformed(session.origin.peer or "", reason, kept_bytes(message), moment.iso)
        if steps is not None:
            steps()

    def _answer_now(self, message: Message) -> bytes | None:
        """The answer with the time at which it is sent, since the commit may have been delayed."""
        return message.answer_at(self.wall())

    def _first_report_committed(self, session: Session, written: bool) -> None:
        if written:
            self.on_reported(session)

    def _imei_committed(self, device: str, written: bool) -> None:
        if written:
            self.on_named(device)

    def malformed(
        self, peer: str, reason: str, raw: bytes, iso: str, sender: DeviceConnection | None = None
    ) -> None:
        """Count and store unreadable input, with passwords masked; `sender` is notified of the commit."""
        self.counters.malformed[reason] += 1
        record = MalformedRecord(peer=peer, reason=reason, raw=raw.hex(), time=iso)
        self.committer.submit(record, sender)

    def may_log(self, now: float) -> bool:
        """Whether another line about bad input may be logged."""
        if now - self._log_window_start >= _LOG_SECONDS:
            self._log_window_start, self._logged = now, 0
        self._logged += 1
        return self._logged <= _LOG_LINES

    def add_paused(self, connection: DeviceConnection) -> None:
        """Resume this connection when the committer has room."""
        self._paused[connection] = None

    # Events of the gateway itself

    def encode(
        self,
        device: str,
        kind: str,
        data: events.EventData,
        session: Session | None = None,
    ) -> str:
        """An event of the gateway itself, as JSON."""
        transport: Literal["tcp", "udp"] | Any = None if session is None else session.origin.transport
        event = events.Event(
            VERSION,
            self.ids(),
            kind,
            device,
            None if session is None else session.imei,
            None if session is None else session.dialect_or_guess(None),
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

    def _resume_paused(self) -> None:
        paused, self._paused = self._paused, {}
        self.time_slicer.run(paused, DeviceConnection.resume_reading)

    def forget_paused(self, connection: DeviceConnection) -> None:
        """Don't resume this connection: it is closed."""
        self._paused.pop(connection, None)
