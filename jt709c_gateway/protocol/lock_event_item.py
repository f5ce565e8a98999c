"""The lock event item 0x0B (PROTOCOL.md §1.1).

::

    code u8 | password ASCII[6] | result u8      01 02 03 05 1E 1F: result FF refused, else unlocked
    code u8 | password ASCII[6]                  06 07 08 10 11 18 19 20 28 29: refused
    code u8 | card u32 | result u8 (optional)    22: result FF refused, else unlocked
    code u8 | card u32                           23 2A 2B: refused
    code u8                                      0D: locked; 0C 12 1C: opened, in whatever way
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

#: Item, any length, a code that a password follows, and six characters as passwords have them.
_LIKE_A_PASSWORD = re.compile(
    rb"(?=%b.[%b]([\x20-\x7e]{%d}))"
    % (
        bytes([ITEM]),
        b"".join(b"\\x%02x" % code for code in sorted(WITH_PASSWORD)),
        PASSWORD_LENGTH,
    ),
    re.DOTALL,
)


def password_span(value: bytes) -> tuple[int, int] | None:
    """Where in an item's value a password stands (start, end), or None."""
    if len(value) > 1 and value[0] in WITH_PASSWORD:
        return 1, min(len(value), 1 + PASSWORD_LENGTH)
    return None


def password_like(data: bytes) -> list[tuple[int, int]]:
    """Where something stands that looks like an item with a password, in bytes that nobody takes apart."""
    return [found.span(1) for found in _LIKE_A_PASSWORD.finditer(data)]


def mask(data: bytes) -> bytes:
    """Bytes that nobody takes apart, with what `password_like` finds as `2A`."""
    for start, end in password_like(data) if ITEM in data else ():
        data = data[:start] + b"*" * (end - start) + data[end:]
    return data


def masked(value: bytes) -> bytes:
    """An item's value with a password in it as `2A`."""
    if span := password_span(value):
        return value[: span[0]] + b"*" * (span[1] - span[0]) + value[span[1] :]
    return value


def decode(
    value: bytes, time: datetime | None, latitude: float | None, longitude: float | None
) -> LockEvent | None:
    """Read an item of 1 to 8 bytes; None when its length isn't one of the table's. Degrees, UTC.

    A known code whose fields are missing is still an event, with what there is.
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
    """An item's value, the inverse of `decode`; what a code doesn't carry is left out.

    A password is cut and filled up with blanks to six characters, as a lock shows what was typed.
    """
    value = bytes([code])
    if password is not None:
        value += password.encode("latin-1", "replace")[:PASSWORD_LENGTH].ljust(PASSWORD_LENGTH)
    if card is not None:
        value += card.to_bytes(4, "big")
    return value if result is None else value + bytes([result])
