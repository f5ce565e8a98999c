"""The decoded content of a frame or split message."""

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
#: No lock was made before this date: a clock that shows an earlier one was reset.
FIRST_YEAR: Final = 2015
#: The content key of an event that can't be recognised in a repetition: no hex digits.
NO_KEY: Final = "-" * CONTENT


def content_of(location: Location, body: bytes) -> bytes:
    """Return the bytes that identify a position; empty if its time doesn't distinguish it from others.

    With a clock that was reset and stands still, two reports are alike.
    """
    return body if location.time is not None and location.time.year >= FIRST_YEAR else b""


def content_key(content: bytes) -> str:
    """Return twelve hex digits that identify the content of a report."""
    return blake2b(content, digest_size=_CONTENT_BYTES).hexdigest()


@define
class Message:
    """One decoded frame or split message. Device ids are canonical text.

    `events` are (kind, data) pairs in the order of publication. `report` says that the same bytes again are a
    repetition of the report because it wasn't answered; those of a heartbeat may be a new one. `wire` are the
    bytes as received, `raw` their publishable form.
    """

    dialect: str
    device: str
    imei: str | None
    serial: int | None
    raw: str = field(repr=False)
    raw_masked: bool
    wire: bytes = field(repr=False)
    events: list[tuple[str, EventData]]
    message_id: int | None = None
    stored: bool = False
    report: bool = False
    answer: bytes | None = None
    #: Makes the answer to a time request.
    time_answer: Callable[[datetime], bytes | None] | None = field(default=None, repr=False)
    #: The device's id bytes for a binary answer or command.
    identity_wire: bytes | None = None
    firmware: str | None = None
    #: A dynamic password that the lock reported: only for `jt709c:secret:<device>`. Empty: the lock has none.
    secret: str | None = field(default=None, repr=False)
    #: The location's own date is impossible; the report is valid nevertheless.
    impossible_date: bool = False
    #: The bytes of each position that are the same in a repetition: see `content_of`.
    contents: list[bytes] = field(factory=list, repr=False)
    #: The message is one live location and nothing else: its only event contains everything.
    is_position: bool = False
    #: The length field is wrong by a few bytes; the frame is passed on raw, and counted.
    wrong_length: bool = False

    @property
    def tells_dialect(self) -> bool:
        """Whether only a lock of this dialect sends this: it is a report, not an answer to a query."""
        return self.message_id != LOCATION_ANSWER and any(kind in _OWN for kind, _ in self.events)

    @property
    def fingerprint(self) -> str | None:
        """The sixteen hex digits by which a repeated report is recognised; None for other messages.

        For a single position they are its content and its serial, so that it is recognised under another
        serial, too.
        """
        if not self.report:
            return None
        if len(self.contents) == 1 and self.contents[0] and self.serial is not None:
            return content_key(self.contents[0]) + self._serial_key
        return blake2b(self.wire, digest_size=_FINGERPRINT_BYTES).hexdigest()

    def keys_of_several(self) -> list[str] | None:
        """The fingerprint of each event; None for a message with one report.

        A lock event has that of the preceding position. One that begins with `NO_KEY` recognises nothing.
        """
        if len(self.contents) < 2:
            return None
        keys, contents, key = [], iter(self.contents), NO_KEY
        for kind, _ in self.events:
            if kind == KIND_LOCATION:
                content = next(contents, b"")
                key = content_key(content) if content else NO_KEY
            keys.append(key + self._serial_key)
        return keys

    @property
    def _serial_key(self) -> str:
        """The serial in a fingerprint, four hex digits."""
        return f"{(self.serial or 0) & 0xFFFF:04x}"

    def answer_at(self, now: datetime) -> bytes | None:
        """Return the answer by which the lock may delete this frame, or None if none is due. `now` in UTC."""
        return self.time_answer(now) if self.time_answer else self.answer


@define
class VersionedMessage(Message):
    """A `$` frame or a sentence, whose head may contain the unit's version.

    `master_version` is the protocol version of a `$` frame, as sent; `sentence_version` that in the head of a
    grouped sentence. `old_answer` takes the place of `answer` for a master with a protocol version below 19h.
    """

    master_version: int | None = None
    sentence_version: int | None = None
    old_answer: bytes | None = None
