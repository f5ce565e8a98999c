"""Sub-locks and sensors behind a master: `(master,1,serial,WLNET,5,2,<payload>)` (PROTOCOL.md §3).

The payload without its escapes::

    0  position of the master, 17 bytes (position.py)
    17 date BCD[3] ddMMyy | 20 time BCD[3] HHmmss, UTC, of the sub-lock from here on
    23 id[5], hex digits | 28 serial u8 | 29 battery u16 (0.01 V) | 31 battery u8 (%) | 32 RSSI u8 (-dBm)
    33 type u8: 1 JT126 sensor, 4 JT709 sub-lock, 9 JT802 valve lock

    JT709: 34 event u16 (bit 15 = re-sent) | 36 status u16 | 38 lock cycles u16 | 40 gateway u8
           41 card u32 (firmware from 2023-07 on, 0 = none)
    JT126: 34 temperature u16 (sign nibble, 12 bits x 0.1 degrees C, FFFF = none) | 36 humidity u8 (%)
           37 two bytes | 39 gateway u8

    gateway: bit 0 re-sent, 1 contact lost, 2 low voltage
"""

from datetime import datetime
from struct import Struct
from typing import Final

from . import position
from .bcd import encode_dmy, time_dmy
from .events import Action, LockEvent, Method, Peripheral, PeripheralType

ESCAPES: Final = (
    (b"\x3d\x15", b"\x28"),
    (b"\x3d\x14", b"\x29"),
    (b"\x3d\x11", b"\x2c"),
    (b"\x3d\x00", b"\x3d"),
)

_COMMON = Struct(">17s6s5sBHBBB")
COMMON_LENGTH: Final = _COMMON.size
_JT709 = Struct(">HHHB")
_CARD = Struct(">I")
_JT126 = Struct(">HBHB")

SENSOR_JT126: Final = 1
LOCK_JT709: Final = 4
VALVE_JT802: Final = 9
TYPES: Final[dict[int, PeripheralType]] = {
    SENSOR_JT126: "jt126",
    LOCK_JT709: "jt709",
    VALVE_JT802: "jt802",
}

RESENT: Final = 1 << 15
STATUS_ROPE: Final = 1 << 0
STATUS_MOTOR: Final = 1 << 1
STATUS_COVER: Final = 1 << 2
STATUS_CHARGING: Final = 1 << 3
GATEWAY_RESENT: Final = 1 << 0
GATEWAY_CONTACT_LOST: Final = 1 << 1
GATEWAY_LOW_VOLTAGE: Final = 1 << 2
_NO_TEMPERATURE: Final = 0xFFFF
_MINUS: Final = 0x1000

#: Events that move a lock. Others, as 4 (back cover opened), have their number only.
MOVES: Final[dict[int, tuple[Method, Action]]] = {
    1: ("unknown", "locked"),
    2: ("bluetooth", "unlocked"),
    8: ("lora", "unlocked"),
}


class PayloadError(Exception):
    """A payload that doesn't hold what every sub-lock and sensor sends."""


def unescape(payload: bytes) -> bytes:
    """Undo the escapes of brackets, comma and, last of all, of `3D` itself."""
    for escaped, byte in ESCAPES:
        payload = payload.replace(escaped, byte)
    return payload


def escape(payload: bytes) -> bytes:
    """The inverse of `unescape`: `3D` first, so that no escape is escaped again."""
    for escaped, byte in reversed(ESCAPES):
        payload = payload.replace(byte, escaped)
    return payload


def decode(payload: bytes) -> tuple[Peripheral, LockEvent | None]:
    """An unescaped payload to what the sub-lock says and, when it has one, its lock event.

    What follows the fields that are known, or is too short for them, is kept as hex. PayloadError when
    under 34 bytes, or when the master's place is none.
    """
    if len(payload) < COMMON_LENGTH:
        raise PayloadError(f"a sub-lock's report has at least {COMMON_LENGTH} bytes, not {len(payload)}")
    if not position.looks_sound(payload):
        raise PayloadError("a sub-lock's report begins with the place of its master")
    head, time, identity, serial, volts, percent, rssi, kind = _COMMON.unpack_from(payload)
    place = position.decode(head)
    peripheral = Peripheral(
        identity.hex().upper(),
        TYPES.get(kind, kind),
        time_dmy(time),
        serial,
        percent,
        volts / 100,
        -rssi,
        place.time,
        "gnss" if place.fix else "none",
        place.latitude,
        place.longitude,
        place.speed_kmh,
        place.course_deg,
    )
    rest = payload[COMMON_LENGTH:]
    event = None
    if kind == LOCK_JT709 and len(rest) >= _JT709.size:
        event, rest = _jt709(peripheral, rest)
    elif kind == SENSOR_JT126 and len(rest) >= _JT126.size:
        rest = _jt126(peripheral, rest)
    if rest:
        peripheral.value = rest.hex()
    return peripheral, event


