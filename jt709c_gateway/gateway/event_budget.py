"""How many events one device may still cause: so many a second, and so many of the stream in an hour."""

from math import inf
from typing import Final

from attrs import define, field, frozen

from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.message import Message

#: A device may send the events of so many seconds at once.
_BURST: Final = 10.0
#: Seconds in which a device's share of the stream comes back.
_SHARE_PERIOD: Final = 3600.0
#: Events an hour that a lock may cause in any case: a short stream is no reason to hear it no more.
_LEAST_SHARE: Final = 1000.0


def share_of(stream: int, percent: float) -> float:
    """Events an hour of one lock, for a stream of so many; 0 for any number."""
    return max(stream * percent / 100, _LEAST_SHARE) if percent else 0.0


@frozen
class EventAllowance:
    """`rate` is events a second, `share` events an hour, at once if need be; 0 is any number."""

    rate: float = 0.0
    share: float = 0.0

    @property
    def burst(self) -> float:
        """Events that may come at once as far as the rate goes."""
        return max(self.rate * _BURST, 1.0) if self.rate else inf

    def new(self, now: float) -> "EventBudget":
        """What a device has that was not heard before. `now` in seconds, monotonic."""
        budget = EventBudget(self.burst, self.share or inf, now)
        budget.allowance = budget.granted = min(budget.of_rate, budget.of_share)
        return budget


@define(eq=False)
class EventBudget:
    """What one device has left of both. It goes along from session to session."""

    of_rate: float
    of_share: float
    counted_at: float
    #: Events that it may cause before it is looked at how fast it does, and how many these were at first.
    allowance: float = field(default=inf, init=False)
    granted: float = field(default=inf, init=False)
    #: The active alarms that its last live report named: each that changes is an event.
    alarms: tuple[str, ...] = field(default=(), init=False)
    #: It was reported that it sends too much.
    warned: bool = field(default=False, init=False)

    def refill(self, allowed: EventAllowance, now: float) -> bool:
        """Whether it may cause one more event: what it has used up comes back with time."""
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
        """Whether it is the share, rather than the rate, that it has used up."""
        return self.of_share < self.of_rate

    def is_full(self, allowed: EventAllowance) -> bool:
        """Whether nothing is used up, as of the last look."""
        return self.of_rate >= allowed.burst and (not allowed.share or self.of_share >= allowed.share)

    def charge(self, message: Message) -> None:
        """Take off what a message causes: an event for each fact, and for each alarm that begins or ends."""
        facts = message.facts
        cost = len(facts) or 1
        if not message.stored:
            for _, data in facts:
                if isinstance(data, events.Location) and data.alarms != self.alarms:
                    cost += len(set(self.alarms).symmetric_difference(data.alarms))
                    self.alarms = data.alarms
        self.allowance -= cost
