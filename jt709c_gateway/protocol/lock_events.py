"""The lock event item 0x0B (PROTOCOL.md §1.1).

::

    code u8 | password ASCII[6] | result u8      01 02 03 05 1E 1F: result FF refused, else unlocked
    code u8 | password ASCII[6]                  06 07 08 10 11 18 19 20 28 29: refused
    code u8 | card u32 | result u8 (optional)    22: result FF refused, else unlocked
    code u8 | card u32                           23 2A 2B: refused
"""

from datetime import datetime
from typing import Final

from .events import LockEvent

ITEM: Final = 0x0B
PASSWORD_LENGTH: Final = 6
PASSWORD_WITH_RESULT: Final = frozenset([0x01, 0x02, 0x03, 0x05, 0x1E, 0x1F])
PASSWORD_REFUSED: Final = frozenset([0x06, 0x07, 0x08, 0x10, 0x11, 0x18, 0x19, 0x20, 0x28, 0x29])
CARD_WITH_RESULT: Final = 0x22
CARD_REFUSED: Final = frozenset([0x23, 0x2A, 0x2B])
WITH_PASSWORD: Final = PASSWORD_WITH_RESULT | PASSWORD_REFUSED
REFUSED: Final = 0xFF


def password_span(value: bytes) -> tuple[int, int] | None:
    """Where in an item's value a password stands (start, end), or None."""
    if len(value) > 1 and value[0] in WITH_PASSWORD:
        return 1, min(len(value), 1 + PASSWORD_LENGTH)
    return None


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
