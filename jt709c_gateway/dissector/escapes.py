"""Undoes escapes and keeps the original offset of each byte."""

import re
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from jt709c_gateway.protocol.sublock import ESCAPES

_BINARY: Final = {b"\x7d\x01": b"\x7d", b"\x7d\x02": b"\x7e"}
_PAYLOAD: Final = dict(ESCAPES)


@define
class Unescaped:
    """Bytes without escapes, in the form that `Wire` takes."""

    data: bytes
    at: Sequence[int]
    faults: dict[int, str] = field(factory=dict)


def whole(raw: bytes) -> Unescaped:
    """Bytes that have no escapes."""
    return Unescaped(raw, range(len(raw) + 1))


def binary(raw: bytes, closing: int) -> Unescaped:
    """A `7E` frame: the escapes up to the flag at `closing` are undone (docs/protocol.rst §1).

    A `7D` that escapes nothing stands for itself and is a fault.
    """
    found = _undo(raw, 1, closing, _BINARY)
    for index, start in enumerate(found.at[:-1]):
        if 0 < start < closing and raw[start] == 0x7D and found.at[index + 1] == start + 1:
            next_ = raw[start + 1 : min(start + 2, closing)].hex() or "the end"
            found.faults[index] = f"expected 01 or 02 behind 7d, found {next_}"
    return found


def payload(raw: bytes, start: int, end: int) -> Unescaped:
    """A sentence whose bytes from `start` to `end` are a sub-lock's payload (docs/protocol.rst §3)."""
    return _undo(raw, start, end, _PAYLOAD)


def _undo(raw: bytes, start: int, end: int, escapes: dict[bytes, bytes]) -> Unescaped:
    pattern = re.compile(b"|".join(re.escape(pair) for pair in escapes))
    data, at = bytearray(raw[:start]), list(range(start))
    position = start
    for pair in pattern.finditer(raw, start, end):
        data += raw[position : pair.start()] + escapes[pair[0]]
        at += [*range(position, pair.start()), pair.start()]
        position = pair.end()
    data += raw[position:]
    at += range(position, len(raw) + 1)
    return Unescaped(bytes(data), at)
