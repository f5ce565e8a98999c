"""Sub-locks and sensors behind a master: `(master,1,serial,WLNET,5,2,<payload>)` (docs/protocol.rst §3).

WLNET,7 is the same. The payload without its escapes::

    0  position of the master, 17 bytes (packed_position.py)
    17 date BCD[3] ddMMyy | 20 time BCD[3] HHmmss, UTC, of the sub-lock from here on
    23 id[5], hex digits | 28 serial u8 | 29 battery u16 (0.01 V) | 31 battery u8 (%) | 32 RSSI u8 (-dBm)
    33 type u8: 1 JT126 sensor, 4 JT709 sub-lock, 5 and 6 valve sensors, 9 JT802 valve lock

    4, 5, 6, 9: 34 event u16, a bit mask | 36 status u16 | 38 lock cycles u16 | 40 gateway u8
                41 card u32 (firmware from 2023-07 on, 0 = none)
    1:          34 temperature u16 (sign nibble, 12 bits x 0.1 degrees C, FFFF = none) | 36 humidity u8 (%)
                37 records waiting u16 | 39 gateway u8

    gateway: bit 0 re-sent, 1 contact lost, 2 low voltage
"""

from datetime import datetime
from struct import Struct
from typing import Final

from attrs import frozen

from jt709c_gateway.protocol import packed_position
from jt709c_gateway.protocol.bcd import encode_dmy, time_dmy
from jt709c_gateway.protocol.events import Action, Alarm, LockEvent, Method, Peripheral, PeripheralType

ESCAPES: Final = (
    (b"\x3d\x15", b"\x28"),
    (b"\x3d\x14", b"\x29"),
    (b"\x3d\x11", b"\x2c"),
    (b"\x3d\x00", b"\x3d"),
)

_COMMON = Struct(">17s6s5sBHBBB")
COMMON_LENGTH: Final = _COMMON.size
#: Offset of the sub-lock's own serial, which the answer names.
SERIAL_AT: Final = 28
_LOCK = Struct(">HHHB")
_CARD = Struct(">I")
_JT126 = Struct(">HBHB")

SENSOR_JT126: Final = 1
LOCK_JT709: Final = 4
#: Valve sensors, whose models are undocumented.
VALVES: Final = (5, 6)
VALVE_JT802: Final = 9
TYPES: Final[dict[int, PeripheralType]] = {
    SENSOR_JT126: "jt126",
    LOCK_JT709: "jt709",
    VALVE_JT802: "jt802",
}

STATUS_ROPE: Final = 1 << 0
STATUS_MOTOR: Final = 1 << 1
STATUS_COVER: Final = 1 << 2
STATUS_CHARGING: Final = 1 << 3
GATEWAY_RESENT: Final = 1 << 0
GATEWAY_CONTACT_LOST: Final = 1 << 1
GATEWAY_LOW_VOLTAGE: Final = 1 << 2
_NO_TEMPERATURE: Final = 0xFFFF
_MINUS: Final = 0x1000

RESENT: Final = 1 << 15
SIGNAL_LOST: Final = 1 << 14


@frozen
class EventBits:
    """The meaning of a type's event bits: movements of the lock, alarms, and reasons of the report.

    `by_card` is the bit of a movement caused by a card. `link` are bits about the radio link, which are not
    part of the event.
    """

    moves: dict[int, tuple[Method, Action]]
    alarms: dict[int, str]
    reasons: dict[int, str]
    by_card: int | None = None
    link: int = 0

    def name(self, bit: int) -> str:
        """Return the name of a bit; `bit_<n>` for an undocumented one."""
        if bit in self.moves:
            method, action = self.moves[bit]
            return action if method == "unknown" else f"{action}_by_{method}"
        return self.alarms.get(bit) or self.reasons.get(bit) or f"bit_{bit}"


