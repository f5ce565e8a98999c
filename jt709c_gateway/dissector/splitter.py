"""Splits bytes into frames and the bytes between them, as the gateway does, but without omissions."""

import re
from itertools import zip_longest
from typing import Final

from attrs import define

from jt709c_gateway.dissector.secrets import in_run
from jt709c_gateway.protocol.framing import MALFORMED_KEPT, BinaryFrame, Framer, Malformed

#: Flags, line ends and the like, which the framer skips.
_PADDING: Final = b"\r\n\x00 \t\x7e"
_COMMANDS: Final = re.compile(rb"(\(P\d\d(?:,[^()]*)?\))", re.DOTALL)


@define
class Piece:
    """Bytes at an offset: a frame, other bytes, or what may stand between frames (`padding`).

    `hidden` may be a password, by offset in `raw`.
    """

    offset: int
    raw: bytes
    hidden: frozenset[int] = frozenset()
    padding: bool = False


@define
class _Found:
    """A result of the framer, and its offset."""

    start: int
    end: int
    sound: bool


def cut(data: bytes) -> list[Piece]:
    """Split `data` into pieces, in order and without gaps; two frames that share a flag both have it."""
    found = _locate(data)
    hidden: set[int] = set()
    for each in found:
        if not each.sound:
            hidden.update(each.start + at for at in in_run(data[each.start : each.end]))
    pieces: list[Piece] = []
    position = 0
    for each, following in zip_longest(found, found[1:]):
        pieces += _between(data, position, each.start, hidden)
        if each.sound:
            pieces.append(Piece(each.start, data[each.start : each.end]))
        else:
            # A broken frame may contain whole ones.
            each.end = min(each.end, following.start) if following else each.end
            pieces += _runs(data, each.start, each.end, hidden)
        position = max(position, each.end)
    return pieces + _between(data, position, len(data), hidden)


def _locate(data: bytes) -> list[_Found]:
    """Find the offsets of the framer's results, which come in the order of the bytes."""
    found: list[_Found] = []
    position = 0
    cut_short: _Found | None = None
    for frame in Framer().feed_datagram(data):
        shared = isinstance(frame, BinaryFrame) and bool(found) and data.startswith(frame.raw, position - 1)
        start = position - 1 if shared and found[-1].sound else data.find(frame.raw, position)
        each = _Found(start, start + len(frame.raw), not isinstance(frame, Malformed))
        if cut_short is not None:
            cut_short.end, cut_short = start, None
        if isinstance(frame, Malformed) and len(frame.raw) == MALFORMED_KEPT:
            each.end, cut_short = len(data), each
        whole = each.sound or (isinstance(frame, Malformed) and frame.reason == "garbage")
        position = each.end if whole and cut_short is None else start + 1
        found.append(each)
    return found


def _between(data: bytes, start: int, end: int, hidden: set[int]) -> list[Piece]:
    """Return the pieces that the framer skipped."""
    run = data[start:end]
    if run and not run.strip(_PADDING):
        return [Piece(start, run, padding=True)]
    return _runs(data, start, end, hidden)


def _runs(data: bytes, start: int, end: int, hidden: set[int]) -> list[Piece]:
    """Split bytes without a valid frame into `Pnn` commands, which no lock sends, and other bytes."""
    run = data[start:end]
    if run[:1] in (b"\x7e", b"$") or run[1:2].isdigit():
        parts = [run]
    else:
        parts = _COMMANDS.split(run)
    pieces = []
    for part in parts:
        if part:
            covered = () if _COMMANDS.fullmatch(part) else range(len(part))
            pieces.append(Piece(start, part, frozenset(at for at in covered if start + at in hidden)))
            start += len(part)
    return pieces
