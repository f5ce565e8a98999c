"""Packed decimal digits and the times the locks write with them (PROTOCOL.md §1.1, §1.2)."""

from datetime import UTC, datetime
from typing import Final

_TWO_DIGITS = {(tens << 4) | ones: tens * 10 + ones for tens in range(10) for ones in range(10)}
#: Byte -> 0..99, or 100 for one that holds no two decimal digits: no month, hour or second has that value.
_VALUE: Final = [_TWO_DIGITS.get(byte, 100) for byte in range(256)]
#: Byte -> year; 0, which no datetime accepts, for a byte that is no year.
_YEAR: Final = [2000 + _TWO_DIGITS[byte] if byte in _TWO_DIGITS else 0 for byte in range(256)]


def two_digits(byte: int) -> int | None:
    """0..99 out of one byte; None when it holds no two decimal digits."""
    return _TWO_DIGITS.get(byte)


def time_ymd(digits: bytes) -> datetime | None:
    """`yyMMddHHmmss` in six bytes, UTC; None when there is no such moment."""
    year, month, day, hour, minute, second = digits
    try:
        return datetime(
            _YEAR[year], _VALUE[month], _VALUE[day], _VALUE[hour], _VALUE[minute], _VALUE[second], 0, UTC
        )
    except ValueError:
        return None


def encode_ymd(moment: datetime) -> bytes:
    """The inverse of `time_ymd`, to the second; the moment is turned into UTC."""
    return bytes.fromhex(moment.astimezone(UTC).strftime("%y%m%d%H%M%S"))


def time_dmy(digits: bytes) -> datetime | None:
    """`ddMMyyHHmmss` in six bytes, UTC; None when there is no such moment."""
    return time_ymd(digits[2::-1] + digits[3:])


def encode_dmy(moment: datetime) -> bytes:
    """The inverse of `time_dmy`, to the second; the moment is turned into UTC."""
    digits = encode_ymd(moment)
    return digits[2::-1] + digits[3:]
