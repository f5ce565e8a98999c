"""Starts, replaces and ends sessions, here and in Redis, and publishes their `session` events."""

from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal

from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.gateway_events import GatewayEvents
from jt709c_gateway.gateway.interfaces import SessionCallbacks
from jt709c_gateway.gateway.limit_warnings import LimitWarnings
from jt709c_gateway.gateway.policy import Moment, Policy
from jt709c_gateway.gateway.rate_limit import RateLimiter
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.gateway.takeover_limit import TakeoverLimiter
from jt709c_gateway.gateway.time_slices import TimeSlicer
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.commit_records import (
    AffirmSession,
    CloseSession,
    DeviceState,
    EventsRecord,
    LoseSession,
    OfferSession,
    OpenSession,
    PublishedEvent,
    SessionChange,
)
from jt709c_gateway.redis.commit_router import Commits
from jt709c_gateway.util.clock import Clock

#: State and reason of a `session` event.
_Change = tuple[Literal["online", "offline", "replaced"], str]
#: The event of a session that replaces an older one, here or at another gateway.
_TAKEN_OVER: Final[_Change] = ("replaced", "newer connection")
#: Seconds between slices of ending a large connection's sessions while many records await their commit.
_BACKPRESSURE_PAUSE: Final = 0.02


@define(eq=False)
class SessionLifecycle:
    """Starts sessions, replaces them by newer ones, and ends them."""

    policy: Policy
    #: Prefix of this run's session tokens; commit.lua extracts the gateway's name from it.
    token_prefix: str
    committer: Commits = field(repr=False)
    events: GatewayEvents = field(repr=False)
    sessions: SessionTable = field(repr=False)
    rate_limiter: RateLimiter = field(repr=False)
    limit_warnings: LimitWarnings = field(repr=False)
    counters: Counters = field(repr=False)
    callbacks: SessionCallbacks = field(repr=False)
    time_slicer: TimeSlicer = field(repr=False)
    clock: Clock = field(repr=False)
    takeovers: TakeoverLimiter = field(factory=TakeoverLimiter, repr=False)
    _tokens: int = 0

    # Devices connect

    def make_session(self, connection: SessionConnection, message: Message, moment: Moment) -> Session:
        """Make a session of a device on a connection, without registering it."""
        self._tokens += 1
        session = Session(
            message.device,
            connection,
            f"{self.token_prefix}{self._tokens}",
            moment.iso,
            moment.now,
            connection.origin,
            # An IMEI that isn't the device id is set when the message is handled.
            message.imei if message.imei == message.device else None,
            message.identity_wire,
            moment.now,
            moment.now,
        )
        session.label = self.events.labels.get(session.device, "")
        session.utc8 = self.policy.utc8.is_sent_by(session.device)
        return session

    def open_session(self, connection: SessionConnection, message: Message, moment: Moment) -> Session | None:
        """Start a session for a device's first message on a connection; None when there is no room."""
        session = self.make_session(connection, message, moment)
        before = self.sessions.get(message.device)
        if before is None and not self._make_room(moment):
            connection.link.close("max_sessions")
            return None
        self.rate_limiter.assign_budget(session, before)
        self.start_session(session, before, moment)
        return session

    def must_wait(self, connection: SessionConnection, device: str, moment: Moment) -> bool:
        """Whether a device has to wait before it may replace its older session, after too many takeovers."""
        if self.takeovers.may_take_over(device, moment.now):
            return False
        self.counters.contested += 1
        before = self.sessions.get(device)
        first = None if before is None else before.origin.peer or ""
        self.takeovers.warn_once(device, first, connection.link.peer)
        return True

    def start_session(self, session: Session, before: Session | None, moment: Moment) -> None:
        """Register a session, here and in Redis, and publish it."""
        transitions: list[_Change] = []
        if before is None:
            # Only Redis knows whether another gateway has an older session of this device.
            transitions = [("online", "connected"), _TAKEN_OVER]
        elif not (session.connection.is_datagram and before.connection.is_datagram):
            # A new UDP address behind a mobile network's NAT is not a new connection.
            transitions = [_TAKEN_OVER]
        ttl = self.policy.session_ttl
        opening = OpenSession(token=session.token, ttl=ttl, fields=session.hash_fields())
        lasted = None if before is None else round(moment.now - before.opened, 3)
        self._commit_change(session, transitions, lasted, moment, opening)
        self._replace(session, before, moment, transitions)

    def offer(self, session: Session, report: str | None, moment: Moment, then: Any) -> None:
        """Ask Redis to accept a session that datagrams have started; `then` gets whether it did.

        Redis refuses while another gateway has the device over TCP, or over UDP unless the fingerprint
        `report` is new.
        """
        transitions: list[_Change] = [("online", "connected"), _TAKEN_OVER]
        ttl = self.policy.session_ttl
        fields = session.hash_fields()
        offering = OfferSession(token=session.token, ttl=ttl, fields=fields, report=report or "")
        self._commit_change(session, transitions, None, moment, offering, then)

    def on_offer_accepted(self, session: Session, moment: Moment) -> bool:
        """Register a session that Redis has accepted; False when there is no room for it."""
        if not self._make_room(moment):
            session.connection.link.close("max_sessions")
            return False
        session.stored = True
        self._replace(session, None, moment, [("online", "connected")])
        return True

    def withdraw(self, session: Session) -> None:
        """End a session in Redis that was accepted but can't be used any more."""
        transitions: list[_Change] = [("offline", "replaced")]
        closing = CloseSession(token=session.token)
        self._commit_change(session, transitions, None, self.events.moment(), closing)

    def _replace(
        self, session: Session, before: Session | None, moment: Moment, transitions: list[_Change]
    ) -> None:
        self.sessions.put(session)
        session.connection.sessions[session.device] = session
        if transitions:
            # A reconnection is charged, since its event takes room in the stream.
            session.budget.allowance -= before is not None
            self.counters.sessions[transitions[0][0]] += 1
        if before is not None:
            session.lock_state, session.state_at = before.lock_state, before.state_at
            session.sublocks = before.sublocks
            if transitions:
                # Otherwise the guest's clock has continued from the older one and has observed more since.
                session.clock.copy_from(before.clock, same_link=False)
            session.dialect, session.guess = before.dialect, before.guess
            session.proofs = before.proofs
            session.master_version, session.sentence_version = before.master_version, before.sentence_version
            self.takeovers.record(session.device, moment.now)
            self._end_replaced(before)
        self.callbacks.online(session)

    def _make_room(self, moment: Moment) -> bool:
        """Evict a session beyond its guaranteed number if the table is full; False when there is none."""
        if not self.sessions.full:
            return True
        if (going := self.sessions.room.first_to_go()) is None:
            return False
        self.limit_warnings.dropped("evicted")
        self.end_session(going, "max_sessions", moment)
        link = going.connection
        if link.is_open and not link.sessions:
            link.link.close("max_sessions")
        return True

    # Devices move

    def session_superseded(self, session: Session) -> None:
        """End a session whose device has a newer one at another gateway."""
        now = self.clock.seconds()
        if self.sessions.remove(session):
            self.counters.sessions["replaced"] += 1
            self.rate_limiter.remember_budget(session, now)
            self.takeovers.record(session.device, now)
            self._end_replaced(session)

    def reassert_session(self, session: Session) -> None:
        """Store a session in Redis again if it is missing there, and publish that."""
        ttl = self.policy.session_ttl
        stored = AffirmSession(token=session.token, ttl=ttl, fields=session.hash_fields())
        self._commit_change(session, [("online", "known again")], None, self.events.moment(), stored)

    def restore_to_redis(self, session: Session) -> None:
        """Store a session and its device's summary again, after Redis may have lost all data."""
        self.reassert_session(session)
        moment = self.events.moment()
        heard = moment.epoch - (moment.now - session.last_heard)
        iso = datetime.fromtimestamp(heard, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        state = DeviceState(dialect=session.dialect, imei=session.imei)
        record = EventsRecord(device=session.device, seen=iso, seen_at=heard, state=state)
        self.committer.submit(record)

    def mark_offline(self, device: str, gateway: str, gone: bool) -> None:
        """Publish that a dead gateway's device is offline, unless it has reconnected.

        `gone` says that the gateway is known to be dead, even if its heartbeat is still in Redis.
        """
        moment = self.events.moment()
        data = events.Session("offline", "gateway died", None)
        event = (events.KIND_SESSION, self.events.encode(device, events.KIND_SESSION, data))
        record = EventsRecord(
            device=device,
            seen=moment.iso,
            seen_at=moment.epoch,
            events=[event],
            session=LoseSession(gateway=gateway, gone=gone, living=self.token_prefix),
        )
        self.committer.submit(record)

    def _end_replaced(self, before: Session) -> None:
        """Close the connection of a replaced session, unless other devices use it too."""
        self.callbacks.offline(before, "replaced")
        old = before.connection
        old.sessions.pop(before.device, None)
        if not old.sessions:
            old.link.close("replaced")

    # Devices disconnect

    def connection_closed(self, connection: SessionConnection, reason: str) -> None:
        """End all sessions of a closed connection, except those that have moved."""
        connection.guests.clear()
        end = partial(self.end_session, reason=reason, moment=self.events.moment())
        self.time_slicer.run(list(connection.sessions.values()), end, self._backpressure)

    def _backpressure(self) -> "defer.Deferred[None] | None":
        committer = self.committer
        if committer.unacked < committer.max_unacked // 2:
            return None
        return task.deferLater(self.clock, _BACKPRESSURE_PAUSE, lambda: None)  # type: ignore[arg-type]

    def end_session(self, session: Session, reason: str, moment: Moment) -> None:
        """End a session, unless its device has a newer one by now."""
        there = session.connection.sessions
        if there.get(session.device) is session:
            del there[session.device]
        if self.sessions.remove(session):
            lasted = round(moment.now - session.opened, 3)
            self.counters.sessions["offline"] += 1
            self.rate_limiter.remember_budget(session, moment.now)
            closing = CloseSession(token=session.token)
            self._commit_change(session, [("offline", reason)], lasted, moment, closing)
            self.callbacks.offline(session, reason)

    # Events

    def _commit_change(
        self,
        session: Session,
        transitions: list[_Change],
        lasted: float | None,
        moment: Moment,
        change: SessionChange,
        then: Any = None,
    ) -> None:
        """Commit a session's change, and its `session` events.

        A second event in `transitions` is published only if the change ends an older session of another
        gateway or run.
        """
        packed: list[PublishedEvent] = []
        if transitions:
            changes = [events.Session(state, reason, lasted) for state, reason in transitions]
            encode = partial(self.events.encode, session.device, events.KIND_SESSION, session=session)
            texts = [encode(data) for data in changes]
            packed.append((events.KIND_SESSION, *texts))
        record = EventsRecord(
            device=session.device, seen=moment.iso, seen_at=moment.epoch, events=packed, session=change
        )
        self.committer.submit(record, None, None, then or session.on_stored)
