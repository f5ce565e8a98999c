"""What a fleet of virtual locks has done so far, and how long it waited for answers."""

import math
from collections import Counter
from typing import Final

from attrs import define, field

_SMALLEST: Final = 1e-6
_GROWTH: Final = math.log(1.02)


@define
class Latencies:
    """Times in seconds, kept as counts in steps of 2 %: the whole run in constant memory."""

    count: int = 0
    largest: float = 0.0
    _steps: Counter[int] = field(factory=Counter, repr=False)

    def add(self, seconds: float) -> None:
        """Take one measurement; what lies under a microsecond counts as one."""
        self.count += 1
        self.largest = max(self.largest, seconds)
        self._steps[int(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _GROWTH)] += 1

    def percentile(self, percent: float) -> float | None:
        """The time that `percent` of all measurements stay within, to 2 %; None when there are none."""
        if not self.count:
            return None
        left = self.count * percent / 100
        for step in sorted(self._steps):
            left -= self._steps[step]
            if left <= 0:
                return min(_SMALLEST * math.exp((step + 1) * _GROWTH), self.largest)
        return self.largest


@define
class Counters:
    """Counted over all locks that share this object; numbers only grow, but for `up`.

    `sent` are frames with reports on their first way out, `resent` the same bytes again, `answered` those
    that were acknowledged; `stored` are reports that waited in flash for a connection. `lost` are reports
    that a full memory had no room for.
    """

    sent: int = 0
    answered: int = 0
    resent: int = 0
    stored: int = 0
    lost: int = 0
    heartbeats: int = 0
    #: Connections that are up (over UDP: sockets that are open), and what became of attempts.
    up: int = 0
    connects: int = 0
    connect_failures: int = 0
    disconnects: int = 0
    #: Commands received, answered, and dropped for repeating the serial of the one before.
    commands: int = 0
    commands_answered: int = 0
    commands_dropped: int = 0
    unlocked: int = 0
    sealed: int = 0
    refused: int = 0
    #: Reports that masters passed on for their sub-locks.
    sublock_reports: int = 0
    #: Downlink bytes that were no frame, or frames for another lock.
    unreadable: int = 0
    latencies: Latencies = field(factory=Latencies)
