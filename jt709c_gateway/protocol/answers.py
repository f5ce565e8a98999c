"""Answers of the gateway to the frames of locks: heartbeats, reports, registrations (docs/protocol.rst §1).

Those to sentences are in `sentences` and `pnn`.
"""

from datetime import datetime
from struct import Struct
from typing import Final

from jt709c_gateway.protocol.jt808 import (
    GENERAL_ANSWER,
    HEAD,
    JT705_ANSWER,
    LOCATION,
    REGISTRATION,
    REGISTRATION_ANSWER,
    TIME_ANSWER,
    Header,
    Identity,
    checksum,
    encode,
    escape,
    goes_to_locks,
    header_start,
    pack,
)

_WORD = Struct(">H")
_TWO_WORDS = Struct(">HH")
_JT705_ANSWER = Struct(">HH6sBHB")
#: Serials with a byte that has to be escaped.
_ESCAPED: Final = frozenset(
    high << 8 | low
    for byte in (0x7D, 0x7E)
    for other in range(256)
    for high, low in ((byte, other), (other, byte))
)


def _answer_parts(identity: Identity, message_id: int) -> tuple[bytes, bytes]:
    """Return the bytes before and after the two serials of a 0x8001 on the wire."""
    head = header_start(GENERAL_ANSWER, identity.wire, 5)
    behind = _WORD.pack(message_id) + b"\x00"
    check = bytes([checksum(head + behind)])
    return b"\x7e" + escape(head), escape(behind + check) + b"\x7e"


def general_answer(identity: Identity, serial: int, message_id: int) -> bytes:
    """0x8001, result 0: answered serial u16, answered id u16, result u8.

    Our own serial repeats the lock's, so the two drop out of the check byte, and everything but them can be
    prepared once per lock, which pays for locations.
    """
    if message_id != LOCATION:
        before, behind = _answer_parts(identity, message_id)
    else:
        if identity.location_answer is None:
            identity.location_answer = _answer_parts(identity, LOCATION)
        before, behind = identity.location_answer
    serials = _TWO_WORDS.pack(serial, serial)
    if serial in _ESCAPED:
        serials = escape(serials)
    return before + serials + behind


def registration_answer(identity: Identity, serial: int) -> bytes:
    """0x8100: answered serial u16, result 0, the device id as authentication code in ASCII."""
    body = _WORD.pack(serial) + b"\x00" + identity.device.encode("ascii")
    return encode(REGISTRATION_ANSWER, identity.wire, serial, body)


def jt705_answer(identity: Identity, message_id: int) -> bytes:
    """0x4401 with the one-byte serial 01: answered id u16, result 0."""
    head = HEAD.pack(JT705_ANSWER, 3) + identity.wire
    return pack(head + b"\x01" + _WORD.pack(message_id) + b"\x00")


def parse_jt705_answer(payload: bytes) -> tuple[bytes, int, int] | None:
    """The inverse of `jt705_answer` for an unpacked frame: the lock's id bytes, answered id, result.

    None for any other frame.
    """
    if len(payload) != _JT705_ANSWER.size:
        return None
    message_id, attributes, wire, _, answered, result = _JT705_ANSWER.unpack(payload)
    return (wire, answered, result) if (message_id, attributes) == (JT705_ANSWER, 3) else None


def time_answer(identity: Identity, serial: int, now: datetime) -> bytes:
    """0x8109: year u16, month, day, hour, minute, second u8 (UTC), result 0."""
    body = _WORD.pack(now.year) + bytes([now.month, now.day, now.hour, now.minute, now.second, 0])
    return encode(TIME_ANSWER, identity.wire, serial, body)


def answer_to(header: Header) -> bytes | None:
    """The answer to a heartbeat, report or registration; None for a frame that gets none."""
    if goes_to_locks(header.message_id):
        # The sender is another gateway, or pretends to be one: if answered, the two would answer each other
        # for ever.
        return None
    if header.message_id == REGISTRATION:
        return registration_answer(header.identity, header.serial)
    return general_answer(header.identity, header.serial, header.message_id)
