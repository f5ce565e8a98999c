"""Handles datagrams from addresses at which their device has no session.

Anybody can send datagrams in a device's name. Their events are published and answered, but a datagram never
replaces a TCP connection, and moves a UDP session only with a new and plausible report. Until then the sender
at that address is a guest.
"""

from datetime import timedelta
from functools import partial
from math import asin, cos, radians, sin, sqrt
from typing import Final

from attrs import define, field

from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.event_budget import EventBudget
from jt709c_gateway.gateway.event_records import message_record
from jt709c_gateway.gateway.gateway_events import GatewayEvents
from jt709c_gateway.gateway.interfaces import SessionCallbacks
from jt709c_gateway.gateway.malformed import MalformedInput, kept_bytes
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.rate_limit import RateLimiter
from jt709c_gateway.gateway.session_lifecycle import SessionLifecycle
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.batch import Answer
from jt709c_gateway.redis.commit_router import Commits

#: Metres by which positions of a parked device may differ; its highest speed in metres per second.
_JUMP: Final = 5_000.0
_SPEED: Final = 70.0
#: How far a device's clock may run ahead of the time since its last report, and how much older than that
#: report a new one may be.
_AHEAD: Final = timedelta(minutes=10)
_BEHIND: Final = timedelta(minutes=1)
_EARTH: Final = 6_371_000.0
#: Devices with a budget for guests; the oldest are forgotten first.
_MAX_BUDGETS: Final = 10_000


def live_position(message: Message) -> events.Location | None:
    """The current position in a live report; None when there is none."""
    if message.stored or not message.report:
        return None
    for _, data in message.events:
        if isinstance(data, events.Location):
            return data
    return None


def is_plausible(before: events.Location | None, after: events.Location, elapsed: float) -> bool:
    """Whether a device last reported at `before` may report `after`, `elapsed` seconds later."""
    if after.time is None:
        return False
    if before is None or before.time is None:
        return True
    passed = after.time - before.time
    if not -_BEHIND <= passed <= timedelta(seconds=elapsed) + _AHEAD:
        return False
    places = (before.latitude, before.longitude, after.latitude, after.longitude)
    if None in places or before.fix != "gnss" or after.fix != "gnss":
        return True
    return _metres(*places) <= _JUMP + _SPEED * max(elapsed, passed.total_seconds())  # type: ignore[arg-type]


