"""What a report is made of: the events of an audit trail with the times at which things happened."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from attrs import frozen

#: Seconds by which the time of an entry may differ from its receipt without a remark.
LATE: Final = 60.0
#: Tolerance in seconds of a lock's time that is later than its receipt.
_AHEAD: Final = 5.0
#: Times outside of these are impossible (docs/redis.rst, "The clocks of locks").
_FIRST: Final = datetime(2015, 1, 1, tzinfo=UTC).timestamp()
_LONG_AGO: Final = timedelta(weeks=1000).total_seconds()

#: A position of a track: epoch seconds by the lock's clock, degrees.
TrackPoint = tuple[float, float, float]


@frozen
class Period:
    """A span of time in epoch seconds, up to but not including its end."""

    begin: float
    end: float

    def has(self, at: float) -> bool:
        """Whether a moment is within."""
        return self.begin <= at < self.end


@frozen
class LockData:
    """What is kept of a lock. `events` are in the order of the audit trail, oldest first.

    `events` begin some time before the period, if the trail reaches so far (`reaches_back`). `read_from` is
    set, in epoch seconds, when older entries of the trail were not read. `unreadable` counts entries that
    are no events. `lock_state` is that of the last live report, `seen` when the lock was last heard; None if
    it is not known.
    """

    device: str
    events: Sequence[Mapping[str, Any]]
    track: Sequence[TrackPoint] = ()
    label: Mapping[str, str] = {}
    seen: float | None = None
    lock_state: str | None = None
    reaches_back: bool = False
    read_from: float | None = None
    unreadable: int = 0


@frozen
class Happening:
    """An event with its data, and when it happened and came, in epoch seconds by the gateway's clock."""

    kind: str
    data: Mapping[str, Any]
    at: float
    by_lock: bool
    received: float
    stored: bool
    repeated: bool

    @property
    def sublock(self) -> str | None:
        """The sub-lock that it is about."""
        return text(self.data.get("peripheral"))

    @property
    def content(self) -> tuple[Any, ...]:
        """What a report that repeats another one has in common with it."""
        names = ("time", "peripheral", "code", "action", "method", "card", "name", "active")
        return (self.kind, *(repr(self.data.get(name)) for name in names))


def happenings(events: Sequence[Mapping[str, Any]]) -> list[Happening]:
    """Read the events of a trail, without those that repeat another one; what has no time is left out."""
    found: list[Happening] = []
    known: set[tuple[Any, ...]] = set()
    for event in events:
        happening = read_event(event)
        if happening is None:
            continue
        # Its first report may be older than the trail.
        if happening.repeated and happening.content in known:
            continue
        known.add(happening.content)
        found.append(happening)
    return found


def read_event(event: Mapping[str, Any]) -> Happening | None:
    """Read one event; None if it has no data or no time of receipt."""
    data, received = event.get("data"), epoch(event.get("received_at"))
    if not isinstance(data, Mapping) or received is None:
        return None
    kind = str(event.get("kind"))
    own = None if kind == "command" else _own_time(data.get("time"), event.get("clock_skew_s"), received)
    return Happening(
        kind,
        data,
        received if own is None else own,
        own is not None,
        received,
        event.get("stored") is True,
        event.get("repeats") is not None,
    )


def _own_time(time: object, skew: object, received: float) -> float | None:
    """Return the lock's time by the gateway's clock; None if it is impossible or in the future."""
    said = epoch(time)
    if said is None or said < _FIRST or said <= received - _LONG_AGO:
        return None
    own = said - skew if isinstance(skew, int | float) and not isinstance(skew, bool) else said
    if own > received + _AHEAD:
        return None
    return min(own, received)


def epoch(value: object) -> float | None:
    """Parse a time of an event into epoch seconds; None if it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        found = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    # What can be written as a time again.
    return found if 0 <= found < _LAST else None


_LAST: Final = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def text(value: object) -> str | None:
    """Return a text; None for another value, or an empty one."""
    return value if isinstance(value, str) and value else None


def number(value: object, least: float, most: float) -> float | None:
    """Return a number within limits; None for another value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if least <= value <= most else None


def position(latitude: object, longitude: object) -> tuple[float, float] | None:
    """Return a position in degrees; None unless both are valid."""
    north, east = number(latitude, -90, 90), number(longitude, -180, 180)
    return None if north is None or east is None else (north, east)
