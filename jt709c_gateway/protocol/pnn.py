"""`Pnn` sentences of JT701 masters that are more than replies (PROTOCOL.md §2.2).

::

    (id,P22,2)               asks for the time
    (id,P45,ddMMyy,HHmmss,lat,N/S,lon,E/W,A/V,km/h,course,source,verification,card,password ok,wrong tries,
     serial,mileage[,imei,fence,mcc:mnc:lac:cell]…)     was opened, closed, or refused to open
    (id,P52,2,password)      a new dynamic password
    (id,@JT)                 is there

What goes down has no id: `(P69,0,serial)`. Answers to orders are read in `answers.py`.
"""

import re
from datetime import UTC, datetime
from typing import Final

from .bcd import time_dmy
from .events import Action, Cell, LockEvent, Method
from .jt808 import luhn_digit
from .sentences import DYNAMIC_PASSWORD_PNN

HEARTBEAT: Final = "@JT"
TIME_REQUEST: Final = ("P22", "2")
LOCK_REPORT: Final = "P45"
#: What masters with a protocol version below 19h want in place of `(P69,0,serial)`.
OLD_LOCK_ANSWER: Final = b"(P46)"
#: Index of the serial among the arguments: the field after the 16th comma of the sentence.
SERIAL_AT: Final = 14
_SOURCE_AT: Final = 9
#: A P45 has as many fields at least: those up to the verification.
_SHORTEST: Final = _SOURCE_AT + 2
#: IMEI, fence and cell, where P94 has switched them on.
_IMEI_AT: Final = 16
_FENCE_AT: Final = 17
_CELL_AT: Final = 18

#: Where the order to move came from.
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
#: What the other sources say by themselves; a rope that was pulled out (8) says nothing of the lock.
_FIXED: Final[dict[int, Action]] = {2: "refused", 3: "unknown", 5: "locked", 8: "unknown"}
#: Sources whose verification counts. It is 0 for all others, and says nothing.
_VERIFIED: Final = frozenset([1, 4, 6, 7])
#: Those of which verification 1 means fence 1.
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
#: Digits in front of the point that only packed degrees (DDDMM.MMMM) have.
_PACKED_DIGITS: Final = 4
_CARD_DIGITS: Final = 10
_DEVICE_DIGITS: Final = 10


def sentence(device: str, word: str, *arguments: str) -> bytes:
    """`(id,word,…)` as a master sends it, its id filled up to ten digits."""
    return f"({','.join((device.zfill(_DEVICE_DIGITS), word, *arguments))})".encode("latin-1")


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
    """A sentence from the gateway, `(P43,888888)`, to its word and arguments."""
    word, *arguments = raw[1:-1].decode("latin-1").split(",")
    return word, tuple(arguments)


def acknowledge(serial: int) -> bytes:
    """`(P69,0,serial)`: the lock may forget the report with this serial."""
    return b"(P69,0,%d)" % serial


def time_answer(now: datetime) -> bytes:
    """`(P22,ddMMyyHHmmss)`, UTC."""
    return now.astimezone(UTC).strftime("(P22,%d%m%y%H%M%S)").encode("ascii")


def password_answer(password: str) -> bytes:
    """`(P52,2,password)`: told back, the lock stops reporting it."""
    return f"(P52,2,{password})".encode("latin-1")


def report_serial(arguments: tuple[str, ...]) -> int | None:
    """The serial of a P45; None when there is none, and so nothing that an answer could name."""
    return _number(_field(arguments, SERIAL_AT))


def imei(text: str) -> str | None:
    """An IMEI, when it is one: 15 digits of which the last is the check digit (Luhn)."""
    text = text.strip()
    sound = _IMEI.fullmatch(text) and text.strip("0") and luhn_digit(text[:-1]) == text[-1]
    return text if sound else None


def lock_event(arguments: tuple[str, ...]) -> LockEvent | None:
    """The arguments of a P45 to an event; None when they say neither who nor with what result.

    `code` is the source, `result` the verification. What stands behind it may be missing, as older units
    leave it out.
    """
    if len(arguments) < _SHORTEST:
        return None
    date, time, *place = (text.strip() for text in arguments[:6])
    code, result = _number(_field(arguments, _SOURCE_AT)), _number(_field(arguments, _SOURCE_AT + 1))
    if code is None or result is None:
        return None
    action = _FIXED.get(code) or _verified(code, result)
    moment = None
    if _SIX_DIGITS.fullmatch(date) and _SIX_DIGITS.fullmatch(time):
        moment = time_dmy(bytes.fromhex(date + time))
    event = LockEvent(
        moment,
        code,
        SOURCES.get(code, "unknown"),
        action,
        _card(_field(arguments, _SOURCE_AT + 2)),
        _fence(code, result, action, _number(_field(arguments, _FENCE_AT))),
        result,
        *_place(*place, fix=_field(arguments, 6) == "A"),
    )
    if unit := report_imei(arguments):
        event.imei = unit
    if found := _CELL.fullmatch(_field(arguments, _CELL_AT)):
        mcc, mnc, lac, cell = map(int, found.groups())
        event.cell = Cell(mcc, mnc, cell, lac)
    return event


def report_imei(arguments: tuple[str, ...]) -> str | None:
    """The IMEI in a P45, where it has a sound one."""
    return imei(_field(arguments, _IMEI_AT))


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
    """A whole P45, which `report_serial` and `lock_event` read again; degrees to 10⁻⁶."""
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


def _field(arguments: tuple[str, ...], index: int) -> str:
    return arguments[index].strip() if index < len(arguments) else ""


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
    """The fence it happened in: that of the report's own field, or the one that the verification names."""
    if own in _FENCE_NUMBERS:
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


def _place(
    north: str, north_south: str, east: str, east_west: str, *, fix: bool
) -> tuple[float | None, float | None]:
    """Latitude and longitude; None for what is on no globe, and for the 0,0 of a unit without a fix."""
    packed = _is_packed(north, _MOST_NORTH) or _is_packed(east, _MOST_EAST)
    latitude = longitude = None
    for form in (True, False) if packed else (False,):
        latitude = _degrees(north, north_south, "NS", _MOST_NORTH, form)
        longitude = _degrees(east, east_west, "EW", _MOST_EAST, form)
        if latitude is not None and longitude is not None:
            break
    return (latitude, longitude) if fix or latitude or longitude else (None, None)


def _is_packed(text: str, most: int) -> bool:
    """Whether a place is written as DDMM.MMMM, which a number that no place has tells."""
    found = _DEGREES.fullmatch(text)
    return found is not None and (len(found[1]) >= _PACKED_DIGITS or float(text) > most)


def _degrees(text: str, side: str, sides: str, most: int, packed: bool) -> float | None:
    if not _DEGREES.fullmatch(text) or len(side) != 1 or side not in sides:
        return None
    degrees = float(text)
    if packed:
        whole, minutes = divmod(degrees, 100)
        if minutes >= _MINUTES:
            return None
        degrees = round(whole + minutes / _MINUTES, 6)
    if degrees > most:
        return None
    return degrees if side == sides[0] else -degrees
