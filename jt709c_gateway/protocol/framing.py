"""Cutting a byte stream or a datagram into frames (PROTOCOL.md, table of first bytes).

Three families share one port and may follow each other in one stream::

    7E … 7E      JT/T 808 style binary, neighbours may share one flag
    ( … )        ASCII sentence
    24 … length  length-prefixed binary ($)

Nothing here knows what a frame means, only where it starts, where it ends and whether its bytes arrived
intact. What is no frame is handed out as `Malformed`, so that every byte received is accounted for.
"""

import re
from typing import Final

from attrs import define, field

from .jt808 import BODY_LENGTH, ONE_BYTE_SERIAL, ONE_BYTE_SERIAL_HEADER, FrameError, checksum, unpack
from .sublock import unescape as unescape_sublock

#: Longest `7E` frame: 22 bytes of header, 1023 of body and the check byte, all escaped, between two flags.
MAX_BINARY: Final = 2 * (22 + 1023 + 1) + 2
#: Longest sentence. A sub-lock report is about 100 bytes; 20 RFID cards are about 250.
MAX_SENTENCE: Final = 1024
#: Longest data part of a `$` frame: several records of at most 64 bytes each.
MAX_DOLLAR: Final = 1024
_DOLLAR_HEADER: Final = 10
#: How much of a malformed run is kept for a person to look at, bytes.
MALFORMED_KEPT: Final = 512

_START = re.compile(rb"[\x7e($]")
_SENTENCE = re.compile(rb"\([^()]{3,1022}\)", re.DOTALL)
#: A sub-lock's report up to its binary payload (PROTOCOL.md §3).
_SUBLOCK_REPORT = re.compile(rb"\(\d{6,15},1,\d{3},WLNET,5,2,")
#: Bytes of that payload up to its type byte, and how many there are for each type.
_SUBLOCK_TYPE_AT: Final = 33
_SUBLOCK_LENGTHS: Final = {1: (40,), 4: (41, 45)}
_SUBLOCK_SHORTEST: Final = 34
#: Anything but printable ASCII, which only that payload may hold.
_NOT_TEXT = re.compile(rb"[^\x20-\x7e]")
_PADDING = b"\r\n\x00 \t"
#: High bytes of the message ids that locks send: only these may follow a flag shared by two frames.
_UPLINK_HIGH = frozenset([*range(0x10), 0x55])


@define
class BinaryFrame:
    """A `7E` frame that arrived intact: `raw` as it came, `payload` without escapes and check byte."""

    raw: bytes
    payload: bytes


@define
class SentenceFrame:
    """A sentence from `(` to `)`, both included."""

    raw: bytes


@define
class DollarFrame:
    """A `$` frame, complete by its own length field."""

    raw: bytes


@define
class Malformed:
    """Bytes that are no frame: why (`reason`, a metric label) and the bytes, cut to `MALFORMED_KEPT`."""

    reason: str
    raw: bytes = field(repr=False)


def _sublock_end(buffer: bytes, start: int) -> int:
    """Where the sentence with a sub-lock payload at `start` closes, -1 when that hasn't arrived.

    Real units escape neither `(` nor `)` in the payload, so the length that its type has decides.
    """
    closing = buffer.find(b")", start + _SUBLOCK_SHORTEST)
    first = closing
    while 0 <= closing < start + MAX_SENTENCE:
        payload = unescape_sublock(buffer[start:closing])
        kind = payload[_SUBLOCK_TYPE_AT] if len(payload) > _SUBLOCK_TYPE_AT else 0
        if len(payload) in _SUBLOCK_LENGTHS.get(kind, (len(payload),)):
            return closing
        closing = buffer.find(b")", closing + 1)
    return first if len(buffer) - start > MAX_SENTENCE else -1


Frame = BinaryFrame | SentenceFrame | DollarFrame | Malformed


