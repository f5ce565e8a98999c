"""Estimates the offset of a device's clock, and the time at which a reported event took place.

A device dates its reports by its own clock and sends some of them late: stored ones, which are marked, and a
backlog that it sends as if it were live. A wrong clock and a late report look alike in a single report. They
differ in the next one: a wrong clock runs on, so two live reports are as far apart in time as in arrival; a
backlog arrives faster than it was made.
"""

from datetime import UTC, datetime
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.message import FIRST_YEAR

_FIRST: Final = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()
_DAY: Final = 86_400.0
#: A GPS receiver with a week rollover is 1024 weeks behind; no report is that late.
_OLDEST: Final = 1000 * 7 * _DAY
#: Longest transmission time of a live report, and largest difference between two of one clock, in seconds.
TOLERANCE: Final = 20.0
#: Seconds between two arrivals that exclude a backlog; within less, two reports may differ by `_CLOSE`.
_LULL: Final = 10.0
_CLOSE: Final = 5.0
#: Change of the skew, in seconds, from which a new one is published: transmission times differ by as much.
_STEADY: Final = 2.0


def credible(time: datetime | None, arrival: float) -> float | None:
    """A report's own time in epoch seconds; None when it is impossible for an arrival at `arrival`."""
    if time is None:
        return None
    at = time.timestamp()
    return at if _FIRST <= at <= arrival + _DAY and at >= arrival - _OLDEST else None


@define(eq=False)
class LockClock:
    """The clock of one device, as its reports over one connection show it.

    Arrivals are epoch seconds. `skew` is the number of seconds by which the device's clock is ahead, negative
    when it is behind, None while unknown. It is `sure` when more than one report has shown it.
    """

    skew: float | None = None
    sure: bool = False
    #: The published skew, in whole seconds.
    skew_s: int | None = None
    #: The skew used for evidence, where a backlog must not pass for a clock that was set back.
    _proven: float | None = field(default=None, repr=False)
    #: Time and arrival of the last live report on this connection.
    _time: float | None = field(default=None, repr=False)
    _arrival: float = field(default=0.0, repr=False)
    #: Hash of that report, by which a repetition is recognized; kept while no skew is known.
    _content: int = field(default=0, repr=False)

    def observe(self, time: datetime | None, arrival: float, wire: bytes) -> float | None:
        """Update the skew from a live report; returns its time in epoch seconds, None if not `credible`."""
        at = None if time is None else time.timestamp()
        # The same check as in `credible`, inline since every report passes here.
        if at is None or not (_FIRST <= at <= arrival + _DAY and at >= arrival - _OLDEST):
            self._time = None
            return None
        ahead, before, arrival_before = at - arrival, self._time, self._arrival
        self._time, self._arrival = at, arrival
        if before is not None and (at > before or (at == before and self._is_another(wire))):
            # Two consecutive reports. The one with the shorter transmission time shows the clock better.
            ahead_before = before - arrival_before
            apart, better = abs(ahead - ahead_before), max(ahead, ahead_before)
            if apart <= TOLERANCE:
                self._set_skew(better, True)
                self._confirm_skew(better, apart, arrival - arrival_before)
        if not self.sure and ahead >= -TOLERANCE:
            # A time in the future shows that the clock is ahead.
            self._set_skew(ahead, False)
        if self.skew is None:
            self._content = hash(wire)
        return at

    def event_time(self, time: datetime | None, arrival: float) -> float | None:
        """The time of a report by our clock, for evidence; never after its arrival.

        None when its time isn't `credible`: a live report then counts as of its arrival.
        """
        at = credible(time, arrival)
        return None if at is None else self.proven_time(at, arrival)

    def proven_time(self, at: float, arrival: float) -> float:
        """As `event_time`, of a credible time in epoch seconds."""
        skew = self._proven
        if skew is None:
            # A single report may be late.
            skew = max(self.skew or 0.0, 0.0)
        return _gateway_time(at, arrival, skew)

    def to_gateway_time(self, at: float, arrival: float) -> float:
        """A credible time by our clock, in epoch seconds, using the published skew."""
        return _gateway_time(at, arrival, self.skew or 0.0)

    def restore(self, skew: float) -> None:
        """Use the skew of earlier sessions, unless two reports over this connection have shown another."""
        if not self.sure:
            self._set_skew(skew, True)
        if self._proven is None:
            self._proven = skew

    def copy_from(self, before: "LockClock", *, same_link: bool) -> None:
        """Continue the clock of an older session, with its last report if the connection is the same."""
        self.skew, self.sure, self.skew_s, self._proven = (
            before.skew,
            before.sure,
            before.skew_s,
            before._proven,
        )
        if same_link:
            self._time, self._arrival, self._content = before._time, before._arrival, before._content

    def _is_another(self, wire: bytes) -> bool:
        """Whether a report of the same second as the last one is another one, and the skew is unknown.

        A known skew is not questioned by that: an alarm and a position of one second are sent together, also
        when they are late.
        """
        return self.skew is None and hash(wire) != self._content

    def _confirm_skew(self, skew: float, apart: float, passed: float) -> None:
        """Accept for evidence a skew shown by two reports.

        Their skews differ by `apart` seconds, their arrivals by `passed` seconds.
        """
        known = self._proven
        if passed >= _LULL or (apart <= _CLOSE and (known is None or skew >= known - _CLOSE)):
            self._proven = skew

    def _set_skew(self, skew: float, sure: bool) -> None:
        self.skew, self.sure = skew, sure
        published = self.skew_s or 0
        self.skew_s = round(skew) if abs(skew - published) > _STEADY else published


def _gateway_time(at: float, arrival: float, skew: float) -> float:
    """A time by our clock, of a clock that is `skew` seconds ahead."""
    if skew > 0.0 and at <= arrival:
        # The clock was ahead and is no longer: most likely it has been corrected.
        return at
    ours = at - skew
    return ours if ours < arrival else arrival
