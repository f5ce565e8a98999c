"""Packed decimal digits (BCD) and the locks' times in them (docs/protocol.rst §1.1, §1.2)."""

from datetime import UTC, datetime
from typing import Final

_TWO_DIGITS = {(tens << 4) | ones: tens * 10 + ones for tens in range(10) for ones in range(10)}
#: Byte -> 0..99, or 100 when it isn't BCD: no month, hour or second has that value.
_VALUE: Final = [_TWO_DIGITS.get(byte, 100) for byte in range(256)]
#: Byte -> year; 0, which no datetime accepts, when it isn't BCD.
_YEAR: Final = [2000 + _TWO_DIGITS[byte] if byte in _TWO_DIGITS else 0 for byte in range(256)]


#: The date, ddMMyy, of a clock that was never set; zeros are no date anyway.
_NEVER_SET: Final = bytes.fromhex("010100")


def two_digits(byte: int) -> int | None:
    """Decode one BCD byte to 0..99; None when it isn't BCD."""
    return _TWO_DIGITS.get(byte)


def time_ymd(digits: bytes) -> datetime | None:
    """Decode `yyMMddHHmmss` in six bytes, UTC; None for an impossible time."""
    year, month, day, hour, minute, second = digits
    try:
        return datetime(
            _YEAR[year], _VALUE[month], _VALUE[day], _VALUE[hour], _VALUE[minute], _VALUE[second], 0, UTC
        )
    except ValueError:
        return None


def encode_ymd(moment: datetime) -> bytes:
    """Encode a time as `yyMMddHHmmss`, converted to UTC, to the second."""
    return bytes.fromhex(moment.astimezone(UTC).strftime("%y%m%d%H%M%S"))


def time_dmy(digits: bytes) -> datetime | None:
    """Decode `ddMMyyHHmmss` in six bytes, UTC; None for an impossible time or a clock never set."""
    date = digits[:3]
    return None if date == _NEVER_SET else time_ymd(date[::-1] + digits[3:])


def encode_dmy(moment: datetime) -> bytes:
    """Encode a time as `ddMMyyHHmmss`, converted to UTC, to the second."""
    digits = encode_ymd(moment)
    return digits[2::-1] + digits[3:]
