"""The content of a seal report (docs/report.rst). Times are RFC 3339 in UTC, unknown values are null."""

from typing import Any, Final, Literal

import msgspec

from jt709c_gateway.util.timestamps import Timestamp

EntryKind = Literal["opened", "closed", "refused", "moved", "alarm", "alarm_cleared", "command", "gap"]
#: The kinds that are about the bolt or the rope of a lock.
MOVEMENTS: Final = frozenset(["opened", "closed", "moved"])


class Place(msgspec.Struct):
    """A position in degrees, and its age in seconds at the time of the entry.

    `source` is `event` for a position in the report of the lock itself, and `track` for the last one before
    it.
    """

    latitude: float
    longitude: float
    age_s: float
    source: Literal["event", "track"]


class EntryCommand(msgspec.Struct):
    """The command behind an entry, as far as it is known: its last state in the audit trail.

    `issued_by` is the claim of its sender, `key` the key that signed it. `evidence` is what confirmed it.
    """

    id: str
    command: str | None = None
    state: str | None = None
    issued_by: str | None = None
    key: str | None = None
    reason: str | None = None
    created_at: Timestamp | None = None
    sent_at: Timestamp | None = None
    confirmed_at: Timestamp | None = None
    evidence: dict[str, Any] | None = None


class Entry(msgspec.Struct, kw_only=True):
    """One line of a report.

    `at` is when it happened, by the gateway's clock: the time of the lock, corrected by the skew of its
    clock, or that of receipt where the lock sent no usable time (`time_of`). `received_at` is when the
    gateway learned of it, `delay_s` the seconds between the two if they are more than a minute. `stored` is
    true for what came from the memory of the lock. `by` says who or what opened or closed it, in words.
    `until` and `seconds` belong to an opening (to its closing) and to a gap. `remarks` are sentences.
    """

    kind: EntryKind
    at: Timestamp
    time_of: Literal["lock", "receipt"]
    received_at: Timestamp | None = None
    delay_s: float | None = None
    stored: bool = False
    sublock: str | None = None
    by: str | None = None
    method: str | None = None
    card: str | None = None
    fence_id: int | None = None
    alarm: str | None = None
    place: Place | None = None
    command: EntryCommand | None = None
    until: Timestamp | None = None
    seconds: float | None = None
    remarks: list[str] = []


class NotKnown(msgspec.Struct):
    """Something that the report can't tell, in a sentence; `begin` and `end` are the span of it."""

    code: str
    text: str
    begin: Timestamp | None = None
    end: Timestamp | None = None


class Counts(msgspec.Struct):
    """How many entries of each sort there are. `open_seconds` adds the openings whose closing is known."""

    opened: int = 0
    closed: int = 0
    refused: int = 0
    alarms: int = 0
    commands: int = 0
    gaps: int = 0
    open_seconds: float = 0.0


class LockReport(msgspec.Struct, kw_only=True):
    """The report of one lock and the sub-locks behind it, in order of time.

    `state_at_begin` and `state_at_end` are by the last movement before these times, null when none is
    known. `last_heard` is when the lock was heard last of all. `earlier` counts what came during the period
    and had happened before it. `not_known` says what the report can't tell; without entries it decides
    whether nothing happened or nothing is known.
    """

    device: str
    label: dict[str, str]
    state_at_begin: Literal["open", "closed"] | None
    state_at_end: Literal["open", "closed"] | None
    last_heard: Timestamp | None
    counts: Counts
    earlier: int
    entries: list[Entry]
    not_known: list[NotKnown]


class SealReport(msgspec.Struct, kw_only=True):
    """A seal report: who opened and closed locks, how, where, and what is not known.

    From `begin` up to `end`, as known at `made_at`; `made_for` is the user who asked for it. `gap_s` are
    the seconds without any record from which a gap is listed. `partitions_away` has the numbers of the
    partitions whose locks are missing.
    """

    made_at: Timestamp
    made_for: str | None
    begin: Timestamp
    end: Timestamp
    gap_s: float
    group: str | None
    locks: list[LockReport]
    partitions_away: list[int]
