"""Makes the seal report of one lock: its audit trail in, the openings and closings of a period out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal

from attrs import frozen

from jt709c_gateway.reports.gaps import gaps, records
from jt709c_gateway.reports.movements import Commands, Places, alarm, command_entry, movement
from jt709c_gateway.reports.report_types import MOVEMENTS, Counts, Entry, LockReport, NotKnown
from jt709c_gateway.reports.trail import Happening, LockData, Period, happenings, text
from jt709c_gateway.util.timestamps import from_iso, iso

State = Literal["open", "closed"]
_STATES: Final[Mapping[str, State]] = {"opened": "open", "closed": "closed"}
_PRESENT: Final[Mapping[str, State]] = {"unlocked": "open", "locked": "closed"}


@frozen
class _Timed:
    """An entry with its time in epoch seconds, and that at which it came."""

    at: float
    came: float
    entry: Entry


def lock_report(lock: LockData, period: Period, now: float, gap_s: float) -> LockReport:
    """Report on a lock; `gap_s` are the seconds from which a span without records is a gap."""
    happened = happenings(lock.events)
    track = sorted(point for point in lock.track if point[0] <= now)
    timed = _timed(happened, Places(track))
    states = _pair(timed, period)
    within = [one.entry for one in timed if period.has(one.at)]
    moments = records(happened, track, lock.seen, now)
    told_from = _told_from(lock, track, period)
    found = [] if told_from is None else list(gaps(moments, told_from, period, now, gap_s))
    entries = sorted([*within, *found], key=lambda entry: entry.at)
    return LockReport(
        device=lock.device,
        label=dict(lock.label),
        state_at_begin=states[0],
        state_at_end=states[1],
        last_heard=None if lock.seen is None else iso(lock.seen),
        counts=_counts(entries),
        earlier=sum(
            1 for one in timed if one.at < period.begin and period.has(one.came) and one.came - one.at >= 60
        ),
        entries=entries,
        not_known=[
            *_not_known_of_trail(lock, happened, period, now),
            *_not_known_of_contact(lock, period, now, told_from, gap_s),
            *_contradiction(lock, states[1], period, now),
        ],
    )


def _timed(happened: Sequence[Happening], places: Places) -> list[_Timed]:
    """Make an entry of each movement, alarm, and command without a movement, in order of time."""
    commands = Commands()
    last: dict[str, Happening] = {}
    moved = {text(one.data.get("command_id")) for one in happened if one.kind == "lock"}
    for one in happened:
        if one.kind == "command":
            commands.note(one.data)
            if (name := text(one.data.get("id"))) is not None and name not in moved:
                last[name] = one
    found: list[_Timed] = []
    for one in happened:
        if one.kind == "lock":
            found.append(_Timed(one.at, one.received, movement(one, commands, places)))
        elif one.kind == "alarm":
            found.append(_Timed(one.at, one.received, alarm(one, places)))
    for one in last.values():
        entry = command_entry(one, commands, places)
        if entry is not None:
            found.append(_Timed(from_iso(entry.at), one.received, entry))
    return sorted(found, key=lambda one: (one.at, one.came))


def _pair(timed: Sequence[_Timed], period: Period) -> tuple[State | None, State | None]:
    """Pair openings with closings, of each sub-lock apart; return the lock's state at begin and end."""
    opened: dict[str | None, _Timed | None] = {}
    begin: State | None = None
    end: State | None = None
    for one in timed:
        entry, key = one.entry, one.entry.sublock
        if entry.kind not in MOVEMENTS:
            continue
        state = _STATES.get(entry.kind)
        if key is None and one.at < period.begin:
            begin = state
        if key is None and one.at < period.end:
            end = state
        before = opened.get(key)
        if state == "open":
            if before is not None:
                entry.remarks.append("it was opened before, and no closing was reported since")
            opened[key] = one
        elif state == "closed":
            if before is not None:
                before.entry.until = entry.at
                before.entry.seconds = round(one.at - before.at, 3)
            elif key in opened:
                entry.remarks.append("it was closed before, and no opening was reported since")
            opened[key] = None
        else:
            opened.pop(key, None)
    for one in timed:
        entry = one.entry
        if entry.kind == "opened" and entry.until is None:
            entry.remarks.append("no closing that belongs to it was reported")
    return begin, end


def _counts(entries: Sequence[Entry]) -> Counts:
    counts = Counts()
    for entry in entries:
        match entry.kind:
            case "opened":
                counts.opened += 1
                counts.open_seconds = round(counts.open_seconds + (entry.seconds or 0.0), 3)
            case "closed":
                counts.closed += 1
            case "refused":
                counts.refused += 1
            case "alarm":
                counts.alarms += 1
            case "gap":
                counts.gaps += 1
            case "command":
                counts.commands += 1
    return counts


def _told_from(lock: LockData, track: Sequence[tuple[float, float, float]], period: Period) -> float | None:
    """Return the moment from which gaps can be told: that of the oldest position that is kept."""
    if not track:
        return None
    oldest = track[0][0]
    return oldest if oldest < period.end else None


def _not_known_of_trail(
    lock: LockData, happened: Sequence[Happening], period: Period, now: float
) -> Iterator[NotKnown]:
    """Yield what the audit trail can't tell."""
    begin, until = iso(period.begin), min(period.end, now)
    if lock.read_from is not None and lock.read_from > period.begin:
        said = "there are more entries than a report reads: choose a shorter period"
        yield NotKnown("too_many", said, begin, iso(lock.read_from))
    elif not happened:
        said = "no audit trail of this lock is kept: it is not known whether anything happened"
        yield NotKnown("no_trail", said, begin, iso(until))
    elif not lock.reaches_back:
        oldest = min(one.received for one in happened)
        if oldest > period.begin:
            said = "the audit trail that is kept begins later: what happened before is not known"
            yield NotKnown("trail_begins", said, begin, iso(min(oldest, until)))
    if lock.unreadable:
        yield NotKnown("unreadable", f"{lock.unreadable} entries of the audit trail can't be read")


def _not_known_of_contact(
    lock: LockData, period: Period, now: float, told_from: float | None, gap_s: float
) -> Iterator[NotKnown]:
    """Yield what is not known of the contact with the lock."""
    begin, until = iso(period.begin), min(period.end, now)
    if told_from is None:
        said = "no positions of that time are kept: gaps in contact can't be told"
        yield NotKnown("no_track", said, begin, iso(until))
    elif told_from > period.begin:
        said = "the positions that are kept begin later: gaps in contact before can't be told"
        yield NotKnown("track_begins", said, begin, iso(told_from))
    if lock.seen is None:
        yield NotKnown("never_heard", "it is not known when this lock was heard last")
    elif until - lock.seen >= gap_s:
        said = "the lock has not been heard since: it may report later what happened"
        yield NotKnown("not_heard", said, iso(max(lock.seen, period.begin)), iso(until))
    if period.end > now:
        yield NotKnown("not_over", "the period is not over", iso(now), iso(period.end))


def _contradiction(lock: LockData, end: State | None, period: Period, now: float) -> Iterator[NotKnown]:
    """Yield what the present state of the lock shows to be missing."""
    present = _PRESENT.get(lock.lock_state or "")
    if period.end >= now and None not in (end, present) and end != present:
        said = f"the lock is {present} by its last report, and no lock event tells when that came about"
        yield NotKnown("state_differs", said)
