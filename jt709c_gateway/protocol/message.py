"""What one frame said, as the rest of the gateway sees it."""

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.events import KIND_LOCATION, KIND_LOCK, KIND_PERIPHERAL, EventData, Location
from jt709c_gateway.protocol.jt808 import LOCATION_ANSWER

#: What each dialect says in a way of its own.
_OWN: Final = frozenset([KIND_LOCATION, KIND_LOCK, KIND_PERIPHERAL])

_FINGERPRINT_BYTES: Final = 8
#: So much of a fingerprint is what the report says.
CONTENT: Final = 12
_CONTENT_BYTES: Final = CONTENT // 2
#: Before it no lock of the family was made: a clock that shows it was reset.
FIRST_YEAR: Final = 2015
#: For a fact that can't be known again: no hex digits.
_NO_KEY: Final = "-" * CONTENT


def content_of(location: Location, body: bytes) -> bytes:
    """What a position is known by: these bytes of it, if its time tells it from any other. Else nothing.

    A clock that was reset and stands still has two reports alike.
    """
    return body if location.time is not None and location.time.year >= FIRST_YEAR else b""


def content_key(content: bytes) -> str:
    """Twelve hex digits for what a report says."""
    return blake2b(content, digest_size=_CONTENT_BYTES).hexdigest()


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
    #: The bytes that stand for the device in a binary answer or command.
    identity_wire: bytes | None = None
    firmware: str | None = None
    #: A dynamic password the lock reported: for `jt709c:secret:<device>` only.
    secret: str | None = field(default=None, repr=False)
    #: The location's own date is impossible; the report counts all the same.
    impossible_date: bool = False
    #: The bytes of each position in it that are the same when a lock sends it once more: see `content_of`.
    contents: list[bytes] = field(factory=list, repr=False)
    #: It reports where the lock is now, and says nothing else: all of it is in its one fact.
    is_position: bool = False
    #: The length field is off by a few; the frame is carried raw, and counted.
    wrong_length: bool = False

    @property
    def tells_dialect(self) -> bool:
        """Whether only a lock of this dialect says so: it is a report, and no answer to a question."""
        return self.message_id != LOCATION_ANSWER and any(kind in _OWN for kind, _ in self.facts)

    @property
    def fingerprint(self) -> str | None:
        """What a report is known by when it comes again: sixteen hex digits. None for all else.

        Those of a single position are its content and its serial: so it is known under another serial, too.
        """
        if not self.report:
            return None
        if len(self.contents) == 1 and self.contents[0] and self.serial is not None:
            return f"{content_key(self.contents[0])}{self.serial & 0xFFFF:04x}"
        return blake2b(self.wire, digest_size=_FINGERPRINT_BYTES).hexdigest()

    def keys_of_several(self) -> list[str] | None:
        """What each fact says, as fingerprints begin; None for a message of one report.

        A lock event is that of the position before it.
        """
        if len(self.contents) < 2:
            return None
        keys, contents, key = [], iter(self.contents), _NO_KEY
        for kind, _ in self.facts:
            if kind == KIND_LOCATION:
                content = next(contents, b"")
                key = content_key(content) if content else _NO_KEY
            keys.append(key)
        return keys

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
