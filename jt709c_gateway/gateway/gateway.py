"""The gateway's core: passes messages from connections to sessions, commands and the committer."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from operator import methodcaller

from attrs import define, field

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.connection import DeviceConnection
from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.event_budget import EventAllowance
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.event_records import message_record, position_record
from jt709c_gateway.gateway.gateway_events import GatewayEvents
from jt709c_gateway.gateway.idle_timeout import IdleTimeout
from jt709c_gateway.gateway.interfaces import NoSession, SessionCallbacks
from jt709c_gateway.gateway.limit_warnings import LimitWarnings
from jt709c_gateway.gateway.malformed import MalformedInput, kept_bytes
from jt709c_gateway.gateway.new_device_limit import KnownDevices, NewDeviceLimiter
from jt709c_gateway.gateway.policy import Moment, Policy
from jt709c_gateway.gateway.rate_limit import RateLimiter
from jt709c_gateway.gateway.session_admission import SessionAdmission
from jt709c_gateway.gateway.session_lifecycle import SessionLifecycle
from jt709c_gateway.gateway.session_limits import SessionLimits
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.gateway.time_slices import TimeSlicer
from jt709c_gateway.gateway.udp_decoder import DatagramDecoder
from jt709c_gateway.gateway.udp_guests import UdpGuests
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.reassembly import PartStore, Reassembler
from jt709c_gateway.redis.batch import Answer
from jt709c_gateway.redis.commit_records import CommitRecord, KeepSession
from jt709c_gateway.redis.commit_router import Commits
from jt709c_gateway.transport.interfaces import SHUTDOWN, Link
from jt709c_gateway.util.clock import Clock


@define(eq=False)
class Gateway:
    """Handles every message: updates its session, commits its events, and sends its answer after that."""

    name: str
    clock: Clock
    committer: Commits
    ids: EventIds
    policy: Policy = field(factory=Policy)
    admission: Admission = field(factory=Admission)
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)
    #: Looks up which devices have connected before; None without a lookup.
    known_devices: KnownDevices | None = None
    counters: Counters = field(factory=Counters)
    callbacks: SessionCallbacks = field(factory=SessionCallbacks)
    #: Set while stopping: frames are dropped unanswered, so that devices send them to another gateway.
    draining: bool = False
    events: GatewayEvents = field(init=False, repr=False)
    malformed: MalformedInput = field(init=False, repr=False)
    sessions: SessionTable = field(init=False)
    rate_limiter: RateLimiter = field(init=False, repr=False)
    lifecycle: SessionLifecycle = field(init=False, repr=False)
    session_admission: SessionAdmission = field(init=False, repr=False)
    idle_timeout: IdleTimeout = field(init=False, repr=False)
    time_slicer: TimeSlicer = field(init=False, repr=False)
    connections: set[SessionConnection] = field(factory=set, repr=False)
    #: Parts of split messages, of all connections.
    parts: PartStore = field(factory=PartStore, init=False, repr=False)
    _udp_guests: UdpGuests = field(init=False, repr=False)
    _limit_warnings: LimitWarnings = field(init=False, repr=False)
    #: Connections that paused reading, in that order.
    _paused: dict[SessionConnection, None] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        policy, committer, counters, callbacks = self.policy, self.committer, self.counters, self.callbacks
        self.events = events = GatewayEvents(
            self.name, self.ids, self.clock, self.wall, moment_length=policy.moment_length
        )
        self.malformed = malformed = MalformedInput(committer, counters)
        self.time_slicer = slicer = TimeSlicer(self.clock)
        self._limit_warnings = warnings = LimitWarnings(counters, self.clock)
        room = SessionLimits(policy.devices_per_connection, policy.sessions_per_address)
        self.sessions = sessions = SessionTable(policy.max_sessions, room)
        self.rate_limiter = limiter = RateLimiter(
            sessions, EventAllowance(policy.max_rate, policy.max_share), malformed, counters, slicer
        )
        self.lifecycle = lifecycle = SessionLifecycle(
            policy,
            self.token_prefix,
            committer,
            events,
            sessions,
            limiter,
            warnings,
            counters,
            callbacks,
            slicer,
            self.clock,
        )
        self.idle_timeout = IdleTimeout(policy, self.clock, events, lifecycle)
        self._udp_guests = guests = UdpGuests(
            committer, events, sessions, lifecycle, limiter, malformed, counters, callbacks
        )
        self.session_admission = SessionAdmission(
            sessions,
            self.admission,
            NewDeviceLimiter(policy.max_new_devices, self.known_devices),
            limiter,
            lifecycle,
            guests,
            malformed,
            slicer,
        )

    @property
    def token_prefix(self) -> str:
        """Prefix of this run's session tokens; commit.lua extracts the gateway's name from it."""
        return f"{self.name}/{self.committer.boot}-"

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
        self._limit_warnings.dropped(reason)

    # Called by connections (interfaces.ConnectionGateway)

    def session_for(
        self, connection: SessionConnection, message: Message, moment: Moment, admitted: bool | None = None
    ) -> Session | NoSession:
        """The session for a message of a device that is new here, or has used up its budget."""
        return self.session_admission.session_for(connection, message, moment, admitted)

    def handle_guest_message(self, guest: Session, message: Message, moment: Moment) -> None:
        """As `handle_message`, for a device whose session is not at this UDP address."""
        self._udp_guests.handle_message(guest, message, moment)

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
        named = message.imei is not None and message.imei != session.imei
        if message.imei is not None and named:
            self.sessions.set_imei(session, message.imei)
            then = partial(self._imei_committed, session.device)
        if session.fresh and message.report:
            session.fresh = False
            then = partial(self._first_report_committed, session, named)
        self.committer.submit(record, session.connection, answer, then)
        if message.impossible_date or message.wrong_length:
            reason = "length" if message.wrong_length else "date"
            self.malformed.record(session.origin.peer or "", reason, kept_bytes(message), moment.iso)
        if steps is not None:
            steps()

    def _answer_now(self, message: Message) -> bytes | None:
        """The answer with the time at which it is sent, since the commit may have been delayed."""
        return message.answer_at(self.wall())

    def _first_report_committed(self, session: Session, named: bool, written: bool) -> None:
        if written:
            self.callbacks.reported(session)
        if named:
            self._imei_committed(session.device, written)

    def _imei_committed(self, device: str, written: bool) -> None:
        if written:
            self.callbacks.named(device)

    def session_superseded(self, session: Session) -> None:
        """End a session whose device has a newer one at another gateway."""
        self.lifecycle.session_superseded(session)

    def connection_closed(self, connection: SessionConnection, reason: str) -> None:
        """End all sessions of a closed connection, except those that have moved."""
        self.connections.discard(connection)
        self._paused.pop(connection, None)
        self.rate_limiter.forget(connection)
        self.lifecycle.connection_closed(connection, reason)

    def add_paused(self, connection: SessionConnection) -> None:
        """Resume this connection when the committer has room."""
        self._paused[connection] = None

    def resume_paused(self) -> None:
        """Resume reading: the committer has room."""
        paused, self._paused = self._paused, {}
        self.time_slicer.run(paused, methodcaller("resume_reading"))

    # Maintenance

    def sweep(self) -> None:
        """Close idle connections and resume throttled ones; call it every few seconds."""
        self.rate_limiter.resume_throttled()
        self.parts.expire(self.clock.seconds())
        self.time_slicer.run(list(self.connections), self.idle_timeout.check)

    def close_connections(self, reason: str = SHUTDOWN) -> None:
        """Close every connection, which ends all sessions."""
        for connection in list(self.connections):
            connection.link.close(reason)
