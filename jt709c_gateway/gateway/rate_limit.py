"""Limits how many events each device may cause (docs/operations.rst)."""

from operator import methodcaller
from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.gateway.event_budget import EventAllowance, EventBudget
from jt709c_gateway.gateway.malformed import MalformedInput
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.gateway.time_slices import TimeSlicer

#: Disconnected devices whose budget is kept; the oldest are forgotten first.
_MAX_REMEMBERED: Final = 20_000


@define(eq=False)
class RateLimiter:
    """Keeps the budgets of devices, and throttles those that send too much."""

    log = Logger()

    sessions: SessionTable = field(repr=False)
    #: Events that one device may cause.
    allowed: EventAllowance
    malformed: MalformedInput = field(repr=False)
    counters: Counters = field(repr=False)
    time_slicer: TimeSlicer = field(repr=False)
    _throttled: dict[SessionConnection, None] = field(factory=dict, repr=False)
    #: Budgets of disconnected devices, unless full.
    _remembered: dict[str, EventBudget] = field(factory=dict, repr=False)

    def is_exhausted(self, device: str, now: float) -> bool:
        """Whether the budget of a device that connects is used up."""
        session = self.sessions.get(device)
        budget = self._remembered.get(device) if session is None else session.budget
        return budget is not None and not budget.refill(self.allowed, now)

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
