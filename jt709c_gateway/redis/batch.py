"""Batches of records; one call of the commit script writes one batch."""

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final, Protocol

from attrs import define, field

#: The server spends about 5 µs on an event, so a batch of this size occupies it for one millisecond.
MAX_BATCH: Final = 200
#: A batch exceeds MAX_BATCH only to keep the frames of one connection together.
_LARGEST_BATCH: Final = 264
#: Limit in bytes: some records are large, such as a message with all stored reports of a lock.
MAX_BATCH_BYTES: Final = 1 << 20

#: Header of a MessagePack array of up to 65,535 items.
_ARRAY: Final = Struct(">BH")
_ARRAY_16: Final = 0xDC


class Recipient(Protocol):
    """Receives the answers to committed frames."""

    def committed(self, answers: list[bytes]) -> None:
        """Send the answers of one batch: one for each record, in order; empty when it has no answer."""

    def superseded(self, token: str) -> None:
        """Handle that the device has a newer session than the one with this token; the record was dropped."""


#: The answer for a recipient; a callable makes it after the record is written.
Answer = bytes | Callable[[], bytes | None] | None
#: Called once; its argument says whether the record was written.
Then = Callable[[bool], None]
#: A queued record. Its content is packed at once, so that a frame in flight costs a few bytes and not dozens
#: of objects that the garbage collector visits. The bytes are empty when the content could not be encoded.
Waiting = tuple[bytes, Recipient | None, Answer, Then | None]


@define(eq=False)
class Batch:
    """A numbered batch of records to send."""

    number: int
    records: list[Waiting] = field(repr=False)
    #: The records in MessagePack, kept for a repetition.
    packed: bytes = field(repr=False)
    #: Size of the records in bytes.
    size: int
    #: When the batch was first sent.
    began: float | None = None
    #: The script's reply when it wrote the batch: duplicates, then index and reason of each failed record.
    outcome: list[Any] | None = None

    @classmethod
    def of(cls, number: int, records: list[Waiting]) -> "Batch":
        """Make a batch of encoded records."""
        head = _ARRAY.pack(_ARRAY_16, len(records))
        packed = b"".join([head, *[record[0] for record in records]])
        return cls(number, records, packed, len(packed) - len(head))


def gather(waiting: deque[Waiting]) -> list[Waiting]:
    """Remove as many records from the queue as fit into a batch."""
    take = waiting.popleft
    batch = [take() for _ in range(min(MAX_BATCH, len(waiting)))]
    # Frames of one connection stay together, so that their answers are sent together.
    while waiting and waiting[0][1] is batch[-1][1] and len(batch) < _LARGEST_BATCH:
        batch.append(take())
    size = sum([len(record[0]) for record in batch])
    while size > MAX_BATCH_BYTES and len(batch) > 1:
        waiting.appendleft(batch.pop())
        size -= len(waiting[0][0])
    return batch
