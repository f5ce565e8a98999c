"""Additional items of a JT709X in a 0x0200 body, and the IMEI (docs/protocol.rst §1.1)."""

from datetime import UTC, datetime
from struct import Struct
from typing import Final

from jt709c_gateway.protocol.events import Battery, ExtendedLocation, Location, LockEvent

BATTERY: Final = 0x33
EVENT_TIME: Final = 0xE7
EVENT_DETAIL: Final = 0x32
ILLUMINANCE: Final = 0xF5
ACCELERATION: Final = 0xFA
HARDWARE: Final = 0xEF
IMEI: Final = 0xF2
#: The only valid length of each; `HARDWARE` may have any length above 0.
_LENGTHS: Final = {
    BATTERY: 23,
    EVENT_TIME: 4,
    EVENT_DETAIL: 2,
    ILLUMINANCE: 2,
    ACCELERATION: 6,
    IMEI: 15,
}
#: Maximum seconds from a lock event to its report.
EVENT_AGE: Final = 600

#: From byte 2 on: state u8, volts u16 x 0.01, current i32, temperature u16, charge and health % u8, cycles
#: u16; from byte 19 on mAh u32.
_BATTERY = Struct(">2xBHiHBBH4xI")
_ACCELERATION = Struct(">hhh")
_NO_TEMPERATURE: Final = 0xFFFF
_FULL: Final = 100
_IMEI_MARK: Final = bytes([IMEI, _LENGTHS[IMEI]])


def is_read(item: int, length: int) -> bool:
    """Return whether an item of this length is one of these."""
    return length > 0 if item == HARDWARE else _LENGTHS.get(item) == length


def read(location: ExtendedLocation, item: int, value: bytes, events: list[LockEvent]) -> bool:
    """Add an item's value to the report or its last lock event; return False for an invalid value."""
    if item == BATTERY:
        location.battery = _battery(value)
    elif item == ILLUMINANCE:
        location.illuminance = int.from_bytes(value, "big")
    elif item == ACCELERATION:
        location.acceleration = _ACCELERATION.unpack(value)
    elif item == HARDWARE and value.isascii() and value.decode("ascii").isprintable():
        location.hardware_version = value.decode("ascii")
    elif item == IMEI:
        return value.isdigit()
    elif item == EVENT_DETAIL and events:
        events[-1].detail = value.hex()
    elif item == EVENT_TIME and events:
        return _event_time(location.time, events[-1], int.from_bytes(value, "big"))
    else:
        return False
    return True


def _event_time(reported: datetime | None, event: LockEvent, seconds: int) -> bool:
    """Return the event's own time, if it is shortly enough before the report."""
    if reported is None or not 0 <= reported.timestamp() - seconds <= EVENT_AGE:
        return False
    event.time = datetime.fromtimestamp(seconds, UTC)
    return True


def event_time_kept(location: Location, event: LockEvent) -> None:
    """Decode an event's time again that was kept as hex, after the report's time has changed."""
    kept = location.items.get(f"{EVENT_TIME:02x}", "")
    if len(kept) == 2 * _LENGTHS[EVENT_TIME] and _event_time(location.time, event, int(kept, 16)):
        del location.items[f"{EVENT_TIME:02x}"]


def _battery(value: bytes) -> Battery:
    state, volts, current, temperature, percent, health, cycles, capacity = _BATTERY.unpack(value)
    return Battery(
        state,
        volts / 100,
        current,
        None if temperature == _NO_TEMPERATURE else round(temperature / 10 - 50, 1),
        percent if percent <= _FULL else None,
        health if health <= _FULL else None,
        cycles,
        capacity,
    )


def imei(items: bytes) -> str | None:
    """Return the IMEI among the items of a location body."""
    if _IMEI_MARK not in items:
        return None
    position = 0
    while position + 2 <= len(items):
        end = position + 2 + items[position + 1]
        value = items[position + 2 : end]
        if items[position : position + 2] == _IMEI_MARK and len(value) == _LENGTHS[IMEI] and value.isdigit():
            return value.decode("ascii")
        position = end
    return None
