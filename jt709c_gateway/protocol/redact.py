"""Masks passwords in everything that is published, stored or logged.

In frames the bytes of a password become `2A` (`*`), and so does the check byte: with the other bytes it would
reveal the XOR of the password's bytes.
"""

import re
from typing import Final

from jt709c_gateway.protocol import lock_event_item, sentences
from jt709c_gateway.protocol.framing import BinaryFrame
from jt709c_gateway.protocol.jt808 import escape

#: A byte, or the pair that stands for one in a frame.
_BYTE: Final = rb"(?:\x7d[\x01\x02]|.)"
#: A lock event item whose code is followed by a password. Searched at every byte: bytes that look like an
#: item may precede a real one.
_EVENT_ITEM = re.compile(
    rb"(?=\x0b%b[%b](%b{1,%d}))"
    % (
        _BYTE,
        b"".join(b"\\x%02x" % code for code in sorted(lock_event_item.WITH_PASSWORD)),
        _BYTE,
        lock_event_item.PASSWORD_LENGTH,
    ),
    re.DOTALL,
)
#: The words in either case, and the long ones with one byte damaged.
_WORDS: Final = sorted(word.encode() for word in sentences.SECRET_WORDS)
_DAMAGED: Final = [
    word[:at] + b"." + word[at + 1 :] for word in _WORDS if len(word) >= 5 for at in range(len(word))
]
_SECRET_TEXT = re.compile(rb"(?:%b)(.*)" % b"|".join(_WORDS + _DAMAGED), re.DOTALL | re.IGNORECASE)
#: The possible check byte: the last one before the final flags.
_LAST_BYTE = re.compile(rb"(%b)\x7e*\Z" % _BYTE, re.DOTALL)
_NOT_SHAPE = re.compile(rb"[^,()\r\n]", re.DOTALL)


def mask_spans(frame: BinaryFrame, spans: list[tuple[int, int]]) -> bytes:
    """Mask spans of the unescaped payload, and the check byte, in a frame as received.

    Without spans the frame is unchanged.
    """
    if not spans:
        return frame.raw
    payload = bytearray(frame.payload)
    for start, end in spans:
        payload[start:end] = b"*" * (end - start)
    raw = frame.raw[1:-1]
    escaped = len(raw) != len(payload) + 1
    body = escape(bytes(payload)) if escaped else bytes(payload)
    return b"\x7e" + body + b"*\x7e"


def passwords(body: bytes, spans: list[tuple[int, int]]) -> str:
    """Return the passwords at these places for display, those that are no text as hex."""
    found, done = [], 0
    for start, end in sorted(set(spans), key=lambda span: (span[0], -span[1])):
        # One that is recognised twice is shown once.
        if end > done:
            done = end
            value = body[start:end]
            text = value.decode("latin-1")
            found.append(text if text.isascii() and text.isprintable() else value.hex())
    return ", ".join(found)


def mask_answer(answer: bytes) -> bytes:
    """Mask an answer to a lock for display: the answer to a dynamic password repeats it."""
    return sentences.mask(answer)[0].encode("latin-1") if answer[:1] == b"(" else answer


def _mask_sentence(raw: bytes) -> bytes:
    """Mask bytes that begin like a sentence, closed or not."""
    said, _, behind = raw.partition(b")")
    return sentences.mask(said + b")")[0].encode("latin-1")[: len(raw) - len(behind)] + behind


def mask_malformed(raw: bytes) -> bytes:
    """Mask every possible password in unreadable bytes as `2A`; the length is unchanged.

    Masked are up to six bytes (an escape counts as one) after `0B`, any length and a code that a password
    follows, with the last byte, which may be the check byte; and everything after a word like `ELOCK`. Bytes
    that only look like a password are masked, too, since a broken frame doesn't tell the difference. There is
    no guarantee if the announcing bytes themselves (the `0B`, the code, the word) are damaged or in another
    run than the password: runs end where a chunk of the stream ends and where another frame may begin (`7E`,
    `(` and a digit, a sound `$` header), after `(` and a digit also at any further `(`, which is one of the
    codes.
    """
    masked = bytearray(_mask_sentence(raw) if raw[:1] == b"(" else raw)
    hidden = [item.span(1) for item in _EVENT_ITEM.finditer(raw)]
    if hidden and raw[:1] != b"(" and (check := _LAST_BYTE.search(raw)):
        hidden.append(check.span(1))
    for start, end in hidden:
        masked[start:end] = b"*" * (end - start)
    if text := _SECRET_TEXT.search(bytes(masked)):
        masked[text.start(1) :] = _NOT_SHAPE.sub(b"*", text[1])
    return bytes(masked)
