"""`Pnn` sentences of JT701 masters that are more than replies (PROTOCOL.md §2.2).

::

    (id,P22,2)               asks for the time
    (id,P45,ddMMyy,HHmmss,lat,N/S,lon,E/W,A/V,km/h,course,source,verification,card,password ok,wrong tries,
     serial,mileage…)        was opened, closed, or refused to open
    (id,P52,2,password)      a new dynamic password
    (id,P01,version,battery%)   the firmware (§4)
    (id,P14,imei)            the IMEI (§4)
    (id,@JT)                 is there

What goes down has no id: `(P69,0,serial)`.
"""

import re
from datetime import UTC, datetime
from typing import Final

from .bcd import time_dmy
from .events import Action, LockEvent, Method
from .jt808 import luhn_digit
from .sentences import DYNAMIC_PASSWORD_PNN

HEARTBEAT: Final = "@JT"
TIME_REQUEST: Final = ("P22", "2")
LOCK_REPORT: Final = "P45"
FIRMWARE: Final = "P01"
IMEI: Final = "P14"
#: Index of the serial among the arguments: the field after the 16th comma of the sentence.
SERIAL_AT: Final = 14
_SOURCE_AT: Final = 9

#: Where the order to move came from.
SOURCES: Final[dict[int, Method]] = {
    1: "card",
    2: "card",
    3: "card",
    4: "password",
    5: "automatic",
    6: "dynamic_password",
    7: "bluetooth",
}
_ILLEGAL_CARD: Final = 2
_STATIC_PASSWORD: Final = 4
_BY_ITSELF: Final = 5
#: Verification: 1-10 is the fence it opened in, 98 no fence needed, 99 outside the fence.
_FENCES: Final = range(1, 11)
_NO_FENCE_NEEDED: Final = 98
_REFUSED: Final = (0, 99)

_SIX_DIGITS = re.compile(r"[0-9]{6}")
_IMEI = re.compile(r"[0-9]{15}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_DEGREES = re.compile(r"[0-9]{1,3}(\.[0-9]{1,12})?")
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
    """The serial of a P45; None when there is none, and so no way to answer."""
    if len(arguments) > SERIAL_AT and _NUMBER.fullmatch(arguments[SERIAL_AT]):
        return int(arguments[SERIAL_AT])
    return None


def firmware(arguments: tuple[str, ...]) -> str | None:
    """What a P01 says: the version, in front of the battery's percent."""
    return (arguments[0].strip() or None) if arguments else None


def imei(arguments: tuple[str, ...]) -> str | None:
    """What a P14 says, when it is an IMEI: 15 digits of which the last is the check digit (Luhn)."""
    text = arguments[0].strip() if arguments else ""
    sound = _IMEI.fullmatch(text) and text.strip("0") and luhn_digit(text[:-1]) == text[-1]
    return text if sound else None


def lock_event(arguments: tuple[str, ...]) -> LockEvent | None:
    """The arguments of a P45 to an event; None when they say neither who nor with what result.

    `code` is the source, `result` the verification. PROTOCOL.md names results for the sources 1, 4 and 6;
    those of vehicle cards (3) and Bluetooth (7) are read like those of cards.
    """
    if len(arguments) <= SERIAL_AT:
        return None
    date, time, north, north_south, east, east_west = arguments[:6]
    source, verification, card = arguments[_SOURCE_AT : _SOURCE_AT + 3]
    if not (_NUMBER.fullmatch(source) and _NUMBER.fullmatch(verification)):
        return None
    code, result = int(source), int(verification)
    action = _action(code, result)
    in_fence = action == "unlocked" and code != _STATIC_PASSWORD and result in _FENCES
    moment = None
    if _SIX_DIGITS.fullmatch(date) and _SIX_DIGITS.fullmatch(time):
        moment = time_dmy(bytes.fromhex(date + time))
    return LockEvent(
        moment,
        code,
        SOURCES.get(code, "unknown"),
        action,
        _card(card),
        result if in_fence else None,
        result,
        _degrees(north, north_south, "NS", 90),
        _degrees(east, east_west, "EW", 180),
    )


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


def _action(source: int, verification: int) -> Action:
    if source not in SOURCES:
        return "unknown"
    if source == _BY_ITSELF:
        return "locked"
    if source == _ILLEGAL_CARD or verification in _REFUSED:
        return "refused"
    if source == _STATIC_PASSWORD:
        return "unlocked" if verification == 1 else "unknown"
    return "unlocked" if verification in _FENCES or verification == _NO_FENCE_NEEDED else "unknown"


def _card(text: str) -> str | None:
    if not text.strip("0"):
        return None
    return text.zfill(_CARD_DIGITS) if text.isdecimal() else text


def _degrees(text: str, side: str, sides: str, most: int) -> float | None:
    if not _DEGREES.fullmatch(text) or len(side) != 1 or side not in sides:
        return None
    degrees = float(text)
    if degrees > most:
        return None
    return degrees if side == sides[0] else -degrees
