"""A lock's flash memory: reports stay in it until the gateway has answered them (PROTOCOL.md §4).

Three places: `live` are reports made while connected that wait for their turn; `stored` those that were made
without a connection; `in_flight` are frames that were sent and not answered yet.
"""

from struct import Struct
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol import jt808

#: What a unit keeps at least (PROTOCOL.md §4).
CAPACITY: Final = 20_000
_STORED_HEAD = Struct(">HB")
_STORED_TYPE: Final = 1
#: Stored locations that go into one 0x0704 at most.
_BATCH: Final = 10


@define
class Report:
    """A frame under way: `count` locations in it, when it was first sent, and when it is due again (s)."""

    frame: bytes = field(repr=False)
    count: int
    sent_at: float
    due: float


@define
class Memory:
    """Bounded: beyond `capacity` reports the oldest stored one goes; `add` says how many were lost."""

    capacity: int = CAPACITY
    live: list[tuple[int, bytes]] = field(factory=list, repr=False)
    stored: list[bytes] = field(factory=list, repr=False)
    in_flight: dict[tuple[int, int], Report] = field(factory=dict, repr=False)

    @property
    def unanswered(self) -> int:
        """Reports that the gateway hasn't answered, sent or not."""
        return len(self.live) + len(self.stored) + sum(report.count for report in self.in_flight.values())

    def add(self, message_id: int, body: bytes, *, connected: bool, first: bool = False) -> int:
        """Keep a new report; `first` lets it overtake the others. The number of reports lost for it."""
        if not connected:
            self.stored.append(body)
        elif first:
            self.live.insert(0, (message_id, body))
        else:
            self.live.append((message_id, body))
        if len(self.live) + len(self.stored) <= self.capacity:
            return 0
        if self.stored:
            del self.stored[0]
        else:
            del self.live[0]
        return 1

    def store_live(self) -> None:
        """The connection is gone: what was not sent will have waited for the next one."""
        self.stored.extend(body for message_id, body in self.live if message_id == jt808.LOCATION)
        self.live.clear()

    def take(self) -> tuple[int, bytes, int, bool] | None:
        """What to send next, live reports first: id, body, locations in it, whether it was stored."""
        if self.live:
            message_id, body = self.live.pop(0)
            return message_id, body, 1, False
        if not self.stored:
            return None
        items: list[bytes] = []
        size = _STORED_HEAD.size
        for body in self.stored[:_BATCH]:
            size += 2 + len(body)
            if size > jt808.BODY_LENGTH:
                break
            items.append(len(body).to_bytes(2, "big") + body)
        del self.stored[: len(items)]
        head = _STORED_HEAD.pack(len(items), _STORED_TYPE)
        return jt808.STORED_LOCATIONS, head + b"".join(items), len(items), True

    def overdue(self, now: float, again_after: float) -> list[bytes]:
        """Frames to be sent again, the same bytes as before; they are due next after `again_after` seconds.

        The frames in flight stay in the order in which they fall due.
        """
        late = []
        for key, report in self.in_flight.items():
            if report.due > now:
                break
            late.append(key)
        frames = []
        for key in late:
            report = self.in_flight.pop(key)
            report.due = now + again_after
            self.in_flight[key] = report
            frames.append(report.frame)
        return frames

    def all_overdue(self) -> None:
        """After a reconnect nothing that was under way will be answered by itself."""
        for report in self.in_flight.values():
            report.due = 0.0