def _jt709(peripheral: Peripheral, rest: bytes) -> tuple[LockEvent | None, bytes]:
    event, status, peripheral.lock_cycles, gateway = _JT709.unpack_from(rest)
    rest = rest[_JT709.size :]
    peripheral.event = code = event & ~RESENT
    peripheral.rope_open = rope = bool(status & STATUS_ROPE)
    peripheral.motor_open = motor = bool(status & STATUS_MOTOR)
    peripheral.lock_state = "unlocked" if rope or motor else "locked"
    peripheral.back_cover_open = bool(status & STATUS_COVER)
    peripheral.charging = bool(status & STATUS_CHARGING)
    peripheral.status_bits = status
    _gateway(peripheral, gateway, bool(event & RESENT))
    card = None
    if len(rest) >= _CARD.size:
        (number,) = _CARD.unpack_from(rest)
        peripheral.card = card = f"{number:010d}" if number else None
        rest = rest[_CARD.size :]
    if not code:
        return None, rest
    method, action = MOVES.get(code, ("unknown", "unknown"))
    moved = LockEvent(
        peripheral.time, code, method, action, card, None, None, peripheral.latitude, peripheral.longitude
    )
    moved.peripheral = peripheral.peripheral
    return moved, rest


def _jt126(peripheral: Peripheral, rest: bytes) -> bytes:
    temperature, peripheral.humidity_percent, _, gateway = _JT126.unpack_from(rest)
    peripheral.temperature_c = None
    if temperature != _NO_TEMPERATURE:
        peripheral.temperature_c = (-1 if temperature & ~0x0FFF else 1) * (temperature & 0x0FFF) / 10
    _gateway(peripheral, gateway, False)
    return rest[_JT126.size :]


def _gateway(peripheral: Peripheral, bits: int, resent: bool) -> None:
    peripheral.resent = resent or bool(bits & GATEWAY_RESENT)
    peripheral.contact_lost = bool(bits & GATEWAY_CONTACT_LOST)
    peripheral.low_voltage = bool(bits & GATEWAY_LOW_VOLTAGE)


def encode(
    *,
    master: bytes,
    time: datetime,
    peripheral: str,
    serial: int,
    battery_volts: float,
    battery_percent: int,
    rssi_dbm: int,
    kind: int,
    rest: bytes,
) -> bytes:
    """The inverse of `decode`, not escaped; `master` is from `position.encode`, `rest` from the two below."""
    volts = round(battery_volts * 100)
    identity = bytes.fromhex(peripheral)
    fixed = _COMMON.pack(master, encode_dmy(time), identity, serial, volts, battery_percent, -rssi_dbm, kind)
    return fixed + rest


def encode_jt709(event: int, status: int, lock_cycles: int, gateway: int, card: int | None) -> bytes:
    """What a JT709 adds; `card` None for firmware that doesn't send one."""
    return _JT709.pack(event, status, lock_cycles, gateway) + (b"" if card is None else _CARD.pack(card))


def encode_jt126(temperature_c: float | None, humidity_percent: int, gateway: int) -> bytes:
    """What a JT126 adds."""
    temperature = _NO_TEMPERATURE
    if temperature_c is not None:
        temperature = round(abs(temperature_c) * 10) | (_MINUS if temperature_c < 0 else 0)
    return _JT126.pack(temperature, humidity_percent, 0, gateway)


def encode_report(master: str, serial: int, payload: bytes) -> bytes:
    """The whole sentence around an unescaped payload."""
    return f"({master},1,{serial % 1000:03d},WLNET,5,2,".encode("ascii") + escape(payload) + b")"
