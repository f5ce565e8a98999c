"""Batches of records: what one call of the commit script writes."""

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Protocol

from attrs import define, field

#: The server spends about 5 µs on an event, so a batch of this size keeps it from others for a millisecond.
MAX_BATCH: Final = 200
#: More than that only to keep together what one link has sent.
_LARGEST_BATCH: Final = 264
#: The same in bytes: a few records are large, such as a lock's whole memory in one message.
MAX_BATCH_BYTES: Final = 1 << 20

#: How a MessagePack array of up to 65,535 items begins.
_ARRAY: Final = Struct(">BH")
_ARRAY_16: Final = 0xDC


class Recipient(Protocol):
    """Whoever gets the answers of frames that have been committed."""

    def committed(self, answers: list[bytes]) -> None:
        """Write these; called once per batch. One for each record, in order, empty for one that gets none."""

    def superseded(self, token: str) -> None:
        """The device of the session with this token has a newer one: what it said in this one was let go."""


#: What a recipient gets; a callable makes it when the record has been written.
Answer = bytes | Callable[[], bytes | None] | None
#: Called once with whether the record was written.
Then = Callable[[bool], None]
#: A record that waits, packed at once, so that a frame in flight is a few bytes and not dozens of objects for
#: the garbage collector to look at. Empty when its content could not be put into bytes.
Waiting = tuple[bytes, Recipient | None, Answer, Then | None]


@define(eq=False)
class Batch:
    """Numbered records on their way."""

    number: int
    records: list[Waiting] = field(repr=False)
    #: The records as the script takes them, kept for when they have to be sent again.
    packed: bytes = field(repr=False)
    #: Bytes of the records.
    size: int
    #: When it was first sent.
    began: float | None = None
    #: What the script said when it wrote them: duplicates, then index and reason of each that failed.
    outcome: list[Any] | None = None

    @classmethod
    def of(cls, number: int, records: list[Waiting]) -> "Batch":
        """Make a batch of records, all of which can be sent."""
        head = _ARRAY.pack(_ARRAY_16, len(records))
        packed = b"".join([head, *[record[0] for record in records]])
        return cls(number, records, packed, len(packed) - len(head))


def gather(waiting: deque[Waiting]) -> list[Waiting]:
    """Take as many records as go into a batch."""
    take = waiting.popleft
    batch = [take() for _ in range(min(MAX_BATCH, len(waiting)))]
    # A link's frames stay together, and so do its answers and the frames that it sends upon them.
    while waiting and waiting[0][1] is batch[-1][1] and len(batch) < _LARGEST_BATCH:
        batch.append(take())
    size = sum([len(record[0]) for record in batch])
    while size > MAX_BATCH_BYTES and len(batch) > 1:
        waiting.appendleft(batch.pop())
        size -= len(waiting[0][0])
    return batch
