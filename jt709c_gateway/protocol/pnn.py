"""`Pnn` sentences of JT701 masters except plain replies (docs/protocol.rst §2.2).

::

    (id,P22,2)               requests the time
    (id,P45,ddMMyy,HHmmss,lat,N/S,lon,E/W,A/V,km/h,course,source,verification,card,password ok,wrong tries,
     serial,mileage[,imei,fence,mcc:mnc:lac:cell]…)     opened, closed, or opening refused
    (id,P52,2,password)      a new dynamic password
    (id,@JT)                 heartbeat

Sentences to the lock have no id: `(P69,0,serial)`. `answers.py` decodes answers to commands.
"""

import re
from datetime import UTC, datetime
from typing import Final

from jt709c_gateway.protocol.bcd import time_dmy
from jt709c_gateway.protocol.device_id import master_digits
from jt709c_gateway.protocol.events import Action, Cell, LockEvent, Method
from jt709c_gateway.protocol.jt808 import luhn_digit
from jt709c_gateway.protocol.sentences import DYNAMIC_PASSWORD_PNN

HEARTBEAT: Final = "@JT"
TIME_REQUEST: Final = ("P22", "2")
LOCK_REPORT: Final = "P45"
#: The answer to masters with a protocol version below 19h, in place of `(P69,0,serial)`.
OLD_LOCK_ANSWER: Final = b"(P46)"
#: Index of the serial among the arguments: the field after the 16th comma of the sentence.
SERIAL_AT: Final = 14
_SOURCE_AT: Final = 9
#: Minimum number of fields of a P45: those up to the verification.
_SHORTEST: Final = _SOURCE_AT + 2
#: After the verification: IMEI, fence and cell, if P94 has enabled them.
_IMEI_BEHIND: Final = 16 - _SHORTEST
_FENCE_BEHIND: Final = 17 - _SHORTEST
_CELL_BEHIND: Final = 18 - _SHORTEST

#: Sources of the command to open or close.
SOURCES: Final[dict[int, Method]] = {
    1: "card",
    2: "card",
    3: "card",
    4: "password",
    5: "automatic",
    6: "dynamic_password",
    7: "bluetooth",
    8: "unknown",
}
#: Lock states implied by the other sources; a rope that was pulled out (8) implies none.
_FIXED: Final[dict[int, Action]] = {2: "refused", 3: "unknown", 5: "locked", 8: "unknown"}
#: Sources with a meaningful verification. It is 0 for all others.
_VERIFIED: Final = frozenset([1, 4, 6, 7])
#: Sources for which verification 1 means fence 1.
_OPENED_IS_FENCE: Final = frozenset([1, 6])
#: Verification: 1 opened, 2-10 opened in that fence, 98 no fence needed, 99 outside the fence.
_OPENED: Final = 1
_FENCES: Final = range(2, 11)
_NO_FENCE_NEEDED: Final = 98
_REFUSED: Final = (0, 99)
_FENCE_NUMBERS: Final = range(1, 100)