JT709_EVENTS: Final = EventBits(
    moves={
        0: ("unknown", "locked"),
        1: ("bluetooth", "unlocked"),
        3: ("lora", "unlocked"),
        9: ("card", "unlocked"),
    },
    alarms={2: "back_cover_opened", 4: "rope_cut"},
    reasons={5: "button", 6: "timer", 7: "charging", 8: "rope_pulled_out"},
    by_card=9,
    link=SIGNAL_LOST | RESENT,
)
#: For JT802 this is an assumption: the source names types 5 and 6.
VALVE_EVENTS: Final = EventBits(
    moves={6: ("lora", "unlocked"), 7: ("unknown", "locked"), 8: ("bluetooth", "unlocked")},
    alarms={2: "low_battery", 4: "tampered", 5: "back_cover_opened"},
    reasons={
        0: "valve_closed",
        1: "valve_opened",
        3: "timer",
        9: "rope_pulled_out",
        10: "rope_inserted",
        11: "bluetooth",
        12: "button",
    },
)
EVENTS: Final[dict[int, EventBits]] = {
    LOCK_JT709: JT709_EVENTS,
    **dict.fromkeys((*VALVES, VALVE_JT802), VALVE_EVENTS),
}


class PayloadError(Exception):
    """A payload without the fields that every sub-lock and sensor sends."""


def unescape(payload: bytes) -> bytes:
    """Undo the escapes of brackets, comma and, last, of `3D` itself."""
    for escaped, byte in ESCAPES:
        payload = payload.replace(escaped, byte)
    return payload


def escape(payload: bytes) -> bytes:
    """Escape a payload, the inverse of `unescape`: `3D` first, so that no escape is escaped again."""
    for escaped, byte in reversed(ESCAPES):
        payload = payload.replace(byte, escaped)
    return payload


def serial_of(payload: bytes) -> int | None:
    """Return the sub-lock's serial in an unescaped payload, even if `decode` fails; None if truncated."""
    return payload[SERIAL_AT] if len(payload) > SERIAL_AT else None


def set_bits(value: int) -> list[int]:
    """Return the numbers of the set bits, lowest first."""
    return [bit for bit in range(value.bit_length()) if value >> bit & 1]


