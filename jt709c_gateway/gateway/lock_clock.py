"""How far a lock's clock is from ours, and when what it reports took place.

A lock dates its reports by its own clock, and sends some of them late: those from its memory, which say so,
and a backlog that it sends as if it were live, which does not. A wrong clock and a late report look alike in
a single report. They differ in the next one: a wrong clock runs on, so two live reports in a row are as far
apart in time as in arrival; a backlog comes faster than it was made.
"""

from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.message import FIRST_YEAR

_FIRST: Final = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()
_DAY: Final = 86_400.0
#: A receiver that lost count of the weeks is 1024 of them behind; no report is nearly as late as that.
_OLDEST: Final = 1000 * 7 * _DAY
#: Seconds that a live report may be on its way, and by which two reports of one clock may differ.
TOLERANCE: Final = 20.0
#: Seconds between two arrivals in which no backlog keeps its pace; in less, two reports may differ by this.
_LULL: Final = 10.0
_CLOSE: Final = 5.0
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
    #: What of it is good for evidence: there a backlog must not pass for a clock that was set back.
    _proven: float | None = field(default=None, repr=False)
    #: The last live report on this link: its time, and its arrival.
    _time: float | None = field(default=None, repr=False)
    _arrival: float = field(default=0.0, repr=False)
    #: What tells it from itself sent again; noted as long as no skew is known.
    _content: int = field(default=0, repr=False)

    def hear(self, time: datetime | None, arrival: float, wire: bytes) -> float | None:
        """Learn from a live report with this time, sent as these bytes; its time if that is `credible`."""
        at = None if time is None else time.timestamp()
        # As `credible` has it: every report of every lock passes here.
        if at is None or not (_FIRST <= at <= arrival + _DAY and at >= arrival - _OLDEST):
            self._time = None
            return None
        ahead, before, arrival_before = at - arrival, self._time, self._arrival
        self._time, self._arrival = at, arrival
        if before is not None and (at > before or (at == before and self._is_another(wire))):
            # Two in a row. The one that was on its way for the shorter time shows the clock better.
            ahead_before = before - arrival_before
            apart, better = abs(ahead - ahead_before), max(ahead, ahead_before)
            if apart <= TOLERANCE:
                self._take(better, True)
                self._confirm_skew(better, apart, arrival - arrival_before)
        if not self.sure and ahead >= -TOLERANCE:
            # Nothing is reported before it happens: a time to come shows that the clock is ahead.
            self._take(ahead, False)
        if self.skew is None:
            self._content = hash(wire)
        return at

    def happened(self, time: datetime | None, arrival: float) -> float | None:
        """When a report with this time took place by our clock, as evidence; never after its arrival.

        None where its time isn't `credible`: then a live report counts as of its arrival.
        """
        at = credible(time, arrival)
        if at is None:
            return None
        skew = self._proven
        if skew is None:
            # A single report may have come late.
            skew = max(self.skew or 0.0, 0.0)
        return _ours(at, arrival, skew)

    def by_ours(self, at: float, arrival: float) -> float:
        """The same of a time that can be true, in epoch seconds, for what is known of the lock."""
        return _ours(at, arrival, self.skew or 0.0)

    def learn(self, skew: float) -> None:
        """What earlier reports of the lock have shown, unless two over this link have shown it since."""
        if not self.sure:
            self._take(skew, True)
        if self._proven is None:
            self._proven = skew

    def take_over(self, before: "LockClock", *, same_link: bool) -> None:
        """Go on from an older session of the lock, and with its last report where the link is the same."""
        self.skew, self.sure, self.skew_s, self._proven = (
            before.skew,
            before.sure,
            before.skew_s,
            before._proven,
        )
        if same_link:
            self._time, self._arrival, self._content = before._time, before._arrival, before._content

    def _is_another(self, wire: bytes) -> bool:
        """Whether a report of the same second as the last one is another, and shows a clock not known yet.

        A known one isn't doubted for that: an alarm and a position of one second are sent together, also when
        they come late.
        """
        return self.skew is None and hash(wire) != self._content

    def _confirm_skew(self, skew: float, apart: float, passed: float) -> None:
        """Two reports have shown a skew, each its own by so many seconds, and so long after each other."""
        known = self._proven
        if passed >= _LULL or (apart <= _CLOSE and (known is None or skew >= known - _CLOSE)):
            self._proven = skew

    def _take(self, skew: float, sure: bool) -> None:
        self.skew, self.sure = skew, sure
        told = self.skew_s or 0
        self.skew_s = round(skew) if abs(skew - told) > _STEADY else told


def _ours(at: float, arrival: float, skew: float) -> float:
    """A time of a clock that is so far ahead, by ours."""
    if skew > 0.0 and at <= arrival:
        # A clock that was ahead, and shows no time to come: most likely it has been set right.
        return at
    ours = at - skew
    return ours if ours < arrival else arrival