_SIX_DIGITS = re.compile(r"[0-9]{6}")
_IMEI = re.compile(r"[0-9]{15}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_CELL = re.compile(r"([0-9]{1,5}):([0-9]{1,5}):([0-9]{1,5}):([0-9]{1,10})")
_DEGREES = re.compile(r"([0-9]{1,5})(\.[0-9]{1,12})?")
_MOST_NORTH: Final = 90
_MOST_EAST: Final = 180
_MINUTES: Final = 60
#: Minimum digits before the point that only packed degrees (DDDMM.MMMM) have.
_PACKED_DIGITS: Final = 4
_CARD_DIGITS: Final = 10


def sentence(device: str, word: str, *arguments: str) -> bytes:
    """Encode `(id,word,…)` as a master sends it, with its id padded to ten digits."""
    return f"({','.join((master_digits(device), word, *arguments))})".encode("latin-1")


def heartbeat(device: str) -> bytes:
    """`(id,@JT)`."""
    return sentence(device, HEARTBEAT)


def time_request(device: str) -> bytes:
    """`(id,P22,2)`."""
    return sentence(device, *TIME_REQUEST)


def dynamic_password(device: str, password: str) -> bytes:
    """`(id,P52,2,password)`."""
    return sentence(device, *DYNAMIC_PASSWORD_PNN, password)


def parse_down(raw: bytes) -> tuple[str, tuple[str, ...]]:
    """Decode a sentence from the gateway, `(P43,888888)`, to its word and arguments."""
    word, *arguments = raw[1:-1].decode("latin-1").split(",")
    return word, tuple(arguments)


def acknowledge(serial: int) -> bytes:
    """`(P69,0,serial)`: the lock may delete the report with this serial."""
    return b"(P69,0,%d)" % serial


def time_answer(now: datetime) -> bytes:
    """`(P22,ddMMyyHHmmss)`, UTC."""
    return now.astimezone(UTC).strftime("(P22,%d%m%y%H%M%S)").encode("ascii")


def password_answer(password: str) -> bytes:
    """`(P52,2,password)`: acknowledges the password, so that the lock stops reporting it."""
    return f"(P52,2,{password})".encode("latin-1")


def report_serial(arguments: tuple[str, ...]) -> int | None:
    """Return the serial of a P45; None when there is none, so that it can't be answered."""
    return _number(arguments[SERIAL_AT].strip()) if len(arguments) > SERIAL_AT else None


def imei(text: str) -> str | None:
    """Return a valid IMEI, 15 digits with a check digit (Luhn), or None."""
    text = text.strip()
    return text if _like_an_imei(text) and luhn_digit(text[:-1]) == text[-1] else None


def _like_an_imei(text: str) -> bool:
    return bool(_IMEI.fullmatch(text)) and bool(text.strip("0"))


def lock_event(arguments: tuple[str, ...]) -> LockEvent | None:
    """Decode the arguments of a P45 to an event; None when source or verification is missing.

    `code` is the source, `result` the verification. Older units omit the later fields.
    """
    if len(arguments) < _SHORTEST:
        return None
    date, time, north, north_south, east, east_west, fix, _, _, source, verification, *rest = map(
        str.strip, arguments
    )
    code, result = _number(source), _number(verification)
    if code is None or result is None:
        return None
    action = _FIXED.get(code) or _verified(code, result)
    moment = None
    if _SIX_DIGITS.fullmatch(date) and _SIX_DIGITS.fullmatch(time):
        moment = time_dmy(bytes.fromhex(date + time))
    latitude, longitude = _place(north, north_south, east, east_west)
    if not (latitude or longitude) and (fix != "A" or moment is None):
        latitude = longitude = None
    own = _number(rest[_FENCE_BEHIND]) if len(rest) > _FENCE_BEHIND else None
    event = LockEvent(
        moment,
        code,
        SOURCES.get(code, "unknown"),
        action,
        _card(rest[0]) if rest else None,
        _fence(code, result, action, own),
        result,
        latitude,
        longitude,
    )
    if len(rest) > _IMEI_BEHIND and _like_an_imei(rest[_IMEI_BEHIND]):
        event.imei = rest[_IMEI_BEHIND]
    if len(rest) > _CELL_BEHIND and (found := _CELL.fullmatch(rest[_CELL_BEHIND])):
        mcc, mnc, lac, cell = map(int, found.groups())
        event.cell = Cell(mcc, mnc, cell, lac)
    return event


def lock_report(
    device: str,
    *,
    time: datetime,
    latitude: float,
    longitude: float,
    fix: bool,
    speed_kmh: int,
    course_deg: int,
    source: int,
    verification: int,
    card: str | None,
    password_ok: bool,
    wrong_tries: int,
    serial: int,
    odometer_km: int,
) -> bytes:
    """Encode a whole P45, the inverse of `report_serial` and `lock_event`; degrees to 10⁻⁶."""
    return sentence(
        device,
        LOCK_REPORT,
        f"{time.astimezone(UTC):%d%m%y}",
        f"{time.astimezone(UTC):%H%M%S}",
        f"{abs(latitude):.6f}",
        "N" if latitude >= 0 else "S",
        f"{abs(longitude):.6f}",
        "E" if longitude >= 0 else "W",
        "A" if fix else "V",
        str(speed_kmh),
        str(course_deg),
        str(source),
        str(verification),
        (card or "").zfill(_CARD_DIGITS),
        str(int(password_ok)),
        str(wrong_tries),
        str(serial),
        str(odometer_km),
    )


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _verified(source: int, verification: int) -> Action:
    if source not in _VERIFIED:
        return "unknown"
    if verification in _REFUSED:
        return "refused"
    opened = verification in (_OPENED, _NO_FENCE_NEEDED) or verification in _FENCES
    return "unlocked" if opened else "unknown"


def _fence(source: int, verification: int, action: Action, own: int | None) -> int | None:
    """Return the fence of the event, from the report's own field or from the verification."""
    if own is not None and own in _FENCE_NUMBERS:
        return own
    if action != "unlocked":
        return None
    if verification in _FENCES:
        return verification
    is_fence = own is None and verification == _OPENED and source in _OPENED_IS_FENCE
    return _OPENED if is_fence else None


def _card(text: str) -> str | None:
    if not text.strip("0"):
        return None
    return text.zfill(_CARD_DIGITS) if text.isdecimal() else text


def _place(north: str, north_south: str, east: str, east_west: str) -> tuple[float | None, float | None]:
    """Return latitude and longitude; None for impossible values."""
    first, second = _DEGREES.fullmatch(north), _DEGREES.fullmatch(east)
    up, right = float(north) if first else None, float(east) if second else None
    if up is not None and right is not None:
        # A number above the range of degrees shows that both are written as DDMM.MMMM.
        digits = max(first.end(1), second.end(1)) if first and second else 0
        if up > _MOST_NORTH or right > _MOST_EAST or digits >= _PACKED_DIGITS:
            packed = _unpacked(up, _MOST_NORTH), _unpacked(right, _MOST_EAST)
            if None not in packed:
                up, right = packed
    return _signed(up, north_south, "NS", _MOST_NORTH), _signed(right, east_west, "EW", _MOST_EAST)


def _unpacked(number: float, most: int) -> float | None:
    whole, minutes = divmod(number, 100)
    degrees = round(whole + minutes / _MINUTES, 6)
    return degrees if minutes < _MINUTES and degrees <= most else None


def _signed(degrees: float | None, side: str, sides: str, most: int) -> float | None:
    if degrees is None or degrees > most or len(side) != 1 or side not in sides:
        return None
    return degrees if side == sides[0] else -degrees
