"""Splits a byte stream or a datagram into frames (docs/protocol.rst, "The families").

Three families share one port and may follow each other in one stream::

    7E … 7E      JT/T 808 style binary, neighbours may share one flag
    ( … )        ASCII sentence
    24 … length  length-prefixed binary ($)

The framer does not interpret frames; it finds where they start and end, and whether their bytes are intact.
Other bytes are returned as `Malformed`, so that every received byte is accounted for.
"""

import re
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.dollar_check import (
    DOLLAR_START,
    Fit,
    Patience,
    Verdict,
    dollar_end,
    dollar_inside,
    fit,
    judge,
)
from jt709c_gateway.protocol.jt808 import USUAL_LENGTH, FrameError, parse_header, unpack
from jt709c_gateway.protocol.sublock_end import (
    MAX_SENTENCE,
    PADDING,
    SUBLOCK_REPORT,
    sentence_end,
    sentence_inside,
    sublock_end,
)
from jt709c_gateway.protocol.unescaped import is_intact, unescaped_end

#: Longest `7E` frame: 22 bytes of header, 1023 of body and the check byte, all escaped, between two flags.
MAX_BINARY: Final = 2 * (22 + 1023 + 1) + 2
#: Shortest `7E` frame: a header without a body and the check byte, between two flags.
_SHORTEST: Final = 15
#: Bytes of a malformed run that are kept for inspection.
MALFORMED_KEPT: Final = 512

#: Two decimal digits in a byte.
_BCD: Final = b"[" + b"".join(b"\\x%x0-\\x%x9" % (tens, tens) for tens in range(10)) + b"]"
#: The required header of a `$` frame, also with unreadable data: an id, two bytes, a length.
_DOLLAR_IN_STEP: Final = re.compile(
    rb"\$(?:%(d)s{5}..(?!\x00\x00)(?:[\x00-\x03].|\x04\x00|[\x00-\x04]?\Z)|%(d)s{5}.?\Z|%(d)s{0,4}\Z)"
    % {b"d": _BCD},
    re.DOTALL,
)
#: Where a sentence or a `$` frame may begin, and where any frame may. Strict, so that noise is skipped
#: quickly.
_INNER_START = re.compile(rb"\((?=[0-9]|\Z)|" + DOLLAR_START, re.DOTALL)
_START = re.compile(rb"\x7e|" + _INNER_START.pattern, re.DOTALL)
#: A flag right before another family's first byte opens no frame: no message id begins with that byte.
_STRAY_FLAG = re.compile(rb"\x7e[\r\n]{0,4}(?=[($])")
_BEFORE_START = frozenset(b"\r\n($")
#: Flags with too few bytes between them for a frame, up to the last one, which may open one.
_FLAGS = re.compile(
    rb"(?:\x7e(?!\x55[\x01\x02])(?:[^\x7e($]|\((?![0-9])|\$(?!%b)){0,12})+(?=\x7e)" % _BCD, re.DOTALL
)
#: Truncated sentences, each ending at the next one's bracket (a sub-lock's report is longer than that).
_BROKEN_OFF = re.compile(rb"(?:\([^()$\x7e]{0,20})+(?=\()")
#: Text that only a sub-lock's report contains.
_NO_SENTENCE = re.compile(rb"[^\x20-\x7e]|\(")
#: High bytes of the message ids that locks send: only these may follow a flag shared by two frames. 0A and 0D
#: are line ends, and 00 is the beginning of an id, not padding, only when a known id follows.
_UPLINK_HIGH = frozenset([*range(0x0A), 0x0B, 0x0C, 0x55])
_UPLINK_LOW_OF_00 = range(0x01, 0x0A)


@define
class BinaryFrame:
    """An intact `7E` frame: `raw` as received, `payload` without escapes and check byte."""

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
    """Bytes that are no frame: the `reason` (a metric label) and the bytes, truncated to `MALFORMED_KEPT`."""

    reason: str
    raw: bytes = field(repr=False)


Frame = BinaryFrame | SentenceFrame | DollarFrame | Malformed


