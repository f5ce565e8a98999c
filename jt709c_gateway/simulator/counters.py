"""Counters of a fleet of virtual locks, and the latencies of answers."""

import math
from collections import Counter
from typing import Final

from attrs import define, field

_SMALLEST: Final = 1e-6
_GROWTH: Final = math.log(1.02)


@define
class Latencies:
    """A histogram of times in seconds, in steps of 2 %."""

    count: int = 0
    largest: float = 0.0
    _steps: Counter[int] = field(factory=Counter, repr=False)

    def add(self, seconds: float) -> None:
        """Add a measurement of at least a microsecond."""
        self.count += 1
        self.largest = max(self.largest, seconds)
        self._steps[int(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _GROWTH)] += 1

    def percentile(self, percent: float) -> float | None:
        """Return a percentile, to 2 %; None without measurements."""
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
    """Counters of all locks that share this object; all but `up` only grow.

    `sent` counts frames with reports that were sent for the first time, `resent` repetitions, `answered`
    acknowledged ones; `stored` are reports that waited in flash for a connection. `lost` are reports
    that a full memory had no room for.
    """

    sent: int = 0
    answered: int = 0
    resent: int = 0
    stored: int = 0
    lost: int = 0
    heartbeats: int = 0
    #: Open connections or UDP sockets, and the results of attempts.
    up: int = 0
    connects: int = 0
    connect_failures: int = 0
    disconnects: int = 0
    #: Commands received, answered, and dropped because they repeat the last serial.
    commands: int = 0
    commands_answered: int = 0
    commands_dropped: int = 0
    unlocked: int = 0
    sealed: int = 0
    refused: int = 0
    #: Reports of sub-locks that masters forwarded.
    sublock_reports: int = 0
    #: Received bytes that were no frame, or frames for another lock.
    unreadable: int = 0
    #: Why connections failed or ended: descriptions with their number.
    problems: Counter[str] = field(factory=Counter)
    latencies: Latencies = field(factory=Latencies)
