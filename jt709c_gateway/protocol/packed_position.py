"""The position at the start of 0x5501 bodies, `$` records and sub-lock reports (docs/protocol.rst §1.2, §2.3,
§3).

::

    0  date BCD[3] ddMMyy | 3 time BCD[3] HHmmss, UTC
    6  latitude BCD[4] DDMM.MMMM | 10 longitude BCD[4.5] DDDMM.MMMM
    14 flags, low nibble: bit 0 fix, 1 north, 2 east, 3 always set in `$` records
    15 speed u8 (knots) | 16 course u8 (2 degrees)
"""

from datetime import datetime
from typing import Final

from attrs import define

from jt709c_gateway.protocol.bcd import encode_dmy, time_dmy

LENGTH: Final = 17
KNOT_KMH: Final = 1.852
#: Maximum course in degrees; more means none.
MAX_COURSE: Final = 360
#: Maximum percentage; more means unknown.
FULL: Final = 100
#: Number of satellites that means unknown.
NO_SATELLITES: Final = 255
FIX: Final = 1
NORTH: Final = 2
EAST: Final = 4
ALWAYS: Final = 8
#: Ten-thousandths of a minute in a degree.
_PER_DEGREE: Final = 600_000


@define
class Position:
    """Position, time and movement; degrees, km/h.

    None for an impossible time or position, the time of a clock that was never set, 0,0 without a fix or
    without a time, and a course above 360 degrees.
    """

    time: datetime | None
    fix: bool
    latitude: float | None
    longitude: float | None
    speed_kmh: float
    course_deg: int | None


def decode(data: bytes) -> Position:
    """Decode the first `LENGTH` bytes, which must be present."""
    digits = data[6:15].hex()
    flags = data[14]
    latitude = _degrees(digits[:2], digits[2:8], 90, bool(flags & NORTH))
    longitude = _degrees(digits[8:11], digits[11:17], 180, bool(flags & EAST))
    time = time_dmy(data[:6])
    fix = bool(flags & FIX)
    if not latitude and not longitude and (time is None or not fix):
        latitude = longitude = None
        fix = False
    course = data[16] * 2
    return Position(
        time,
        fix,
        latitude,
        longitude,
        round(data[15] * KNOT_KMH, 3),
        course if course <= MAX_COURSE else None,
    )


def _degrees(whole: str, minutes: str, most: int, positive: bool) -> float | None:
    if not (whole.isdecimal() and minutes.isdecimal()) or int(minutes) >= _PER_DEGREE:
        return None
    degrees = round(int(whole) + int(minutes) / _PER_DEGREE, 6)
    if degrees > most:
        return None
    return degrees if positive else -degrees


def looks_sound(data: bytes, at: int = 0) -> bool:
    """Return whether a `$` record or a sub-lock's report can begin here: BCD digits, and the constant bit."""
    digits = data[at + 6 : at + 15].hex()
    return len(data) >= at + LENGTH and digits[:17].isdecimal() and bool(data[at + 14] & ALWAYS)


def encode(
    time: datetime,
    latitude: float,
    longitude: float,
    fix: bool,
    speed_kmh: float,
    course_deg: int,
    always: bool = True,
) -> bytes:
    """Encode a position, the inverse of `decode`, to 0.0001', 1 knot, 2 degrees; `always` is flag bit 3."""
    flags = (FIX if fix else 0) | (ALWAYS if always else 0)
    flags |= (NORTH if latitude >= 0 else 0) | (EAST if longitude >= 0 else 0)
    north, east = (divmod(round(abs(value) * _PER_DEGREE), _PER_DEGREE) for value in (latitude, longitude))
    place = f"{north[0]:02d}{north[1]:06d}{east[0]:03d}{east[1]:06d}{flags:x}"
    return encode_dmy(time) + bytes.fromhex(place) + bytes([round(speed_kmh / KNOT_KMH), course_deg // 2])
