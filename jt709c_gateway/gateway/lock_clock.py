"""How far a lock's clock is from ours, and when what it reports took place.

A lock dates its reports by its own clock, and sends some of them late: those from its memory, which say so,
and a backlog that it sends as if it were live, which does not. A wrong clock and a late report look alike in
a single report. They differ in the next one: a wrong clock runs on, so two live reports in a row are as far
apart in time as in arrival; a backlog comes faster than it was made.
"""

from datetime import UTC, datetime
from typing import Final

from attrs import define, field

#: Before this no lock of the family was made: a clock that shows it was reset.
_FIRST: Final = datetime(2015, 1, 1, tzinfo=UTC).timestamp()
_DAY: Final = 86_400.0
#: A receiver that lost count of the weeks is 1024 of them behind; no report is nearly as late as that.
_OLDEST: Final = 1000 * 7 * _DAY
#: Seconds that a live report may be on its way, and by which two reports of one clock may differ.
TOLERANCE: Final = 20.0
#: Seconds by which the skew may move before another is told: reports differ by as much in how long they take.
_STEADY: Final = 2.0


def credible(time: datetime | None, arrival: float) -> float | None:
    """A report's own time in epoch seconds; None where it can't be true of one that came at `arrival`."""
    if time is None:
        return None
    at = time.timestamp()
    return at if _FIRST <= at <= arrival + _DAY and at >= arrival - _OLDEST else None


@define(eq=False)
class LockClock:
    """The clock of one lock, as its reports over one link show it.

    Arrivals are epoch seconds. `skew` is how many seconds the lock's clock is ahead of ours, negative where
    it is behind, None as long as that isn't known. It is `sure` when more than one report has shown it.
    """

    skew: float | None = None
    sure: bool = False
    #: The same in whole seconds, as it is told: a lock's clock shows no less.
    skew_s: int | None = None
    #: The last live report on this link: its time, and its arrival.
    _time: float | None = field(default=None, repr=False)
    _arrival: float = field(default=0.0, repr=False)

    def hear(self, time: datetime | None, arrival: float) -> float | None:
        """Learn from a live report with this time; its time if that is `credible`."""
        at = credible(time, arrival)
        if at is None:
            self._time = None
            return None
        ahead, before, arrival_before = at - arrival, self._time, self._arrival
        self._time, self._arrival = at, arrival
        if before is not None and at > before:
            # Two in a row, and not one that comes again. The one that was on its way for the shorter time
            # shows the clock better.
            ahead_before = before - arrival_before
            if abs(ahead - ahead_before) <= TOLERANCE:
                self._take(max(ahead, ahead_before), True)
        if not self.sure and ahead >= -TOLERANCE:
            # Nothing is reported before it happens: a time to come shows that the clock is ahead.
            self._take(ahead, False)
        return at

    def happened(self, time: datetime | None, arrival: float) -> float | None:
        """When a report with this time took place by our clock, and never after its arrival.

        None where its time isn't `credible`: then a live report counts as of its arrival.
        """
        at = credible(time, arrival)
        return None if at is None else self.by_ours(at, arrival)

    def by_ours(self, at: float, arrival: float) -> float:
        """The same of a time that can be true, in epoch seconds."""
        skew = self.skew or 0.0
        if skew > 0.0 and at <= arrival:
            # A clock that was ahead, and shows no time to come: most likely it has been set right.
            return at
        return min(at - skew, arrival)

    def learn(self, skew: float) -> None:
        """What earlier reports of the lock have shown, unless two over this link have shown it since."""
        if not self.sure:
            self._take(skew, True)

    def take_over(self, before: "LockClock", *, same_link: bool) -> None:
        """Go on from an older session of the lock, and with its last report where the link is the same."""
        self.skew, self.sure, self.skew_s = before.skew, before.sure, before.skew_s
        if same_link:
            self._time, self._arrival = before._time, before._arrival

    def _take(self, skew: float, sure: bool) -> None:
        self.skew, self.sure = skew, sure
        if self.skew_s is None or abs(skew - self.skew_s) > _STEADY:
            self.skew_s = round(skew)
