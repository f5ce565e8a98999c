"""A lock's flash memory: reports stay in it until the gateway has answered them (docs/protocol.rst §4).

Three places: `live` are reports made while connected that wait for their turn; `stored` those that were made
without a connection; `in_flight` are frames that were sent and not answered yet. What a report's bytes mean,
how many stored ones go into one frame and what names them in an answer is the dialect's affair.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from attrs import define, field

#: What a unit keeps at least (docs/protocol.rst §4).
CAPACITY: Final = 20_000
#: Stored reports that go into one frame at most.
BATCH: Final = 10


@define
class Entry:
    """A report that was made: what it is (`kind`, the dialect's) and its bytes, not yet a whole frame.

    `serial` where it got one when it was made. `kept` is false for what makes sense only while connected.
    """

    kind: Hashable
    body: bytes = field(repr=False)
    serial: int | None = None
    kept: bool = True


@define
class Report:
    """A frame under way with `count` reports: when it was first sent, and when it is due again (s).

    `keys` are what the answers to it name; it is answered when all of them have been.
    """

    frame: bytes = field(repr=False)
    count: int
    keys: set[Hashable]
    sent_at: float
    due: float


#: How many of the entries offered go into the next frame; 0 when they have to wait.
Fit = Callable[[Sequence[Entry]], int]


@define
class ReportBuffer:
    """Bounded: beyond `capacity` reports the oldest stored one goes; `add` says how many were lost."""

    capacity: int = CAPACITY
    live: list[Entry] = field(factory=list, repr=False)
    stored: list[Entry] = field(factory=list, repr=False)
    #: Frames by the order in which they were first sent.
    in_flight: dict[int, Report] = field(factory=dict, repr=False)
    _awaited: dict[Hashable, int] = field(factory=dict, repr=False)
    _sent: int = 0

    @property
    def unanswered(self) -> int:
        """Reports that the gateway hasn't answered, sent or not."""
        return len(self.live) + len(self.stored) + sum(report.count for report in self.in_flight.values())

    def add(self, entry: Entry, *, connected: bool, first: bool = False) -> int:
        """Keep a new report; `first` lets it overtake the others. The number of reports lost for it."""
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
        """Forget all that was not sent yet."""
        self.live.clear()
        self.stored.clear()

    def store_live(self) -> None:
        """The connection is gone: what was not sent will have waited for the next one."""
        self.stored.extend(entry for entry in self.live if entry.kept)
        self.live.clear()

    def take(self, fit: Fit) -> tuple[list[Entry], bool] | None:
        """What goes into the next frame, live reports first and each alone; and whether it was stored."""
        for entries, most, stored in ((self.live, 1, False), (self.stored, BATCH, True)):
            if entries:
                taken = entries[: fit(entries[:most])]
                del entries[: len(taken)]
                return (taken, stored) if taken else None
        return None

    def sent(self, report: Report) -> None:
        """A frame is under way for the first time."""
        self._sent += 1
        self.in_flight[self._sent] = report
        for key in report.keys:
            self._awaited[key] = self._sent

    def awaits(self, key: Hashable) -> bool:
        """Whether an answer that names `key` is still to come, so that nothing else may be sent under it."""
        return key in self._awaited

    def answered(self, key: Hashable) -> Report | None:
        """An answer names `key`; the report that it leaves with nothing unanswered."""
        number = self._awaited.pop(key, None)
        if number is None:
            return None
        report = self.in_flight[number]
        report.keys.discard(key)
        return None if report.keys else self.in_flight.pop(number)

    def overdue(self, now: float, again_after: float) -> list[bytes]:
        """Frames to be sent again, the same bytes as before; they are due next after `again_after` seconds.

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
        """After a reconnect nothing that was under way will be answered by itself."""
        for report in self.in_flight.values():
            report.due = 0.0
