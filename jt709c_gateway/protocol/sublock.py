"""Sub-locks and sensors behind a master: the payload of `WLNET,5,2` (PROTOCOL.md §3)."""

from typing import Final

_ESCAPES: Final = (
    (b"\x3d\x15", b"\x28"),
    (b"\x3d\x14", b"\x29"),
    (b"\x3d\x11", b"\x2c"),
    (b"\x3d\x00", b"\x3d"),
)


def unescape(payload: bytes) -> bytes:
    """Undo the escapes of brackets, comma and, last of all, of `3D` itself."""
    for escaped, byte in _ESCAPES:
        payload = payload.replace(escaped, byte)
    return payload
