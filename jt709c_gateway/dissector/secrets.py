"""Finds the bytes of a frame that may be a password, which the gateway masks before publication.

Offsets count the bytes as received.
"""

from typing import Final

from jt709c_gateway.dissector.reader import Wire
from jt709c_gateway.protocol import jt808, jt808_messages, lock_event_item, sentences
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.redact import mask_malformed

_MASK: Final = sentences.MASK.encode()
#: Length of a header without part numbers, the minimum.
_SHORTEST_HEADER: Final = 12


def _differences(raw: bytes, masked: bytes) -> frozenset[int]:
    return frozenset(at for at, (byte, shown) in enumerate(zip(raw, masked, strict=True)) if byte != shown)


def in_run(raw: bytes) -> frozenset[int]:
    """Find passwords in bytes that are no valid frame."""
    return _differences(raw, mask_malformed(raw))


def in_dollar(raw: bytes) -> frozenset[int]:
    """Find passwords in a whole `$` frame, which has none itself but may be part of a broken frame."""
    return _differences(raw, lock_event_item.mask(raw))


def in_sentence(raw: bytes) -> frozenset[int]:
    """Find passwords in a whole sentence."""
    masked, _ = sentences.mask(lock_event_item.mask(raw))
    return _differences(raw, masked.encode("latin-1"))


def spans(header: jt808.Header, body: bytes) -> list[tuple[int, int]]:
    """Return the offsets of passwords in a body, as found by the decoder."""
    return jt808_messages.decode_body(Message("", "", None, None, "", False, b"", []), header, body)


def in_binary(wire: Wire, end: int, sound: bool) -> tuple[frozenset[int], bool]:
    """Find passwords in a `7E` frame; `end` is the end of its unescaped body, `sound` whether the check fits.

    Also return whether a password in it is already masked, as in events, so that the check can't be verified.
    """
    payload = wire.data[1:end]
    try:
        header = jt808.parse_header(payload) if len(payload) >= _SHORTEST_HEADER else None
    except jt808.FrameError:
        header = None
    hidden: frozenset[int] = frozenset() if sound and header else in_run(wire.raw)
    if header is None:
        return hidden, False
    body = payload[header.body_start :]
    found = [(0, len(body))] if header.packets else spans(header, body)
    if header.message_id == jt808.TEXT:
        hidden |= in_run(wire.raw)
    masked = any(first < last and not body[first:last].strip(_MASK) for first, last in found)
    first_at = 1 + header.body_start
    for first, last in found:
        hidden |= frozenset(range(wire.at[first_at + first], wire.at[first_at + last]))
    return hidden, masked
