"""Decides whether a `$` frame is complete (docs/protocol.rst §2.3).

A `$` frame has no check byte, and a truncated one takes bytes of the following frames up to its announced
length. So the length alone proves nothing. The digits of its records do, and so do the bytes inside and after
it: when another frame begins inside, the outer one was truncated there.
"""

import re
from enum import IntEnum
from typing import Final

from attrs import define

from jt709c_gateway.protocol import jt701
from jt709c_gateway.protocol.jt808 import (
    BIT_ANSWER_WANTED,
    BODY_LENGTH,
    ENCRYPTION,
    HEARTBEAT,
    LOGOUT,
    ONE_BYTE_SERIAL,
    TERMINAL_ANSWER,
    FrameError,
    parse_header,
    unpack,
)
from jt709c_gateway.protocol.unescaped import is_intact, unescaped_end

#: Longest data part of a `$` frame: several records of at most 64 bytes each.
MAX_DOLLAR: Final = 1024


class Fit(IntEnum):
    """How bytes fit a frame: not at all, partly arrived, or completely."""

    NONE = 0
    PART = 1
    WHOLE = 2


class Patience(IntEnum):
    """Whether to wait for more bytes to resolve a doubt.

    `ENDED`: no more will arrive. `QUIET`: none have arrived for a while. `WAIT`: more may arrive soon.
    """

    WAIT = 0
    QUIET = 1
    ENDED = 2


class Verdict(IntEnum):
    """The decision about bytes that begin like a `$` frame.

    `DOUBT` waits as `INCOMPLETE` does, but the frame has all its bytes, and counts as whole once it is quiet.
    """

    INCOMPLETE = 0
    DOUBT = 1
    WHOLE = 2
    BROKEN = 3


@define
class Judgement:
    """A verdict, and the number of bytes it covers."""

    verdict: Verdict
    length: int = 0


def _class(values: "range | list[int]") -> bytes:
    return b"[" + b"".join(b"\\x%02x" % value for value in values) + b"]"


def _digits(most: int = 99) -> bytes:
    """Return a pattern for a byte of two decimal digits, up to `most`."""
    return _class([int(str(number), 16) for number in range(most + 1)])


