"""The 17 bytes that 0x5501 bodies, `$` records and sub-lock reports begin with (docs/protocol.rst §1.2)."""

from typing import Final

from jt709c_gateway.dissector import formatting
from jt709c_gateway.dissector.reader import Reader
from jt709c_gateway.protocol import packed_position

#: Bytes up to the flags, which say north or south.
_FLAGS_END: Final = 15
_FLAGS: Final = formatting.by_bit(
    {
        packed_position.FIX: "fix",
        packed_position.NORTH: "north",
        packed_position.EAST: "east",
        packed_position.ALWAYS: "always_set",
    }
)


def read(reader: Reader, prefix: str = "") -> None:
    """Read them; `prefix` is put before the name of the time."""
    sided = reader.left >= _FLAGS_END
    data = reader.peek(packed_position.LENGTH).ljust(packed_position.LENGTH, b"\x00")
    place = packed_position.decode(data)
    digits = data[6:15].hex()
    reader.take(6, f"{prefix}time", data[:6].hex(), formatting.moment(place.time))
    nowhere = not any(data[6:14]) and not data[14] & 0xF0
    reader.take(4, "latitude", digits[:8], formatting.latitude(place.latitude, nowhere) if sided else "")
    meaning = formatting.longitude(place.longitude, nowhere) + ("" if place.fix else ", no fix")
    reader.take(5, "longitude", digits[8:17], meaning, bits=formatting.each_bit(data[14] & 0x0F, _FLAGS))
    reader.number(1, "speed_kmh", formatting.unit(place.speed_kmh, "km/h"))
    reader.number(1, "course_deg", formatting.course(place.course_deg))
