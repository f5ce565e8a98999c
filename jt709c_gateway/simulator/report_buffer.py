"""A lock's flash memory: reports stay in it until the gateway has answered them (docs/protocol.rst §4).

Three places: `live` are reports made while connected that wait for their turn; `stored` those that were made
without a connection; `in_flight` are frames that were sent and not answered yet. The dialect defines the
bytes of reports, how many stored ones share a frame, and the keys of their answers.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from attrs import define, field

#: The minimum capacity of a unit (docs/protocol.rst §4).
CAPACITY: Final = 20_000
#: Maximum stored reports per frame.
BATCH: Final = 10


@define
class Entry:
    """A report before it is framed: its kind, which the dialect defines, and its body.

    `serial` is set if it was assigned with the report. `kept` is false for a report of a connection only.
    """

    kind: Hashable
    body: bytes = field(repr=False)
    serial: int | None = None
    kept: bool = True


@define
class Report:
    """A sent frame with `count` reports: when it was first sent, and when it is due again (s).

    `keys` identify its answers; it is answered when all of them have arrived.
    """

    frame: bytes = field(repr=False)
    count: int
    keys: set[Hashable]
    sent_at: float
    due: float


#: Returns how many of the entries fit into the next frame; 0 if they must wait.
Fit = Callable[[Sequence[Entry]], int]


@define
class ReportBuffer:
    """Buffers reports up to `capacity`; beyond it the oldest stored one is dropped."""

    capacity: int = CAPACITY
    live: list[Entry] = field(factory=list, repr=False)
    stored: list[Entry] = field(factory=list, repr=False)
    #: Frames in the order of first sending.
    in_flight: dict[int, Report] = field(factory=dict, repr=False)
    _awaited: dict[Hashable, int] = field(factory=dict, repr=False)
    _sent: int = 0

    @property
    def unanswered(self) -> int:
        """The number of reports without an answer, sent or not."""
        return len(self.live) + len(self.stored) + sum(report.count for report in self.in_flight.values())

    def add(self, entry: Entry, *, connected: bool, first: bool = False) -> int:
        """Add a report, with `first` ahead of others; return the number of reports lost for it."""
        if not connected:
            self.stored.append(entry)
        elif first:
            self.live.insert(0, entry)
        else:
            self.live.append(entry)
        if len(self.live) + len(self.stored) <= self.capacity:
            return 0
        if self.stored:
            del self.stored[0]
        else:
            del self.live[0]
        return 1

    def clear(self) -> None:
        """Drop all unsent reports."""
        self.live.clear()
        self.stored.clear()

    def store_live(self) -> None:
        """Mark unsent reports as stored after a lost connection."""
        self.stored.extend(entry for entry in self.live if entry.kept)
        self.live.clear()

    def take(self, fit: Fit) -> tuple[list[Entry], bool] | None:
        """Take the entries of the next frame, live ones first and alone, and whether they are stored."""
        for entries, most, stored in ((self.live, 1, False), (self.stored, BATCH, True)):
            if entries:
                taken = entries[: fit(entries[:most])]
                del entries[: len(taken)]
                return (taken, stored) if taken else None
        return None

    def sent(self, report: Report) -> None:
        """Record a frame that was sent for the first time."""
        self._sent += 1
        self.in_flight[self._sent] = report
        for key in report.keys:
            self._awaited[key] = self._sent

    def awaits(self, key: Hashable) -> bool:
        """Whether an answer to `key` is pending, so that the key can't be used again."""
        return key in self._awaited

    def answered(self, key: Hashable) -> Report | None:
        """Process an answer to `key`; return the report if it is now answered completely."""
        number = self._awaited.pop(key, None)
        if number is None:
            return None
        report = self.in_flight[number]
        report.keys.discard(key)
        return None if report.keys else self.in_flight.pop(number)

    def overdue(self, now: float, again_after: float) -> list[bytes]:
        """Return frames to resend unchanged; they are due again after `again_after` seconds.

        The frames in flight stay in the order in which they fall due.
        """
        late = []
        for number, report in self.in_flight.items():
            if report.due > now:
                break
            late.append(number)
        frames = []
        for number in late:
            report = self.in_flight.pop(number)
            report.due = now + again_after
            self.in_flight[number] = report
            frames.append(report.frame)
        return frames

    def all_overdue(self) -> None:
        """Make all unanswered frames overdue after a reconnect."""
        for report in self.in_flight.values():
            report.due = 0.0
