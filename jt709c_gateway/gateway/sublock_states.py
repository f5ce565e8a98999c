"""Last known states of the sub-locks behind one master."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.protocol.events import Peripheral

#: Sub-locks kept per master; the least recently reported are forgotten first.
MAX_SUBLOCKS: Final = 100


@define
class SubLockStates:
    """Last state, event and clock of each sub-lock. Times are epoch seconds."""

    #: id -> time, locked or unlocked
    _states: dict[str, tuple[float, str]] = field(factory=dict)
    #: id -> the sub-lock's own time, code
    _events: dict[str, tuple[datetime, int]] = field(factory=dict)
    #: id -> the sub-lock's own clock, independent of its master's
    _clocks: dict[str, LockClock] = field(factory=dict, repr=False)

    def observe(self, data: Peripheral, now: float, wire: bytes) -> None:
        """Update a sub-lock's clock from its live report."""
        if data.resent is not True and data.contact_lost is not True:
            clock = self._clocks.get(data.peripheral) or LockClock()
            clock.observe(data.time, now, wire)
            _keep(self._clocks, data.peripheral, clock)

    def event_time(self, data: Peripheral, now: float) -> float | None:
        """The time of a report that arrived at `now`; None without a credible time."""
        return (self._clocks.get(data.peripheral) or LockClock()).event_time(data.time, now)

    def without_reports(self) -> "SubLockStates":
        """A copy with the sub-locks' clocks only."""
        return SubLockStates(clocks=self._clocks)

    def update(self, data: Peripheral, now: float) -> None:
        """Update a sub-lock's state from its report; older reports change nothing."""
        if isinstance(data.lock_state, str):
            self._put(data.peripheral, self._moment(data, now), data.lock_state)
        if isinstance(data.event, int) and data.event and data.time is not None:
            _keep(self._events, data.peripheral, (data.time, data.event))

    def restore(self, known: Iterable[tuple[str, float, str]]) -> None:
        """Update states from Redis: (id, epoch seconds, state)."""
        for peripheral, time, state in known:
            self._put(peripheral, time, state)

    def state_before(self, data: Peripheral, now: float) -> str | None:
        """The state before a report; None when it is unknown, or when the report is older than that state."""
        time, state = self._states.get(data.peripheral, (now, None))
        return None if self._moment(data, now) < time else state

    def is_repeat(self, data: Peripheral) -> bool:
        """Whether a report repeats the last event of its sub-lock."""
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
