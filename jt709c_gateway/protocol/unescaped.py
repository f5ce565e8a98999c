"""Finds the end of a 0x5501 or 0x5502 frame without escapes, as some units send it (docs/protocol.rst §1.2).

A flag byte in it may be data: the length field of its header decides.
"""

from jt709c_gateway.protocol.jt808 import BODY_LENGTH, ONE_BYTE_SERIAL, ONE_BYTE_SERIAL_HEADER, checksum


def unescaped_end(buffer: bytes, start: int, closing: int) -> int | None:
    """Return where the frame that opens at `start` ends by its length field.

    None when that isn't after the flag at `closing`, or for other messages.
    """
    if int.from_bytes(buffer[start + 1 : start + 3], "big") not in ONE_BYTE_SERIAL:
        return None
    body = int.from_bytes(buffer[start + 3 : start + 5], "big") & BODY_LENGTH
    # Two flags and the check byte are around header and body.
    end = start + ONE_BYTE_SERIAL_HEADER + body + 3
    return end if end > closing + 1 else None


def is_intact(frame: bytes) -> bool:
    """Return whether a frame without escapes ends in a flag and has the correct check byte."""
    return frame[-1:] == b"\x7e" and not checksum(frame[1:-1])
