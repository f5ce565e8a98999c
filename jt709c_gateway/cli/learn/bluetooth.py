"""Decodes Bluetooth HCI packets down to the bytes of the application: ATT values and RFCOMM data.

::

    ACL     handle u16 (bits 0-11 connection, 12-13: 01 goes on) · length u16 · data
    L2CAP   length u16 · channel u16 · payload                     little endian; over several ACL packets
    ATT     opcode u8 · handle u16 [· offset u16] · value          channel 4
    RFCOMM  address u8 · control u8 · length 1-2 bytes [· credits u8] · data · check u8
"""

import struct
from collections.abc import Iterator
from typing import Final

from attrs import define, field

_ATT: Final = 4
_FIRST_DYNAMIC: Final = 0x40
#: Bytes before the value, by opcode: write, write command, prepared write, notification, indication.
_VALUES: Final = {0x12: 3, 0x52: 3, 0x16: 5, 0x1B: 3, 0x1D: 3}
#: Unnumbered information, without and with credits.
_RFCOMM_DATA: Final = {0xEF: 0, 0xFF: 1}
_CONTINUES: Final = 1


@define
class AttConnections:
    """Reassembles L2CAP packets, for each direction and connection."""

    _pending: dict[tuple[bool | None, int], bytearray] = field(factory=dict, repr=False)

    def feed(self, sent: bool | None, acl: bytes) -> Iterator[tuple[int, bytes]]:
        """Process an ACL packet; return the channel and the bytes of the application that it completes."""
        if len(acl) < 4:
            return
        head, length = struct.unpack_from("<HH", acl)
        key = (sent, head & 0xFFF)
        if head >> 12 & 3 != _CONTINUES:
            self._pending[key] = bytearray()
        pending = self._pending.get(key)
        if pending is None:
            return
        pending += acl[4 : 4 + length]
        if len(pending) >= 4:
            size, channel = struct.unpack_from("<HH", pending)
            if len(pending) >= 4 + size:
                payload = bytes(pending[4 : 4 + size])
                del self._pending[key]
                yield from _values(head & 0xFFF, channel, payload)


def _values(connection: int, channel: int, payload: bytes) -> Iterator[tuple[int, bytes]]:
    if channel == _ATT:
        if (start := _VALUES.get(payload[0] if payload else 0)) and len(payload) > start:
            (handle,) = struct.unpack_from("<H", payload, 1)
            yield connection << 32 | channel << 16 | handle, payload[start:]
    elif channel >= _FIRST_DYNAMIC and len(payload) > 3 and payload[1] in _RFCOMM_DATA:
        wide = not payload[2] & 1
        start = 3 + wide + _RFCOMM_DATA[payload[1]]
        size = payload[2] >> 1 | (payload[3] << 7 if wide else 0)
        yield connection << 32 | channel << 16 | payload[0], payload[start : start + size]
