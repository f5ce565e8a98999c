"""Finds the spans of which no record of a lock is known."""

from collections.abc import Iterator, Sequence
from typing import Final

from jt709c_gateway.reports.report_types import Entry
from jt709c_gateway.reports.trail import Happening, Period, TrackPoint, text
from jt709c_gateway.util.timestamps import iso

#: States of a command that a message of its lock causes.
_FROM_THE_LOCK: Final = frozenset(["acknowledged", "confirmed", "done", "rejected"])


def records(
    happened: Sequence[Happening], track: Sequence[TrackPoint], seen: float | None, now: float
) -> list[float]:
    """Return the moments at which a lock was heard, or of which it reported later, in order."""
    times = {time for time, _, _ in track}
    for one in happened:
        if one.kind == "command":
            if text(one.data.get("state")) in _FROM_THE_LOCK:
                times.add(one.received)
        else:
            times.update((one.at, one.received))
    if seen is not None:
        times.add(seen)
    return sorted(time for time in times if time <= now)


def gaps(
    moments: Sequence[float], since: float, period: Period, now: float, shortest: float
) -> Iterator[Entry]:
    """Yield the spans of at least `shortest` seconds between moments that touch a period.

    `since` is the beginning of what can be told. A gap may begin before the period and end after it; the
    last one has no end while the lock is silent.
    """
    last = since
    for moment in (*(one for one in moments if one > since), None):
        end = now if moment is None else moment
        if end - last >= shortest and last < period.end and end > period.begin:
            yield Entry(
                kind="gap",
                at=iso(last),
                time_of="receipt",
                until=None if moment is None else iso(moment),
                seconds=round(end - last, 3),
                remarks=["no position, opening, closing or alarm of this span is known"]
                + (["the lock has not been heard since"] if moment is None else []),
            )
        last = end