_ANY: Final = rb"[\x00-\xff]"
#: Id, protocol version, types, and the high byte of a plausible length.
_HEAD: Final = (*(_digits() for _ in range(5)), _ANY, _ANY, _class(range(MAX_DOLLAR // 256 + 1)), _ANY)
#: The plausible values of a record (position.py): a date and time, which may be all zeros, degrees on a
#: globe, the flag that is always set, and a course of at most 360 degrees.
_RECORD: Final = (
    *(_digits(most) for most in (31, 12, 99, 23, 59, 59)),
    *(_digits(most) for most in (90, 59, 99, 99)),
    _digits(18),
    _class([tens << 4 | ones for tens in range(10) for ones in range(6)]),
    _digits(),
    _digits(),
    _class([digit << 4 | flags for digit in range(10) for flags in range(8, 16)]),
    _ANY,
    _class(range(181)),
)


def _as_far_as_there(classes: tuple[bytes, ...]) -> bytes:
    """Return a pattern for bytes of these classes, the last of which may not have arrived."""
    pattern = b""
    for each in reversed(classes):
        pattern = rb"(?:\Z|%b%b)" % (each, pattern)
    return pattern


#: Where a `$` frame may begin: its header and the place of its first record, as far as they have arrived.
DOLLAR_START: Final = rb"\$" + _as_far_as_there(_HEAD + _RECORD)
_DOLLAR: Final = re.compile(DOLLAR_START, re.DOTALL)
#: Bytes of a `$` frame up to the place of its first record and with it.
_PLACED: Final = 1 + len(_HEAD) + len(_RECORD)
_RECORD_HEAD: Final = re.compile(b"".join(_RECORD), re.DOTALL)
#: A flag and an id that locks send.
_BINARY: Final = re.compile(
    rb"\x7e(?:\Z|[\x00-\x02\x07\x55]\Z|\x00[\x01-\x03]|\x01[\x00\x02\x04\x07\x09]|\x02[\x00\x01]|\x07\x04"
    rb"|\x55[\x01\x02])",
    re.DOTALL,
)
_SENTENCE: Final = re.compile(rb"\([0-9]{6,20},")
_SENTENCE_PART: Final = re.compile(rb"\([0-9]{0,20}\Z")
_FIRST: Final = re.compile(rb"[$(\x7e]")
#: The same, but for brackets that begin no sentence: where there is none of these, nothing begins.
_POSSIBLE: Final = re.compile(rb"[$\x7e]|\((?=[0-9]|\Z)")
_LIKELY: Final = re.compile(
    b"|".join((DOLLAR_START, _BINARY.pattern, _SENTENCE.pattern, _SENTENCE_PART.pattern)), re.DOTALL
)
#: Number of bytes that prove the beginning of a frame, by its first byte.
_FIRM: Final = {0x24: jt701.HEADER_LENGTH, 0x28: 6, 0x7E: 5}
#: Shortest `7E` frame, and bytes in one beside its body: the longest header, check byte and flags.
_SHORTEST_BINARY: Final = 15
_LONGEST_AROUND: Final = 25
#: Short messages, and the maximum size of their bodies.
_SHORT_MESSAGES: Final = (TERMINAL_ANSWER, HEARTBEAT, LOGOUT)
_SHORT_BODY: Final = 64
#: Maximum number of beginnings examined inside one frame: more are an attempt to waste CPU time.
_MAX_LOOKED_AT: Final = 64
#: Bytes that may be between two frames.
_PADDED: Final = b"\r\n\x00 \t\x7e"
_PADDING: Final = re.compile(b"[" + _PADDED + b"]+")
#: Fewer bytes than this may belong to the previous frame, whose length field is then wrong.
_STRAY: Final = 4
#: Where the IMEI of a record stands: fifteen digits and F, or 0F eight times.
_IMEI: Final = slice(38, 46)
_NO_IMEI: Final = bytes([jt701.ABSENT]) * 8


def _lengths() -> frozenset[int]:
    """Lengths of data that can be divided into records."""
    found = {*range(jt701.SHORTEST, jt701.LONGEST + 1)}
    for size in jt701.SIZES:
        found.update(range(size + 1, MAX_DOLLAR + 1, size + 1))
        found.update(range(size + 1, MAX_DOLLAR + 1, size))
    return frozenset(found)


_LENGTHS: Final = _lengths()
#: Those of records as units send them, each with its serial.
_USUAL: Final = frozenset(
    length for size in jt701.SIZES for length in range(size + 1, MAX_DOLLAR + 1, size + 1)
)


def is_sound(data: bytes) -> bool:
    """Return whether the data of a `$` frame are records, each with a possible time and position."""
    if jt701.SHORTEST <= len(data) < jt701.TWO_RECORDS:
        # One record, whose digits are sound where it fits the pattern.
        return _RECORD_HEAD.match(data) is not None
    records = [record for record, _ in jt701.divide(data)]
    return bool(records) and all(_RECORD_HEAD.match(record) for record in records)


def dollar_end(buffer: bytes, at: int) -> int:
    """Return the end of a `$` frame by its length field, which must have arrived."""
    start = at + jt701.HEADER_LENGTH
    return start + int.from_bytes(buffer[start - 2 : start], "big")


def fit(buffer: bytes, at: int) -> Fit:
    """Return how the bytes from `at` on fit a frame of any family."""
    if buffer[at] == 0x24:
        return _dollar_fit(buffer, at)
    if buffer[at] == 0x7E:
        return _binary_fit(buffer, at)
    if _SENTENCE.match(buffer, at):
        return Fit.WHOLE
    return Fit.PART if _SENTENCE_PART.match(buffer, at) else Fit.NONE


def _dollar_fit(buffer: bytes, at: int) -> Fit:
    if not _DOLLAR.match(buffer, at):
        return Fit.NONE
    start = at + jt701.HEADER_LENGTH
    if len(buffer) < start:
        return Fit.PART
    length = int.from_bytes(buffer[start - 2 : start], "big")
    if length not in _LENGTHS:
        return Fit.NONE
    if len(buffer) < start + length:
        return Fit.PART
    return Fit.WHOLE if is_sound(buffer[start : start + length]) else Fit.NONE


def _binary_fit(buffer: bytes, at: int) -> Fit:
    if not _BINARY.match(buffer, at):
        return Fit.NONE
    closing = buffer.find(b"\x7e", at + 1)
    if closing < 0:
        return Fit.PART if _may_be_part(buffer, at) else Fit.NONE
    if unescaped := unescaped_end(buffer, at, closing):
        if unescaped > len(buffer):
            return Fit.PART
        if is_intact(buffer[at:unescaped]):
            return Fit.WHOLE
    if closing + 1 - at < _SHORTEST_BINARY:
        return Fit.NONE
    try:
        parse_header(unpack(buffer[at : closing + 1]))
    except FrameError:
        return Fit.NONE
    return Fit.WHOLE


def _may_be_part(buffer: bytes, at: int) -> bool:
    """Return whether a `7E` frame may be arriving, by its attributes and its length."""
    if len(buffer) - at < _FIRM[0x7E]:
        return True
    message_id = int.from_bytes(buffer[at + 1 : at + 3], "big")
    attributes = int.from_bytes(buffer[at + 3 : at + 5], "big")
    length = attributes & BODY_LENGTH
    if message_id not in ONE_BYTE_SERIAL and attributes & (ENCRYPTION | BIT_ANSWER_WANTED):
        return False
    if message_id in _SHORT_MESSAGES and length > _SHORT_BODY:
        return False
    # Each byte between the flags may have been escaped.
    return len(buffer) - at < 2 * (length + _LONGEST_AROUND)


def first_whole(buffer: bytes, start: int, stop: int) -> tuple[int | None, int | None]:
    """Return where the first frame surely begins from `start` to `stop`, and the first that may be arriving.

    Sure are a complete frame, and a `$` header with the position that follows it, truncated or not.
    """
    partly: int | None = None
    if not _POSSIBLE.search(buffer, start, stop):
        return None, None
    at = start - 1
    for _ in range(_MAX_LOOKED_AT):
        found = _LIKELY.search(buffer, at + 1)
        if found is None or found.start() >= stop:
            break
        at = found.start()
        how = fit(buffer, at)
        if how is Fit.WHOLE or _is_placed(buffer, at):
            return at, partly
        if how is Fit.PART and partly is None:
            partly = at
    return None, partly


def _is_placed(buffer: bytes, at: int) -> bool:
    """Return whether a `$` header with a possible length, and the position after it, have arrived.

    The bytes from `at` on are like a beginning.
    """
    start = at + jt701.HEADER_LENGTH
    length = int.from_bytes(buffer[start - 2 : start], "big")
    return buffer[at] == 0x24 and len(buffer) - at >= _PLACED and length in _LENGTHS


def dollar_inside(buffer: bytes, at: int, stop: int, patience: Patience) -> int | None:
    """Return where a `$` frame begins from `at` to `stop`, complete or truncated by another one.

    0 if one may be arriving, None without one.
    """
    start = buffer.find(b"$", at + 1, stop)
    while start >= 0:
        how = fit(buffer, start)
        if how is Fit.WHOLE:
            return start
        if how is Fit.PART and len(buffer) - start >= jt701.HEADER_LENGTH and patience < Patience.ENDED:
            # With another frame inside, its rest won't come.
            return 0 if first_whole(buffer, start + 1, len(buffer))[0] is None else start
        start = buffer.find(b"$", start + 1, stop)
    return None


def judge(buffer: bytes, at: int, in_step: bool, patience: Patience) -> Judgement:
    """Judge the bytes from `at` on, which begin with a `$` and a possible header.

    `in_step` says that the preceding bytes were a complete frame: then unreadable data are those of an
    unknown unit, otherwise part of a broken frame.
    """
    if not in_step and fit(buffer, at) is Fit.NONE:
        return Judgement(Verdict.BROKEN, _to_next(buffer, at, len(buffer)) - at)
    start = at + jt701.HEADER_LENGTH
    stop = dollar_end(buffer, at)
    complete = start <= len(buffer) and stop <= len(buffer)
    whole, partly = first_whole(buffer, at + 1, stop if complete else len(buffer))
    if whole is not None:
        return Judgement(Verdict.BROKEN, whole - at)
    if not complete:
        return Judgement(Verdict.INCOMPLETE)
    sound = is_sound(buffer[start:stop])
    if partly is not None and not (sound and _outweighs(buffer, start, stop, partly)):
        firm = len(buffer) - partly >= _FIRM[buffer[partly]]
        if patience is Patience.WAIT or (firm and patience is Patience.QUIET):
            return Judgement(Verdict.DOUBT)
        if firm and not sound:
            return Judgement(Verdict.BROKEN, partly - at)
    if not sound:
        return Judgement(Verdict.WHOLE, stop - at)
    if stop == len(buffer) or _follows(buffer, stop):
        if patience is Patience.WAIT and _is_moved(buffer[start:stop]) and not buffer[stop:].strip(_PADDED):
            return Judgement(Verdict.DOUBT)
        return Judgement(Verdict.WHOLE, stop - at)
    return _followed_by_garbage(buffer, at, stop)


def _outweighs(buffer: bytes, start: int, stop: int, partly: int) -> bool:
    """Return whether sound data from `start` to `stop` are one frame, although another seems to begin inside.

    Two things prove it: an IMEI, or the value for none, in its place behind the apparent beginning; and a
    whole frame that begins at `stop` or later. The position in another record may look like an IMEI, so an
    IMEI proves nothing against a header that a position follows.
    """
    chance = buffer[partly] != 0x24 or len(buffer) - partly < _PLACED
    if chance and partly < start + _IMEI.start and _has_imei(buffer[start:stop]):
        return True
    return first_whole(buffer, stop, len(buffer))[0] is not None


def _follows(buffer: bytes, stop: int) -> bool:
    """Return whether only padding and another frame, possibly partial, follow from `stop` on."""
    found = _PADDING.match(buffer, stop)
    end = found.end() if found else stop
    if end == len(buffer) or _any_fit(buffer, end):
        return True
    return end > stop and _any_fit(buffer, end - 1)


def _any_fit(buffer: bytes, at: int) -> bool:
    return buffer[at] in _FIRM and fit(buffer, at) is not Fit.NONE


def _to_next(buffer: bytes, at: int, stop: int) -> int:
    """Return where another frame may begin inside an invalid frame."""
    found = _FIRST.search(buffer, at + 1, stop)
    return found.start() if found else stop


def _followed_by_garbage(buffer: bytes, at: int, stop: int) -> Judgement:
    """Judge a frame with sound digits that is followed by bytes of no frame.

    Those bytes are noise or part of a broken next frame, and this frame is whole; or they belong to this
    frame, whose length field is then wrong. The latter is assumed when its length is unusual and few bytes
    follow up to the next frame, and when it makes a record with an IMEI in its place together with them. A
    record that is long enough for an IMEI, but has none in its place, is broken: surplus bytes have moved it.
    """
    start = at + jt701.HEADER_LENGTH
    whole, partly = first_whole(buffer, stop, len(buffer))
    found = partly if whole is None else whole if partly is None else min(whole, partly)
    if _has_imei(buffer[start:stop]):
        return Judgement(Verdict.WHOLE, stop - at)
    if _is_moved(buffer[start:stop]):
        return Judgement(Verdict.BROKEN, (stop if found is None else found) - at)
    if found is not None:
        data = buffer[start:found]
        odd = stop - start not in _USUAL and found - stop < _STRAY
        if odd or (_has_imei(data) and is_sound(data)):
            return Judgement(Verdict.BROKEN, found - at)
    return Judgement(Verdict.WHOLE, stop - at)


def _has_imei(data: bytes) -> bool:
    """Return whether the data are one record with an IMEI, or the value for none, in its place."""
    imei = data[_IMEI]
    if len(data) != jt701.FULL_END + 1:
        return False
    return imei == _NO_IMEI or (imei.hex()[:15].isdecimal() and imei[-1] & 0x0F == 0x0F)


def _is_moved(data: bytes) -> bool:
    """Return whether the data have the length of a record with an IMEI, but neither that nor its filler."""
    return len(data) == jt701.FULL_END + 1 and not _has_imei(data)
