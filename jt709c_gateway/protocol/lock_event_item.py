"""The lock event item 0x0B (docs/protocol.rst §1.1).

::

    code u8 | password ASCII[6] | result u8      01 02 03 05 1E 1F: result FF refused, else unlocked
    code u8 | password ASCII[6]                  06 07 08 10 11 18 19 20 28 29: refused
    code u8 | card u32 | result u8 (optional)    22: result FF refused, else unlocked
    code u8 | card u32                           23 2A 2B: refused
    code u8                                      0D: locked; 0C 12 1C: opened, by any means
"""

import re
from datetime import datetime
from typing import Final

from jt709c_gateway.protocol.events import LockEvent

ITEM: Final = 0x0B
PASSWORD_LENGTH: Final = 6
PASSWORD_WITH_RESULT: Final = frozenset([0x01, 0x02, 0x03, 0x05, 0x1E, 0x1F])
PASSWORD_REFUSED: Final = frozenset([0x06, 0x07, 0x08, 0x10, 0x11, 0x18, 0x19, 0x20, 0x28, 0x29])
CARD_WITH_RESULT: Final = 0x22
CARD_REFUSED: Final = frozenset([0x23, 0x2A, 0x2B])
LOCKED: Final = frozenset([0x0D])
OPENED: Final = frozenset([0x0C, 0x12, 0x1C])
WITH_PASSWORD: Final = PASSWORD_WITH_RESULT | PASSWORD_REFUSED
REFUSED: Final = 0xFF

_ANNOUNCED: Final = rb"%b.[%b]" % (
    bytes([ITEM]),
    b"".join(b"\\x%02x" % code for code in sorted(WITH_PASSWORD)),
)
#: Item, any length, a code that a password follows, and six characters of a password.
_LIKE_A_PASSWORD = re.compile(rb"(?=%b([\x20-\x7e]{%d}))" % (_ANNOUNCED, PASSWORD_LENGTH), re.DOTALL)
#: The same with fewer characters, at the end.
_CUT_OFF = re.compile(rb"%b([\x20-\x7e]{0,%d})\Z" % (_ANNOUNCED, PASSWORD_LENGTH - 1), re.DOTALL)


def password_span(value: bytes) -> tuple[int, int] | None:
    """Return the place of a password in an item's value (start, end), or None."""
    if len(value) > 1 and value[0] in WITH_PASSWORD:
        return 1, min(len(value), 1 + PASSWORD_LENGTH)
    return None


def password_like(data: bytes) -> list[tuple[int, int]]:
    """Return the places in undecoded bytes that look like an item with a password."""
    return [found.span(1) for found in _LIKE_A_PASSWORD.finditer(data)]


def password_cut_off(data: bytes) -> list[tuple[int, int]]:
    """Return the place of a password whose end is missing, since the bytes end before it."""
    found = _CUT_OFF.search(data)
    return [found.span(1)] if found else []


def mask(data: bytes) -> bytes:
    """Mask the places that `password_like` finds in undecoded bytes as `2A`."""
    for start, end in password_like(data) if ITEM in data else ():
        data = data[:start] + b"*" * (end - start) + data[end:]
    return data


def masked(value: bytes) -> bytes:
    """Return an item's value with its password masked as `2A`."""
    if span := password_span(value):
        return value[: span[0]] + b"*" * (span[1] - span[0]) + value[span[1] :]
    return value


def decode(
    value: bytes, time: datetime | None, latitude: float | None, longitude: float | None
) -> LockEvent | None:
    """Decode an item of 1 to 8 bytes; None when its length isn't in the table. Degrees, UTC.

    A known code without its fields is still an event, with the fields present.
    """
    if not 1 <= len(value) <= 8:
        return None
    code = value[0]
    event = LockEvent(time, code, "unknown", "unknown", None, None, None, latitude, longitude)
    if code in WITH_PASSWORD:
        event.method = "password"
        if code in PASSWORD_REFUSED:
            event.action = "refused"
        elif len(value) >= 8:
            _accept(event, value[7])
    elif code == CARD_WITH_RESULT or code in CARD_REFUSED:
        event.method = "card"
        number = int.from_bytes(value[1:5], "big") if len(value) >= 5 else 0
        event.card = f"{number:010d}" if number else None
        if code in CARD_REFUSED:
            event.action = "refused"
        elif len(value) >= 6:
            _accept(event, value[5])
        elif len(value) == 5:
            event.action = "unlocked"
    elif code in LOCKED or code in OPENED:
        event.action = "locked" if code in LOCKED else "unlocked"
        if len(value) > 1:
            event.value = value[1:].hex()
    else:
        event.value = value[1:].hex()
    return event


def _accept(event: LockEvent, result: int) -> None:
    event.result = result
    if result == REFUSED:
        event.action = "refused"
    else:
        event.action = "unlocked"
        event.fence_id = result if 1 <= result <= 99 else None


def encode(
    code: int, *, password: str | None = None, card: int | None = None, result: int | None = None
) -> bytes:
    """Encode an item's value, the inverse of `decode`, with the fields of its code only.

    A password is truncated or padded with blanks to six characters, as locks send it.
    """
    value = bytes([code])
    if password is not None:
        value += password.encode("latin-1", "replace")[:PASSWORD_LENGTH].ljust(PASSWORD_LENGTH)
    if card is not None:
        value += card.to_bytes(4, "big")
    return value if result is None else value + bytes([result])