def _metres(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    north, east = radians(other_latitude - latitude), radians(other_longitude - longitude)
    flat = cos(radians(latitude)) * cos(radians(other_latitude))
    return 2 * _EARTH * asin(min(1.0, sqrt(sin(north / 2) ** 2 + flat * sin(east / 2) ** 2)))


@define(eq=False)
class UdpGuests:
    """Handles messages from UDP addresses at which their device has no session."""

    committer: Commits = field(repr=False)
    events: GatewayEvents = field(repr=False)
    sessions: SessionTable = field(repr=False)
    lifecycle: SessionLifecycle = field(repr=False)
    rate_limiter: RateLimiter = field(repr=False)
    malformed: MalformedInput = field(repr=False)
    counters: Counters = field(repr=False)
    callbacks: SessionCallbacks = field(repr=False)
    #: By device: the budget that all its guests share.
    _budgets: dict[str, EventBudget] = field(factory=dict, repr=False)

    def guest_for(self, connection: SessionConnection, message: Message, moment: Moment) -> Session:
        """The guest session of a device at an address, created when there is none."""
        device = message.device
        guest = connection.guests.get(device)
        if guest is None:
            guest = self.lifecycle.make_session(connection, message, moment)
            guest.budget = self._budget_of(guest)
            registered = self.sessions.get(device)
            if registered is not None and registered.connection.is_datagram:
                # Behind a mobile network's NAT, each report of one device may have another port.
                guest.clock.copy_from(registered.clock, same_link=True)
            connection.guests[device] = guest
        return guest

    def _budget_of(self, guest: Session) -> EventBudget:
        """The budget that all guests in one device's name share."""
        rate_limiter, device = self.rate_limiter, guest.device
        budget = self._budgets.get(device)
        if budget is None and device in self.sessions:
            budget = rate_limiter.allowed.new(guest.opened)
        elif budget is None:
            rate_limiter.assign_budget(guest, None)
            budget = guest.budget
        if device not in self._budgets:
            if len(self._budgets) >= _MAX_BUDGETS:
                del self._budgets[next(iter(self._budgets))]
            self._budgets[device] = budget
        return budget

    def handle_message(self, guest: Session, message: Message, moment: Moment) -> None:
        """Queue a guest's message for commit and answer; the guest may become the device's session."""
        at = guest.observe_clocks(message, moment)
        guest.last_heard = moment.now
        dialect = guest.update_dialect(message)
        registered = self.sessions.get(guest.device)
        moves = False
        steps = None
        if registered is None:
            self._offer(guest, message, moment)
        elif registered.connection.is_datagram:
            moves = self._may_move(registered, message, moment)
            if registered.executor is not None and (moves or self._may_answer(message)):
                steps = registered.executor.process_message(message, moment, elsewhere=True)
        self.counters.frames[dialect, message.events[0][0] if message.events else "none"] += 1
        guest.observe_state(message, moment, at)
        record = message_record(guest, message, moment, dialect, self.events.ids, None, True, moves)
        answer: Answer = guest.answer_to(message)
        if message.time_answer is not None:
            answer = lambda: message.answer_at(self.events.wall())  # noqa: E731
        then = partial(self._move, guest, message, moment) if moves else None
        self.committer.submit(record, guest.connection, answer, then)
        if message.impossible_date:
            self.malformed.record(guest.origin.peer or "", "date", kept_bytes(message), moment.iso)
        if steps is not None:
            steps()

    def _may_answer(self, message: Message) -> bool:
        """Whether a message may answer a command: the command's serial was sent to the device's address."""
        return not message.report and matching.as_reply(message) is not None

    def _may_move(self, registered: Session, message: Message, moment: Moment) -> bool:
        """Whether a report may come from the device at a new address, provided that Redis finds it new."""
        location = live_position(message)
        if location is None or (registered.dialect is not None and message.dialect != registered.dialect):
            return False
        before, heard = registered.connection.last_location(registered.device)
        if not is_plausible(before, location, moment.now - heard):
            return False
        return self.lifecycle.takeovers.may_take_over(registered.device, moment.now)

    def _move(self, guest: Session, message: Message, moment: Moment, new: bool) -> None:
        """Make a guest the device's session, after Redis has found its report new."""
        registered = self.sessions.get(guest.device)
        if (
            not new
            or registered is None
            or not registered.connection.is_datagram
            or not self._is_current(guest)
        ):
            return
        self._end_guest(guest)
        self.lifecycle.start_session(guest, registered, moment)
        self._reported(guest, message)

    def _offer(self, guest: Session, message: Message, moment: Moment) -> None:
        """Offer a guest's session to Redis when no session of its device is here."""
        if guest.offered:
            return
        guest.offered = True
        location = live_position(message)
        report = message.fingerprint if location is not None and location.time is not None else None

        def on_reply(accepted: bool) -> None:
            guest.offered = False
            if accepted and not self._on_accepted(guest, message, moment):
                self.lifecycle.withdraw(guest)

        self.lifecycle.offer(guest, report, moment, on_reply)

    def _on_accepted(self, guest: Session, message: Message, moment: Moment) -> bool:
        """Register a guest's session that Redis has accepted; False when it can't be used any more."""
        if self.sessions.get(guest.device) is not None or not self._is_current(guest):
            return False
        self._end_guest(guest)
        if not self.lifecycle.on_offer_accepted(guest, moment):
            return False
        self._reported(guest, message)
        return True

    def _is_current(self, guest: Session) -> bool:
        return guest.connection.is_open and guest.connection.guests.get(guest.device) is guest

    def _end_guest(self, guest: Session) -> None:
        """Remove a guest that becomes a session."""
        del guest.connection.guests[guest.device]
        self._budgets.pop(guest.device, None)

    def _reported(self, session: Session, message: Message) -> None:
        if session.fresh and message.report:
            session.fresh = False
            self.callbacks.reported(session)