def decode(payload: bytes) -> tuple[Peripheral, list[LockEvent | Alarm]]:
    """Decode an unescaped payload to the report, and its movements and alarms, each in the order of bits.

    Bytes after the known fields, or too few for them, are kept as hex. PayloadError for less than 34 bytes,
    or when the master's position is invalid.
    """
    if len(payload) < COMMON_LENGTH:
        raise PayloadError(f"a sub-lock's report has at least {COMMON_LENGTH} bytes, not {len(payload)}")
    if not packed_position.looks_sound(payload):
        raise PayloadError("a sub-lock's report begins with the place of its master")
    head, time, identity, serial, volts, percent, rssi, kind = _COMMON.unpack_from(payload)
    place = packed_position.decode(head)
    peripheral = Peripheral(
        identity.hex().upper(),
        TYPES.get(kind, kind),
        time_dmy(time),
        serial,
        _percent(percent),
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
    events: list[LockEvent | Alarm] = []
    if kind in EVENTS and len(rest) >= _LOCK.size:
        events, rest = _lock(peripheral, EVENTS[kind], rest)
    elif kind == SENSOR_JT126 and len(rest) >= _JT126.size:
        rest = _jt126(peripheral, rest)
    if rest:
        peripheral.value = rest.hex()
    return peripheral, events


def _lock(peripheral: Peripheral, known: EventBits, rest: bytes) -> tuple[list[LockEvent | Alarm], bytes]:
    event, status, peripheral.lock_cycles, gateway = _LOCK.unpack_from(rest)
    rest = rest[_LOCK.size :]
    link, event = event & known.link, event & ~known.link
    peripheral.event = event
    names = [(bit, known.name(bit)) for bit in set_bits(event)]
    peripheral.alarms = tuple(name for bit, name in names if bit in known.alarms)
    peripheral.reasons = tuple(name for bit, name in names if bit not in known.alarms)
    peripheral.rope_open = rope = bool(status & STATUS_ROPE)
    peripheral.motor_open = motor = bool(status & STATUS_MOTOR)
    peripheral.lock_state = "unlocked" if rope or motor else "locked"
    # Firmware that sends no card may not have these two bits.
    clear = False if len(rest) >= _CARD.size else None
    peripheral.back_cover_open = bool(status & STATUS_COVER) or clear
    peripheral.charging = bool(status & STATUS_CHARGING) or clear
    peripheral.status_bits = status
    _gateway(peripheral, gateway, resent=bool(link & RESENT), lost=bool(link & SIGNAL_LOST))
    card = None
    if len(rest) >= _CARD.size:
        (number,) = _CARD.unpack_from(rest)
        peripheral.card = card = f"{number:010d}" if number else None
        rest = rest[_CARD.size :]
    return [*_moves(peripheral, event, known, card), *_alarms(peripheral)], rest


def _moves(peripheral: Peripheral, event: int, known: EventBits, card: str | None) -> list[LockEvent]:
    """Return one event for each movement. A card belongs to the movement by card, if there is one."""
    bits = set_bits(event)
    moves = []
    for bit in (bit for bit in bits if bit in known.moves):
        method, action = known.moves[bit]
        move = LockEvent(
            peripheral.time,
            1 << bit,
            method,
            action,
            card if bit == known.by_card or known.by_card not in bits else None,
            None,
            None,
            peripheral.latitude,
            peripheral.longitude,
        )
        move.peripheral = peripheral.peripheral
        moves.append(move)
    return moves


def _alarms(peripheral: Peripheral) -> list[Alarm]:
    """Return an active alarm: sub-locks never report the end of one."""
    place = peripheral.latitude, peripheral.longitude
    return [
        Alarm(peripheral.time, name, True, *place, peripheral.peripheral) for name in peripheral.alarms or ()
    ]


def _jt126(peripheral: Peripheral, rest: bytes) -> bytes:
    temperature, humidity, peripheral.records_waiting, gateway = _JT126.unpack_from(rest)
    peripheral.humidity_percent = _percent(humidity)
    peripheral.temperature_c = None
    if temperature != _NO_TEMPERATURE:
        peripheral.temperature_c = (-1 if temperature & ~0x0FFF else 1) * (temperature & 0x0FFF) / 10
    _gateway(peripheral, gateway)
    return rest[_JT126.size :]


def _percent(value: int) -> int | None:
    return value if value <= packed_position.FULL else None


def _gateway(peripheral: Peripheral, bits: int, *, resent: bool = False, lost: bool = False) -> None:
    peripheral.resent = resent or bool(bits & GATEWAY_RESENT)
    peripheral.contact_lost = lost or bool(bits & GATEWAY_CONTACT_LOST)
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
    """Encode an unescaped payload: `master` of `packed_position.encode`, `rest` of one of the next two."""
    volts = round(battery_volts * 100)
    identity = bytes.fromhex(peripheral)
    fixed = _COMMON.pack(master, encode_dmy(time), identity, serial, volts, battery_percent, -rssi_dbm, kind)
    return fixed + rest


def encode_jt709(event: int, status: int, lock_cycles: int, gateway: int, card: int | None) -> bytes:
    """Encode the fields of a JT709 or a valve lock; `card` is None for firmware that doesn't send one."""
    return _LOCK.pack(event, status, lock_cycles, gateway) + (b"" if card is None else _CARD.pack(card))


def encode_jt126(
    temperature_c: float | None, humidity_percent: int, gateway: int, records_waiting: int = 0
) -> bytes:
    """Encode the fields of a JT126."""
    temperature = _NO_TEMPERATURE
    if temperature_c is not None:
        temperature = round(abs(temperature_c) * 10) | (_MINUS if temperature_c < 0 else 0)
    return _JT126.pack(temperature, humidity_percent, records_waiting, gateway)


def encode_report(master: str, serial: int, payload: bytes) -> bytes:
    """The whole sentence around an unescaped payload."""
    return f"({master},1,{serial % 1000:03d},WLNET,5,2,".encode("ascii") + escape(payload) + b")"