@define
class Framer:
    """Incremental framer for one connection; holds at most one unfinished frame (about 2 KiB).

    After a frame that didn't check out it goes on at the next start byte, so that one broken frame costs
    no other. `skipped` counts bytes that belonged to no frame.
    """

    skipped: int = 0
    _pending: bytes = field(default=b"", repr=False)
    #: The last byte consumed was a closing flag, which may open the next frame too.
    _after_flag: bool = False

    @property
    def pending(self) -> int:
        """Bytes held back until the rest of their frame arrives."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[Frame]:
        """Take what has been received; give every frame that is complete by now, in order."""
        buffer = self._pending + data if self._pending else data
        frames: list[Frame] = []
        position = 0
        end = len(buffer)
        while position < end:
            if buffer[position] == 0x7E:
                step = self._binary(buffer, position, frames)
            elif buffer[position] == 0x28:
                step = self._sentence(buffer, position, frames)
            elif buffer[position] == 0x24:
                step = self._dollar(buffer, position, frames)
            elif self._after_flag and buffer[position] in _UPLINK_HIGH:
                step = self._shared_flag(buffer, position, frames)
            else:
                step = self._garbage(buffer, position, frames)
            if not step:
                break
            position += step
        self._pending = buffer[position:]
        return frames

    def feed_datagram(self, data: bytes) -> list[Frame]:
        """Take one whole datagram; what is left over at its end is malformed (`truncated`)."""
        frames = self.feed(data)
        if self._pending:
            frames.append(Malformed("truncated", self._pending[:MALFORMED_KEPT]))
            self.skipped += len(self._pending)
            self._pending = b""
        self._after_flag = False
        return frames

    # Each of these looks at the buffer from `position` on, appends what it found and returns how many
    # bytes are done with; 0 means that more bytes have to arrive first.

    def _binary(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        closing = buffer.find(b"\x7e", position + 1)
        if closing < 0:
            if len(buffer) - position <= MAX_BINARY:
                return 0
            return self._give_up("too_long", buffer, position, MAX_BINARY, frames)
        length = closing + 1 - position
        if length == 2:
            # Two flags in a row: the first closed a frame (or was noise), the second opens one.
            return 1
        if length > MAX_BINARY:
            return self._give_up("too_long", buffer, position, MAX_BINARY, frames)
        raw = buffer[position : closing + 1]
        self._after_flag = True
        try:
            frames.append(BinaryFrame(raw, unpack(raw)))
        except FrameError as error:
            by_length = self._by_length(buffer, position, closing, frames)
            if by_length is not None:
                return by_length
            self.skipped += length
            frames.append(Malformed(error.reason, raw[:MALFORMED_KEPT]))
            self._salvage(raw, frames)
        return length

    def _by_length(self, buffer: bytes, position: int, closing: int, frames: list[Frame]) -> int | None:
        """Real units send 0x5501 without escapes: then only the header tells a flag from a byte like it."""
        if int.from_bytes(buffer[position + 1 : position + 3], "big") not in ONE_BYTE_SERIAL:
            return None
        body = int.from_bytes(buffer[position + 3 : position + 5], "big") & BODY_LENGTH
        end = position + 1 + ONE_BYTE_SERIAL_HEADER + body + 1
        if end <= closing:
            return None
        if end >= len(buffer):
            return 0
        data = buffer[position + 1 : end]
        if buffer[end] != 0x7E or checksum(data):
            return None
        frames.append(BinaryFrame(buffer[position : end + 1], data[:-1]))
        return end + 1 - position

    def _shared_flag(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        """Bytes right behind a closing flag: a frame that shares it, or else garbage."""
        closing = buffer.find(b"\x7e", position)
        if closing < 0:
            if len(buffer) - position < MAX_BINARY:
                return 0
        elif closing - position < MAX_BINARY:
            raw = b"\x7e" + buffer[position : closing + 1]
            try:
                frames.append(BinaryFrame(raw, unpack(raw)))
            except FrameError:
                pass
            else:
                return closing + 1 - position
        return self._garbage(buffer, position, frames)

    def _sentence(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        report = _SUBLOCK_REPORT.match(buffer, position)
        closing = _sublock_end(buffer, report.end()) if report else buffer.find(b")", position)
        stop = closing if closing >= 0 else len(buffer)
        text = buffer[position : min(stop, position + MAX_SENTENCE)]
        if not report:
            if (restart := text.find(b"(", 1)) >= 0:
                return self._give_up("sentence", buffer, position, restart, frames)
            if binary := _NOT_TEXT.search(text):
                return self._give_up("sentence", buffer, position, binary.start(), frames)
        if closing - position >= MAX_SENTENCE:
            return self._give_up("too_long", buffer, position, MAX_SENTENCE, frames)
        if closing < 0:
            if len(text) < MAX_SENTENCE:
                return 0
            return self._give_up("too_long", buffer, position, MAX_SENTENCE, frames)
        self._after_flag = False
        frames.append(SentenceFrame(buffer[position : closing + 1]))
        return closing + 1 - position

    def _dollar(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        header = buffer[position : position + _DOLLAR_HEADER]
        if not header[1:6].hex().isdecimal() and len(header) > 1:
            return self._give_up("dollar_header", buffer, position, 1, frames)
        if len(header) < _DOLLAR_HEADER:
            return 0
        length = int.from_bytes(header[8:10], "big")
        if not 0 < length <= MAX_DOLLAR:
            return self._give_up("dollar_header", buffer, position, 1, frames)
        if len(buffer) - position < _DOLLAR_HEADER + length:
            return 0
        self._after_flag = False
        frames.append(DollarFrame(buffer[position : position + _DOLLAR_HEADER + length]))
        return _DOLLAR_HEADER + length

    def _garbage(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        start = _START.search(buffer, position)
        run = buffer[position : start.start() if start else len(buffer)]
        self._after_flag = False
        self.skipped += len(run)
        # Line ends and padding between frames are a habit of some modems and harm nobody.
        if run.strip(_PADDING):
            frames.append(Malformed("garbage", run[:MALFORMED_KEPT]))
        return len(run)

    def _give_up(self, reason: str, buffer: bytes, position: int, length: int, frames: list[Frame]) -> int:
        """Report the unfinished frame and go on behind its start byte, where another may begin."""
        self._after_flag = False
        frames.append(Malformed(reason, buffer[position : position + min(length, MALFORMED_KEPT)]))
        start = _START.search(buffer, position + 1, position + length)
        done = start.start() - position if start else length
        self.skipped += done
        return done

    def _salvage(self, broken: bytes, frames: list[Frame]) -> None:
        """A stray flag may have swallowed whole sentences or `$` frames: look for them inside."""
        for found in _SENTENCE.finditer(broken, 1, len(broken) - 1):
            if found[0][1:2].isdigit() and not _NOT_TEXT.search(found[0]):
                frames.append(SentenceFrame(found[0]))
        position = broken.find(b"$", 1)
        while position >= 0:
            header = broken[position : position + _DOLLAR_HEADER]
            length = int.from_bytes(header[8:10], "big")
            stop = position + _DOLLAR_HEADER + length
            if header[1:6].hex().isdecimal() and length > 0 and stop <= len(broken):
                frames.append(DollarFrame(broken[position:stop]))
            else:
                stop = position + 1
            position = broken.find(b"$", stop)