@define
class Framer:
    """Splits the stream of one connection; holds at most one unfinished frame (about 2 KiB).

    After an invalid frame it continues at the next start byte, so that one broken frame costs no other.
    `skipped` counts bytes that belonged to no frame. The intact frames of a stream don't depend on the chunks
    it arrives in, except for a sub-lock's card that begins with `29` (sublock_end.py), and for a `$` frame
    with surplus bytes (dollar_check.py); the division of garbage into reports does depend on them.
    """

    skipped: int = 0
    _pending: bytes = field(default=b"", repr=False)
    #: The last byte consumed was a closing flag, which may open the next frame too.
    _after_flag: bool = False
    #: A complete `$` frame is held whose last bytes may be the beginning of another frame; or a whole
    #: sentence, behind a flag that probably opens no frame.
    in_doubt: bool = False
    #: The bytes before `_pending` were a whole frame, or there were none.
    _in_step: bool = True
    _patience: Patience = Patience.WAIT

    @property
    def pending(self) -> int:
        """Bytes held back until the rest of their frame arrives."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[Frame]:
        """Process received bytes; return every complete frame, in order."""
        buffer = data
        if self._pending:
            buffer = self._pending + data
            self.in_doubt = False
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
        """Process one whole datagram; bytes left at its end are malformed (`truncated`)."""
        frames = self._settled(data, Patience.ENDED)
        if rest := self._pending:
            frames.append(Malformed("truncated", rest[:MALFORMED_KEPT]))
            self.skipped += len(rest)
            self._pending = b""
            _salvage(rest, frames)
        self._after_flag, self._in_step = False, True
        return frames

    def settle(self) -> list[Frame]:
        """Accept a doubtful `$` frame as complete, since no bytes have followed for a while.

        It is not accepted when it contains so much of another frame that this can't be chance.
        """
        return self._settled(b"", Patience.QUIET)

    def _settled(self, data: bytes, patience: Patience) -> list[Frame]:
        self._patience = patience
        try:
            return self.feed(data)
        finally:
            self._patience = Patience.WAIT

    # Each of these examines the buffer from `position` on, appends what it found and returns the number of
    # processed bytes; 0 means that more bytes must arrive first.

    def _binary(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        closing = buffer.find(b"\x7e", position + 1, position + MAX_BINARY)
        if closing < 0:
            if _STRAY_FLAG.match(buffer, position):
                return self._stray_flag()
            if step := self._up_to_dollar(buffer, position, None, frames):
                return step
            if step := self._up_to_sentence(buffer, position, frames):
                return step
            if len(buffer) - position < MAX_BINARY:
                return 0
            return self._give_up("too_long", buffer, position, MAX_BINARY, frames)
        length = closing + 1 - position
        if length < _SHORTEST and (flags := _FLAGS.match(buffer, position)):
            return self._noise("length", flags[0], frames)
        if buffer[position + 1] in _BEFORE_START and _STRAY_FLAG.match(buffer, position):
            return self._stray_flag()
        raw = buffer[position : closing + 1]
        self._after_flag = self._in_step = True
        try:
            payload = unpack(raw)
            if payload[3] != len(payload) - USUAL_LENGTH & 0xFF:
                # One in 256 random runs has a correct check byte.
                parse_header(payload)
            frames.append(BinaryFrame(raw, payload))
        except FrameError as error:
            by_length = _by_length(buffer, position, closing, frames)
            if by_length:
                return by_length
            step = self._up_to_dollar(buffer, position, closing, frames)
            if step is None:
                step = by_length
            if step is not None:
                return step
            self._in_step = False
            self.skipped += length
            frames.append(Malformed(error.reason, raw[:MALFORMED_KEPT]))
            _salvage(raw, frames)
        return length

    def _stray_flag(self) -> int:
        self._after_flag = False
        self.skipped += 1
        return 1

    def _up_to_dollar(
        self, buffer: bytes, position: int, closing: int | None, frames: list[Frame]
    ) -> int | None:
        """Continue at a complete `$` frame that begins inside an invalid `7E` frame.

        Returns 0 while its completeness is unknown, None without such a frame. The bytes after it are
        processed as if the closing flag had not arrived yet.
        """
        start = dollar_inside(buffer, position, len(buffer) if closing is None else closing, self._patience)
        if not start:
            return start
        step = self._broken_off("truncated", buffer, position, start - position, frames)
        _salvage(buffer[position:start], frames)
        return step

    def _up_to_sentence(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        """Continue at a whole sentence behind a stray flag and bytes that no frame begins with.

        Returns 0 without such a sentence, and as long as more bytes may come that close the frame.
        """
        if fit(buffer, position) is not Fit.NONE:
            return 0
        start = sentence_inside(buffer, position)
        self.in_doubt = start is not None and self._patience is Patience.WAIT
        if start is None or self.in_doubt:
            return 0
        return self._broken_off("truncated", buffer, position, start - position, frames)

    def _shared_flag(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        """Handle bytes right after a closing flag: a frame that shares the flag, or garbage."""
        if (
            buffer[position] == 0
            and len(buffer) - position > 1
            and buffer[position + 1] not in _UPLINK_LOW_OF_00
        ):
            return self._garbage(buffer, position, frames)
        closing = buffer.find(b"\x7e", position, position + MAX_BINARY - 1)
        if closing < 0:
            if (
                not dollar_inside(buffer, position, len(buffer), self._patience)
                and len(buffer) - position < MAX_BINARY - 1
            ):
                return 0
        else:
            flagged = b"\x7e" + buffer[position : position + MAX_BINARY - 1]
            raw = flagged[: closing + 2 - position]
            try:
                payload = unpack(raw)
                parse_header(payload)
            except FrameError:
                step = _by_length(flagged, 0, len(raw) - 1, frames)
                if step:
                    return step - 1
                if step == 0 and not dollar_inside(buffer, position, len(buffer), self._patience):
                    return 0
            else:
                frames.append(BinaryFrame(raw, payload))
                return closing + 1 - position
        return self._garbage(buffer, position, frames)

    def _sentence(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        if len(buffer) - position > 1 and not buffer[position + 1 : position + 2].isdigit():
            return self._garbage(buffer, position, frames)
        limit = position + MAX_SENTENCE
        if report := SUBLOCK_REPORT.match(buffer, position):
            closing = sublock_end(buffer, report.end())
            closing = closing if closing < limit else -1
        else:
            closing = buffer.find(b")", position, limit)
            if broken := _NO_SENTENCE.search(buffer, position + 1, closing if closing >= 0 else limit):
                if run := _BROKEN_OFF.match(buffer, position):
                    return self._noise("sentence", run[0], frames)
                return self._give_up("sentence", buffer, position, broken.start() - position, frames)
        if closing < 0:
            if len(buffer) < limit:
                return 0
            return self._give_up("too_long", buffer, position, MAX_SENTENCE, frames)
        self._after_flag, self._in_step = False, True
        frames.append(SentenceFrame(buffer[position : closing + 1]))
        return closing + 1 - position

    def _dollar(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        possible = _DOLLAR_IN_STEP if self._in_step else _INNER_START
        if not possible.match(buffer, position):
            return self._garbage(buffer, position, frames)
        judgement = judge(buffer, position, self._in_step, self._patience)
        length = judgement.length
        self.in_doubt = judgement.verdict is Verdict.DOUBT
        if judgement.verdict is Verdict.BROKEN:
            return self._broken_off("truncated", buffer, position, length, frames)
        if length:
            self._after_flag, self._in_step = False, True
            frames.append(DollarFrame(buffer[position : position + length]))
        return length

    def _broken_off(self, reason: str, buffer: bytes, position: int, length: int, frames: list[Frame]) -> int:
        """Report a truncated frame, and continue where another frame begins."""
        self._after_flag = self._in_step = False
        self.skipped += length
        frames.append(Malformed(reason, buffer[position : position + min(length, MALFORMED_KEPT)]))
        return length

    def _garbage(self, buffer: bytes, position: int, frames: list[Frame]) -> int:
        start = _START.search(buffer, position + 1)
        run = buffer[position : start.start() if start else len(buffer)]
        return self._noise("garbage", run, frames)

    def _noise(self, reason: str, run: bytes, frames: list[Frame]) -> int:
        """Report bytes in which no frame can begin; skip line ends, padding and doubled flags silently."""
        self._after_flag = False
        self.skipped += len(run)
        # Also after padding: in one chunk a `$` there needs an equally strict beginning.
        self._in_step = False
        if run.strip(PADDING):
            frames.append(Malformed(reason, run[:MALFORMED_KEPT]))
        return len(run)

    def _give_up(self, reason: str, buffer: bytes, position: int, length: int, frames: list[Frame]) -> int:
        """Report the unfinished frame and continue after its start byte, where another may begin."""
        self._after_flag = self._in_step = False
        frames.append(Malformed(reason, buffer[position : position + min(length, MALFORMED_KEPT)]))
        start = _START.search(buffer, position + 1, position + length)
        done = start.start() - position if start else length
        self.skipped += done
        return done


def _by_length(buffer: bytes, position: int, closing: int, frames: list[Frame]) -> int | None:
    """Handle 0x5501 without escapes, as real units send it: the header tells a flag from a data byte."""
    end = unescaped_end(buffer, position, closing)
    if end is None:
        return None
    if end > len(buffer):
        return 0
    raw = buffer[position:end]
    if not is_intact(raw):
        return None
    frames.append(BinaryFrame(raw, raw[1:-2]))
    return end - position


def _salvage(broken: bytes, frames: list[Frame]) -> None:
    """Look for whole sentences or `$` frames in the bytes after a stray flag."""
    start = _INNER_START.search(broken, 1)
    while start:
        position = start.start()
        stop = position + 1
        if broken[position] == 0x28:
            if end := sentence_end(broken, position):
                stop = end
                frames.append(SentenceFrame(broken[position:stop]))
        elif fit(broken, position) is Fit.WHOLE:
            stop = dollar_end(broken, position)
            frames.append(DollarFrame(broken[position:stop]))
        start = _INNER_START.search(broken, stop)
