"""Keeping passwords out of everything that is published, stored or logged (DESIGN.md §3, §6).

In frames the bytes of a password become `2A` (`*`); the check byte stays as it came.
"""

import re
from contextlib import suppress

from . import lock_events, sentences
from .framing import BinaryFrame
from .jt808 import FrameError, escape, unescape

_EVENT_ITEM = re.compile(
    rb"\x0b[\x01-\x08\x10-\xff](["
    + b"".join(re.escape(bytes([code])) for code in sorted(lock_events.WITH_PASSWORD))
    + rb"])(.{1,6})",
    re.DOTALL,
)
_SENTENCE = re.compile(rb"\(?[^()]*")


def mask_spans(frame: BinaryFrame, spans: list[tuple[int, int]]) -> bytes:
    """The frame as it came, but for the spans of its unescaped payload, which become `2A`."""
    payload = bytearray(frame.payload)
    for start, end in spans:
        payload[start:end] = b"*" * (end - start)
    raw = frame.raw[1:-1]
    escaped = len(raw) != len(payload) + 1
    # The check byte is the last one, or the last pair when it had to be escaped.
    check = raw[-2:] if escaped and raw[-2] == 0x7D else raw[-1:]
    body = escape(bytes(payload)) if escaped else bytes(payload)
    return b"\x7e" + body + check + b"\x7e"


def mask_malformed(raw: bytes) -> bytes:
    """Bytes that could not be read, with everything that may be a password as `2A`.

    Looks for lock event items in binary runs and for words that carry passwords in text: what only looks
    like one is masked too, since a broken frame can't say which it is.
    """
    if raw[:1] == b"\x7e":
        with suppress(FrameError):
            raw = b"\x7e" + unescape(raw[1:])
        raw = _EVENT_ITEM.sub(lambda found: found[0][: -len(found[2])] + b"*" * len(found[2]), raw)
    if any(word.encode() in raw for word in sentences.SECRET_WORDS):
        raw = _SENTENCE.sub(_mask_text, raw)
    return raw


def _mask_text(found: re.Match[bytes]) -> bytes:
    parts = found[0].split(b",")
    at = next((i for i, part in enumerate(parts) if part.decode("latin-1") in sentences.SECRET_WORDS), None)
    if at is None:
        return found[0]
    return b",".join([*parts[: at + 1], *(b"*" * len(part) for part in parts[at + 1 :])])
