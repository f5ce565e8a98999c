"""The location body of 0x5501 and 0x5502 (docs/protocol.rst §1.2), decoded and encoded.

::

    0  position, 17 bytes (packed_position.py)
    17 mobile signal u8 | 18 satellites u8 | 19 mileage u32 (km)
    23 battery u8 (0-100 %, AA or AB while charging) | 24 cell id u32 | 28 LAC u16
    30 product u8 | 31 status u16 | 33 alarm u16
    35 items: id u8, length u8, value, until the body ends

The meaning of the status and alarm bits depends on the product; 3 is the lock.
"""

from datetime import datetime
from struct import Struct
from typing import Final

from jt709c_gateway.protocol import lock_event_item, packed_position
from jt709c_gateway.protocol.alarms import JT705_WAKE_REASONS, LOW_BATTERY, jt705_alarms
from jt709c_gateway.protocol.events import Cell, ExtendedLocation, LockEvent
from jt709c_gateway.protocol.jt709 import NO_ALTITUDE, NO_SIGNAL, BodyError

_FIXED = Struct(">17sBBIBIHBHH")
FIXED_LENGTH: Final = _FIXED.size

#: The product number of the lock; 1 and 2 are trackers.
PRODUCT_LOCK: Final = 3
STATUS_BATTERY_LOW: Final = 1 << 1
STATUS_COVER: Final = 1 << 2
STATUS_MOTOR: Final = 1 << 4
STATUS_UNLOCK_BUTTON: Final = 1 << 5
STATUS_BLUETOOTH: Final = 1 << 11
_CHARGING: Final = (0xAA, 0xAB)
_FULL: Final = 100

ALTITUDE: Final = 0x02
NETWORK_CODES: Final = 0x0A
TILT: Final = 0x0C
WAKE_SOURCE: Final = 0x10
NETWORK: Final = 0xF4
FENCE: Final = 0xFC

_TILT = Struct(">hhh")
_LONGEST_EVENT: Final = 8
#: Supported lengths; an item of another length is kept as hex.
_LENGTHS: Final = {
    ALTITUDE: (2,),
    NETWORK_CODES: (3, 4),
    TILT: (_TILT.size,),
    WAKE_SOURCE: (1,),
    NETWORK: (1,),
    FENCE: (1,),
    lock_event_item.ITEM: range(1, _LONGEST_EVENT + 1),
}


def decode(body: bytes) -> tuple[ExtendedLocation, list[LockEvent]]:
    """Decode a body to a Location and the lock events among its items; BodyError for less than 35 bytes.

    The lock state of a product that is no lock is None.
    """
    if len(body) < FIXED_LENGTH:
        raise BodyError(f"a location has at least {FIXED_LENGTH} bytes, not {len(body)}")
    head, signal, satellites, mileage, battery, cell_id, lac, product, status, alarm = _FIXED.unpack_from(
        body
    )
    place = packed_position.decode(head)
    lock = product == PRODUCT_LOCK
    motor = bool(status & STATUS_MOTOR) if lock else None
    alarms = jt705_alarms(product, alarm)
    if lock and status & STATUS_BATTERY_LOW and LOW_BATTERY not in alarms:
        alarms = (*alarms, LOW_BATTERY)
    location = ExtendedLocation(
        place.time,
        "gnss" if place.fix else "none",
        place.latitude,
        place.longitude,
        None,
        place.speed_kmh,
        place.course_deg,
        satellites if satellites != packed_position.NO_SATELLITES else None,
        signal if signal != NO_SIGNAL else None,
        battery if battery <= _FULL else None,
        None,
        _charging(battery),
        mileage,
        None if motor is None else "unlocked" if motor else "locked",
        None,
        motor,
        bool(status & STATUS_COVER) if lock else None,
        None,
        None,
        None,
        None,
        None,
        Cell(None, None, cell_id, lac),
        alarms,
        alarm,
        status,
        None,
        {},
    )
    return location, _read_items(location, body[FIXED_LENGTH:], lock_event_item.mask(body)[FIXED_LENGTH:])


def _charging(battery: int) -> bool | None:
    if battery in _CHARGING:
        return True
    return False if battery <= _FULL else None


def _read_items(location: ExtendedLocation, items: bytes, safe: bytes) -> list[LockEvent]:
    """Add the values of the items; stop at an item that exceeds the body, and keep the earlier ones.

    `safe` are the items with possible passwords masked: in a frame that only seems intact, an unknown item
    may contain another item.
    """
    events: list[LockEvent] = []
    at = 0
    while at + 2 <= len(items) and at + 2 + items[at + 1] <= len(items):
        item, value = items[at], items[at + 2 : at + 2 + items[at + 1]]
        kept = safe[at + 2 : at + 2 + len(value)]
        at += 2 + len(value)
        if len(value) not in _LENGTHS.get(item, ()):
            kept = lock_event_item.masked(kept) if item == lock_event_item.ITEM else kept
            location.items[f"{item:02x}"] = kept.hex()
        elif item != lock_event_item.ITEM:
            _read_item(location, item, value)
        elif event := lock_event_item.decode(value, location.time, location.latitude, location.longitude):
            events.append(event)
            location.lock_event = event
    return events


def _read_item(location: ExtendedLocation, item: int, value: bytes) -> None:
    number = int.from_bytes(value, "big")
    if item == ALTITUDE:
        altitude = int.from_bytes(value, "big", signed=True)
        location.altitude_m = altitude if altitude != NO_ALTITUDE else None
    elif item == NETWORK_CODES and location.cell is not None:
        # MNC has one byte, in newer firmware two.
        location.cell.mcc = int.from_bytes(value[:2], "big")
        location.cell.mnc = int.from_bytes(value[2:], "big")
    elif item == TILT:
        location.tilt = _TILT.unpack(value)
    elif item == WAKE_SOURCE:
        location.wake_source = number
        location.wake_reason = JT705_WAKE_REASONS.get(number)
    elif item == NETWORK:
        location.network_generation = number or None
    elif item == FENCE:
        location.fence_id = number


def encode(
    *,
    time: datetime,
    latitude: float,
    longitude: float,
    fix: bool,
    speed_kmh: float,
    course_deg: int,
    gsm_signal: int,
    satellites: int,
    odometer_km: int,
    battery: int,
    cell_id: int,
    lac: int,
    product: int = PRODUCT_LOCK,
    status: int,
    alarm_bits: int,
    items: dict[int, bytes],
) -> bytes:
    """Encode a location for simulated locks, the inverse of `decode`; `battery` is the byte as sent."""
    head = packed_position.encode(time, latitude, longitude, fix, speed_kmh, course_deg, always=False)
    fixed = _FIXED.pack(
        head, gsm_signal, satellites, odometer_km, battery, cell_id, lac, product, status, alarm_bits
    )
    return fixed + b"".join(bytes([item, len(value)]) + value for item, value in items.items())
