"""Finds the ends of sentences; those of sub-locks have a binary payload, which may contain brackets.

docs/protocol.rst §3 has its layout.
"""

import re
from typing import Final

from jt709c_gateway.protocol.sublock import unescape

#: Longest sentence. A sub-lock report is about 100 bytes; 20 RFID cards are about 250.
MAX_SENTENCE: Final = 1024
#: A sub-lock's report up to its binary payload (docs/protocol.rst §3).
SUBLOCK_REPORT = re.compile(rb"\([0-9]{1,20},[0-9]{1,3},[0-9]{1,3},WLNET,[57],2,")
#: The beginning of any sentence, and a whole one without such a payload inside a broken frame.
_HEAD = re.compile(rb"\([0-9]{1,20},")
_SENTENCE = re.compile(rb"\([0-9]{6,20},[\x20-\x27\x2a-\x7e]{1,1000}\)")
#: Bytes of that payload up to its type byte, and its length for each type.
_TYPE_AT: Final = 33
SUBLOCK_LENGTHS: Final = {1: (40,), 4: (41, 45)}
#: Valves are documented with the lengths of a lock. None was recorded, so other lengths end at the bracket.
_LIKELY_LENGTHS: Final = {5: (41, 45), 6: (41, 45), 9: (41, 45)}
_ANY_LENGTHS: Final = SUBLOCK_LENGTHS | _LIKELY_LENGTHS
#: A closing bracket follows the type byte at the earliest.
_SHORTEST: Final = _TYPE_AT + 1
#: Bytes between two frames that belong to none.
PADDING: Final = b"\r\n\x00 \t\x7e"
#: Bytes that may follow a frame: padding, or the first byte of the next one.
_BETWEEN = PADDING + b"($"
#: The end, or the first byte of the next frame.
_NEXT: Final = (b"", b"(", b"$", b"\x7e")


def _goes_on(buffer: bytes, closing: int) -> bool:
    """Return whether a bracket at the end of the shorter payload is the first byte of a card, which has four.

    The following bytes decide; when they haven't arrived, the bracket counts as the end.
    """
    return buffer[closing + 4 : closing + 5] == b")" and buffer[closing + 1] not in _BETWEEN


def sublock_end(buffer: bytes, start: int) -> int:
    """Return where the sentence with a sub-lock payload at `start` closes, -1 when that hasn't arrived.

    Real units escape neither `(` nor `)` in the payload, so the length of its type decides; for an unknown
    type or length, the first bracket after the type.
    """
    limit = start + MAX_SENTENCE
    first = closing = buffer.find(b")", start + _SHORTEST, limit)
    while closing >= 0:
        payload = unescape(buffer[start:closing])
        if len(payload) >= _SHORTEST:
            kind = payload[_TYPE_AT]
            lengths = _ANY_LENGTHS.get(kind)
            if lengths is None or len(payload) == lengths[-1]:
                return closing
            if len(payload) in lengths and not _goes_on(buffer, closing):
                return closing
            if len(payload) > lengths[-1]:
                return first
            likely = kind in _LIKELY_LENGTHS and len(payload) not in lengths
            if likely and buffer[closing + 1 : closing + 2] in _NEXT:
                return closing
        closing = buffer.find(b")", closing + 1, limit)
    return first if len(buffer) >= limit else -1


def sentence_end(buffer: bytes, start: int) -> int | None:
    """Return the end of the whole sentence at `start` inside a broken frame; None without one."""
    if report := SUBLOCK_REPORT.match(buffer, start):
        return sublock_end(buffer, report.end()) + 1 or None
    sentence = _SENTENCE.match(buffer, start)
    return sentence.end() if sentence else None


def sentence_inside(buffer: bytes, start: int) -> int | None:
    """Return where the first whole sentence behind `start` begins; None without one."""
    heads = _HEAD.finditer(buffer, start + 1)
    return next((head.start() for head in heads if sentence_end(buffer, head.start())), None)
