"""What was last heard of the sub-locks behind one master."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.protocol.events import Peripheral

#: Sub-locks kept per master; the longest unheard are forgotten first.
MAX_SUBLOCKS: Final = 100


@define
class SubLockStates:
    """The newest states of sub-locks, and the last event of each. All times are epoch seconds."""

    #: id -> when, locked or unlocked
    _states: dict[str, tuple[float, str]] = field(factory=dict)
    #: id -> the sub-lock's own time, code
    _events: dict[str, tuple[datetime, int]] = field(factory=dict)
    #: id -> the sub-lock's clock, which is none of its master's
    _clocks: dict[str, LockClock] = field(factory=dict, repr=False)

    def observe(self, data: Peripheral, now: float, wire: bytes) -> None:
        """Have a sub-lock's clock learn from its report, but for one that its master had kept."""
        if data.resent is not True and data.contact_lost is not True:
            clock = self._clocks.get(data.peripheral) or LockClock()
            clock.observe(data.time, now, wire)
            _keep(self._clocks, data.peripheral, clock)

    def event_time(self, data: Peripheral, now: float) -> float | None:
        """When a report that came at `now` took place; None without a time that can be true."""
        return (self._clocks.get(data.peripheral) or LockClock()).event_time(data.time, now)

    def without_reports(self) -> "SubLockStates":
        """The same sub-locks, with their clocks but without what they have reported."""
        return SubLockStates(clocks=self._clocks)

    def update(self, data: Peripheral, now: float) -> None:
        """A sub-lock has reported. An older state changes nothing."""
        if isinstance(data.lock_state, str):
            self._put(data.peripheral, self._moment(data, now), data.lock_state)
        if isinstance(data.event, int) and data.event and data.time is not None:
            _keep(self._events, data.peripheral, (data.time, data.event))

    def restore(self, known: Iterable[tuple[str, float, str]]) -> None:
        """Redis says so: (id, epoch seconds, state)."""
        for peripheral, time, state in known:
            self._put(peripheral, time, state)

    def state_before(self, data: Peripheral, now: float) -> str | None:
        """The state before a report; None where that isn't known, or where it comes too late to be news."""
        time, state = self._states.get(data.peripheral, (now, None))
        return None if self._moment(data, now) < time else state

    def is_repeat(self, data: Peripheral) -> bool:
        """Whether a report tells of the event that was heard last, as one that is sent again does."""
        return data.time is not None and self._events.get(data.peripheral) == (data.time, data.event)

    def _moment(self, data: Peripheral, now: float) -> float:
        happened = self.event_time(data, now)
        return now if happened is None else happened

    def _put(self, peripheral: str, time: float, state: str) -> None:
        if self._states.get(peripheral, (time,))[0] <= time:
            _keep(self._states, peripheral, (time, state))


def _keep(kept: dict[str, Any], key: str, value: Any) -> None:
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > MAX_SUBLOCKS:
        del kept[next(iter(kept))]
