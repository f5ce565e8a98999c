"""What one frame said, as the rest of the gateway sees it."""

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Final

from attrs import define, field

from .events import KIND_LOCATION, KIND_LOCK, KIND_PERIPHERAL, EventData
from .jt808 import LOCATION_ANSWER

#: What each dialect says in a way of its own.
_OWN: Final = frozenset([KIND_LOCATION, KIND_LOCK, KIND_PERIPHERAL])

_FINGERPRINT_BYTES: Final = 8


@define
class Message:
    """One frame (or one split message) decoded. Device ids are text, made canonical here and nowhere else.

    `facts` are (kind, data) pairs in the order they are to be published. `report` says that the same bytes
    coming again are the same report, sent again because it wasn't answered; a heartbeat's may well be a new
    one. `wire` are the bytes as received, `raw` is what may be published of them.
    """

    dialect: str
    device: str
    imei: str | None
    serial: int | None
    raw: str = field(repr=False)
    raw_masked: bool
    wire: bytes = field(repr=False)
    facts: list[tuple[str, EventData]]
    message_id: int | None = None
    stored: bool = False
    report: bool = False
    answer: bytes | None = None
    #: Makes the answer to a question for the time.
    time_answer: Callable[[datetime], bytes | None] | None = field(default=None, repr=False)
    #: The bytes that stand for the device in a binary answer or order.
    identity_wire: bytes | None = None
    firmware: str | None = None
    #: A dynamic password the lock reported: for `jt709c:secret:<device>` only.
    secret: str | None = field(default=None, repr=False)
    #: The location's own date is impossible; the report counts all the same.
    impossible_date: bool = False
    #: It reports where the lock is now, and says nothing else: all of it is in its one fact.
    is_position: bool = False

    @property
    def tells_dialect(self) -> bool:
        """Whether only a lock of this dialect says so: it is a report, and no answer to a question."""
        return self.message_id != LOCATION_ANSWER and any(kind in _OWN for kind, _ in self.facts)

    @property
    def fingerprint(self) -> str | None:
        """What a report is known by when it comes again: sixteen hex digits. None for all else."""
        if not self.report:
            return None
        return blake2b(self.wire, digest_size=_FINGERPRINT_BYTES).hexdigest()

    def answer_at(self, now: datetime) -> bytes | None:
        """The bytes that tell the lock to forget this frame, or None when no answer is due. `now` in UTC."""
        return self.time_answer(now) if self.time_answer else self.answer


@define
class VersionedMessage(Message):
    """A `$` frame or a sentence, whose head may tell the unit's version.

    `master_version` is the protocol version of a `$` frame, as sent; `sentence_version` that in the head of a
    grouped sentence. `old_answer` takes the place of `answer` for a master with a protocol version below 19h.
    """

    master_version: int | None = None
    sentence_version: int | None = None
    old_answer: bytes | None = None
