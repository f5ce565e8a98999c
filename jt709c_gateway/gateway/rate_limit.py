"""Admits devices and limits how many events each may cause (docs/operations.rst)."""

from operator import methodcaller
from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.event_budget import EventAllowance, EventBudget
from jt709c_gateway.gateway.malformed import MalformedInput, kept_bytes
from jt709c_gateway.gateway.new_device_limit import NewDeviceLimiter
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.gateway.time_slices import TimeSlicer
from jt709c_gateway.protocol.message import Message

#: Reason for which a connection is closed, or a frame is stored in `jt709c:malformed`.
NOT_ADMITTED: Final = "not_admitted"
#: Disconnected devices whose budget is kept; the oldest are forgotten first.
_MAX_REMEMBERED: Final = 20_000
#: Rejected devices that were logged; the oldest are forgotten first.
_MAX_REPORTED: Final = 10_000


@define(eq=False)
class RateLimiter:
    """Admits and rejects devices, and throttles those that send too much."""

    log = Logger()

    sessions: SessionTable = field(repr=False)
    admission: Admission
    #: Events that one device may cause.
    allowed: EventAllowance
    new_device_limiter: NewDeviceLimiter
    malformed: MalformedInput = field(repr=False)
    counters: Counters = field(repr=False)
    time_slicer: TimeSlicer = field(repr=False)
    _throttled: dict[SessionConnection, None] = field(factory=dict, repr=False)
    _reported: dict[str, None] = field(factory=dict, repr=False)
    #: Budgets of disconnected devices, unless full.
    _remembered: dict[str, EventBudget] = field(factory=dict, repr=False)

    def admits(self, device: str) -> bool | None:
        """Whether a device is admitted; None when Redis has to be queried."""
        # A connected device was admitted when it connected, and is checked by each review.
        return device in self.sessions or self.admission.admits(device)

    def reject(self, connection: SessionConnection, message: Message, moment: Moment) -> None:
        """Close the connection of a device that isn't admitted, without an answer; log and store that once.

        A UDP address with sessions of other devices stays open: the source of a datagram can be forged.
        """
        link, device = connection.link, message.device
        if device not in self._reported and self.malformed.may_log(moment.now):
            if len(self._reported) >= _MAX_REPORTED:
                del self._reported[next(iter(self._reported))]
            self._reported[device] = None
            self.log.info("lock {device} at {peer} is not admitted", device=device, peer=link.peer)
            self.malformed.store(link.peer, NOT_ADMITTED, kept_bytes(message), moment.iso)
        if connection.is_datagram:
            connection.drop_datagram(NOT_ADMITTED)
        else:
            link.close(NOT_ADMITTED)

    async def review(self) -> None:
        """Close the connections of devices that are no longer admitted."""
        gone = await self.admission.review([session.device for session in self.sessions])
        if gone:
            self.log.info("{count} locks are admitted no more: {first} …", count=len(gone), first=gone[0])
        self.time_slicer.run(gone, self._close)

    def admits_new_device(self, connection: SessionConnection, device: str, now: float) -> bool:
        """Whether a device without session may connect now, within its address's limit of new devices."""
        if device in self.sessions:
            return True
        return self.new_device_limiter.admits(connection.link.peer, device, now)

    def is_exhausted(self, device: str, now: float) -> bool:
        """Whether the budget of a device that connects is used up."""
        session = self.sessions.get(device)
        budget = self._remembered.get(device) if session is None else session.budget
        return budget is not None and not budget.refill(self.allowed, now)

    def _close(self, device: str) -> None:
        if (session := self.sessions.get(device)) is not None:
            session.connection.link.close(NOT_ADMITTED)

    def assign_budget(self, session: Session, before: Session | None) -> None:
        """Give a new session its budget: the device's earlier one, if there is any."""
        if before is not None:
            session.budget = before.budget
        else:
            left = self._remembered.pop(session.device, None)
            session.budget = self.allowed.new(session.opened) if left is None else left

    def remember_budget(self, session: Session, now: float) -> None:
        """Keep the budget of a session that ends for the device's next one."""
        budget = session.budget
        # Its two `session` events.
        budget.allowance -= 2
        budget.refill(self.allowed, now)
        if budget.is_full(self.allowed):
            return
        if len(self._remembered) >= _MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[session.device] = budget

    def allows(self, session: Session, now: float) -> bool:
        """Whether a session may cause another event."""
        return session.budget.allowance >= 1 or session.budget.refill(self.allowed, now)

    def warn_once(self, connection: SessionConnection, session: Session, now: float) -> None:
        """Log, once per budget, that a device exceeds its limit."""
        budget = session.budget
        if not budget.warned and self.malformed.may_log(now):
            budget.warned = True
            self.log.warn(
                "lock {device} at {peer} sends more than {most:g} events {span} ({option})",
                device=session.device,
                peer=connection.link.peer,
                most=self.allowed.share if budget.spent_share else self.allowed.rate,
                span="an hour" if budget.spent_share else "a second",
                option="--max-share" if budget.spent_share else "--max-rate",
            )

    def throttle(self, connection: SessionConnection) -> None:
        """Count a connection whose device exceeds its limit, and resume it later."""
        if connection not in self._throttled:
            self.counters.rate_pauses += 1
        self.resume_later(connection)

    def resume_later(self, connection: SessionConnection) -> None:
        """Resume a connection with the next `resume_throttled`."""
        self._throttled[connection] = None

    def resume_throttled(self) -> None:
        """Resume throttled connections; call it every few seconds."""
        throttled, self._throttled = self._throttled, {}
        self.time_slicer.run(throttled, methodcaller("resume_reading"))

    def forget(self, connection: SessionConnection) -> None:
        """Don't resume this connection: it is closed."""
        self._throttled.pop(connection, None)
