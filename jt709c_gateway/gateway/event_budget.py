"""Event budget of a device: a rate in events per second, and a share of the stream in events per hour."""

from math import inf
from typing import Final

from attrs import define, field, frozen

from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.message import Message

#: Seconds of the rate that a device may use in one burst.
_BURST: Final = 10.0
#: Seconds in which a used share is restored.
_SHARE_PERIOD: Final = 3600.0
#: Smallest share, in events per hour, however short the stream is.
_LEAST_SHARE: Final = 1000.0


def share_of(stream: int, percent: float) -> float:
    """Share of one device, in events per hour, of a stream of this length; 0 for no limit."""
    return max(stream * percent / 100, _LEAST_SHARE) if percent else 0.0


@frozen
class EventAllowance:
    """Limits per device: `rate` in events per second, `share` in events per hour; 0 for no limit."""

    rate: float = 0.0
    share: float = 0.0

    @property
    def burst(self) -> float:
        """Events that the rate allows in one burst."""
        return max(self.rate * _BURST, 1.0) if self.rate else inf

    def new(self, now: float) -> "EventBudget":
        """A full budget. `now` is in monotonic seconds."""
        budget = EventBudget(self.burst, self.share or inf, now)
        budget.allowance = budget.granted = min(budget.of_rate, budget.of_share)
        return budget


@define(eq=False)
class EventBudget:
    """What one device has left of both limits; it is kept from session to session."""

    of_rate: float
    of_share: float
    counted_at: float
    #: Events until the next `refill`, and their number after the last one.
    allowance: float = field(default=inf, init=False)
    granted: float = field(default=inf, init=False)
    #: Active alarms in its last live report: each change is an event.
    alarms: tuple[str, ...] = field(default=(), init=False)
    #: Whether it was logged that the device exceeds its limit.
    warned: bool = field(default=False, init=False)

    def refill(self, allowed: EventAllowance, now: float) -> bool:
        """Restore the budget for the time since the last call; returns whether another event is allowed."""
        if self.granted == inf:
            return True
        used, passed = self.granted - self.allowance, now - self.counted_at
        self.counted_at = now
        self.of_rate = min(self.of_rate - used + allowed.rate * passed, allowed.burst)
        if allowed.share:
            earned = allowed.share / _SHARE_PERIOD * passed
            self.of_share = min(self.of_share - used + earned, allowed.share)
        self.allowance = self.granted = min(self.of_rate, self.of_share)
        return self.allowance >= 1

    @property
    def spent_share(self) -> bool:
        """Whether the share, and not the rate, is exhausted."""
        return self.of_share < self.of_rate

    def is_full(self, allowed: EventAllowance) -> bool:
        """Whether nothing was used up, as of the last `refill`."""
        return self.of_rate >= allowed.burst and (not allowed.share or self.of_share >= allowed.share)

    def charge(self, message: Message) -> None:
        """Charge a message: one for each event in it, and one for each alarm that begins or ends."""
        reported = message.events
        cost = len(reported) or 1
        if not message.stored:
            for _, data in reported:
                if isinstance(data, events.Location) and data.alarms != self.alarms:
                    cost += len(set(self.alarms).symmetric_difference(data.alarms))
                    self.alarms = data.alarms
        self.allowance -= cost
