"""Datagrams from where their lock has no session: heard and answered, and perhaps the session's new place.

Anybody may send datagrams in a lock's name. What they say is published and answered, as all that is said in
its name; but they displace no TCP connection, and move a session over UDP only with a report that is new and
plausible. Until then whoever speaks there is a guest.
"""

from datetime import timedelta
from functools import partial
from math import asin, cos, radians, sin, sqrt
from typing import TYPE_CHECKING, Final

from attrs import define, field

from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.connection import DeviceConnection
from jt709c_gateway.gateway.event_budget import EventBudget
from jt709c_gateway.gateway.event_records import listen, record_of
from jt709c_gateway.gateway.rate_limit import kept
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.batch import Answer
from jt709c_gateway.redis.committer import Content

if TYPE_CHECKING:
    from jt709c_gateway.gateway.gateway import Gateway, Moment

#: Metres by which positions of a lock that stands still may differ; metres a second that it travels at most.
_JUMP: Final = 5_000.0
_SPEED: Final = 70.0
#: Seconds by which a lock's clock may run ahead of what has passed here since its last report, and by which a
#: report may be older than that.
_AHEAD: Final = timedelta(minutes=10)
_BEHIND: Final = timedelta(minutes=1)
#: Places in a record, and how many there are: see the head of `commit.lua`.
_TOKEN: Final = 9
_ASKS: Final = 11
_VALUES: Final = 12
_EARTH: Final = 6_371_000.0
#: Devices of which is known how much was sent in their names. The first of more are forgotten.
_MAX_BUDGETS: Final = 10_000


def live_position(message: Message) -> events.Location | None:
    """Where a report says that its lock is now."""
    if message.stored or not message.report:
        return None
    for _, data in message.facts:
        if isinstance(data, events.Location):
            return data
    return None


def is_plausible(before: events.Location | None, after: events.Location, elapsed: float) -> bool:
    """Whether a lock last heard at `before` may report `after`, so many seconds later."""
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


def _as_a_guests(content: Content, asks: bool) -> Content:
    """A record without token, being said in nobody's session; with `asks` we are told if it was known."""
    values = [*content, *[None] * (_VALUES - len(content))]
    values[_TOKEN], values[_ASKS] = None, asks
    return tuple(values)


@define(eq=False)
class UdpGuests:
    """Hears what comes from addresses without a session."""

    gateway: "Gateway" = field(repr=False)
    #: By device: what guests may still send in its name.
    _budgets: dict[str, EventBudget] = field(factory=dict, repr=False)

    def receive(self, conversation: DeviceConnection, message: Message, moment: "Moment") -> Session:
        """Whoever speaks at an address in the name of a device that has no session there."""
        device = message.device
        guest = conversation.guests.get(device)
        if guest is None:
            guest = self.gateway.presence.make(conversation, message, moment)
            guest.budget = self._budget_of(guest)
            registered = self.gateway.sessions.get(device)
            if registered is not None and registered.conversation.is_datagram:
                # Behind a mobile network's NAT, each report of one lock may come from another port.
                guest.clock.take_over(registered.clock, same_link=True)
            conversation.guests[device] = guest
        return guest

    def _budget_of(self, guest: Session) -> EventBudget:
        """What guests may send in the name of one device, all together."""
        gate, device = self.gateway.gate, guest.device
        budget = self._budgets.get(device)
        if budget is None and device in self.gateway.sessions:
            budget = gate.allowed.new(guest.opened)
        elif budget is None:
            gate.begin(guest, None)
            budget = guest.budget
        if device not in self._budgets:
            if len(self._budgets) >= _MAX_BUDGETS:
                del self._budgets[next(iter(self._budgets))]
            self._budgets[device] = budget
        return budget

    def hear(self, guest: Session, message: Message, moment: "Moment") -> None:
        """Have what a guest says committed and answered; he takes the session over if that may be."""
        gateway = self.gateway
        listen(guest, message, moment)
        guest.last_heard = moment.now
        dialect = guest.hear_dialect(message)
        registered = gateway.sessions.get(guest.device)
        moves = False
        steps = None
        if registered is None:
            self._offer(guest, message, moment)
        elif registered.conversation.is_datagram:
            moves = self._may_move(registered, message, moment)
            if registered.executor is not None and (moves or self._answers(message)):
                steps = registered.executor.process_message(message, moment, elsewhere=True)
        gateway.counters.frames[dialect, message.facts[0][0] if message.facts else "none"] += 1
        content = record_of(guest, message, moment, dialect, gateway.ids, None)
        answer: Answer = guest.answer_to(message)
        if message.time_answer is not None:
            answer = lambda: message.answer_at(gateway.wall())  # noqa: E731
        then = partial(self._move, guest, message, moment) if moves else None
        gateway.committer.submit(_as_a_guests(content, moves), guest.conversation, answer, then)
        if message.impossible_date:
            gateway.malformed(guest.origin.peer or "", "date", kept(message), moment.iso)
        if steps is not None:
            steps()

    def _answers(self, message: Message) -> bool:
        """Whether it may answer a command: its serial was sent to where the lock was."""
        return not message.report and matching.as_reply(message) is not None

    def _may_move(self, registered: Session, message: Message, moment: "Moment") -> bool:
        """Whether a report may be the lock's at a new address, if Redis doesn't know it."""
        location = live_position(message)
        if location is None or (registered.dialect is not None and message.dialect != registered.dialect):
            return False
        before, heard = registered.conversation.place(registered.device)
        if not is_plausible(before, location, moment.now - heard):
            return False
        return self.gateway.presence.contests.may_take_over(registered.device, moment.now)

    def _move(self, guest: Session, message: Message, moment: "Moment", new: bool) -> None:
        """Where a new report came from, the session is from now on."""
        registered = self.gateway.sessions.get(guest.device)
        if (
            not new
            or registered is None
            or not registered.conversation.is_datagram
            or not self._is_here(guest)
        ):
            return
        self._settle(guest)
        self.gateway.presence.begin(guest, registered, moment)
        self._reported(guest, message)

    def _offer(self, guest: Session, message: Message, moment: "Moment") -> None:
        """Nobody here has the device: the session is the guest's, unless another gateway has it."""
        if guest.offered:
            return
        guest.offered = True
        location = live_position(message)
        report = message.fingerprint if location is not None and location.time is not None else None

        def told(accepted: bool) -> None:
            guest.offered = False
            if accepted and not self._accepted(guest, message, moment):
                self.gateway.presence.withdraw(guest)

        self.gateway.presence.offer(guest, report, moment, told)

    def _accepted(self, guest: Session, message: Message, moment: "Moment") -> bool:
        """Redis has taken the guest's session; False when it is of no use any more."""
        if self.gateway.sessions.get(guest.device) is not None or not self._is_here(guest):
            return False
        self._settle(guest)
        if not self.gateway.presence.accepted(guest, moment):
            return False
        self._reported(guest, message)
        return True

    def _is_here(self, guest: Session) -> bool:
        return guest.conversation.is_open and guest.conversation.guests.get(guest.device) is guest

    def _settle(self, guest: Session) -> None:
        """He is a guest no longer."""
        del guest.conversation.guests[guest.device]
        self._budgets.pop(guest.device, None)

    def _reported(self, session: Session, message: Message) -> None:
        if session.fresh and message.report:
            session.fresh = False
            self.gateway.on_reported(session)
