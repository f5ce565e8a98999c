"""The 0x0200 location body (docs/protocol.rst §1.1), decoded and encoded.

::

    0  alarm flags u32 | 4 status u32 | 8 latitude u32 | 12 longitude u32 (degrees x 10^6)
    16 altitude i16 (m) | 18 speed u16 (0.1 km/h) | 20 course u16 (degrees) | 22 time BCD[6] UTC
    28 items: id u8, length u8, value, until the body ends

A lock always sends the same items in the same order. So each sequence is compiled once into one Struct, and
recognised by the ids and lengths at their places, instead of walking the items of every frame.
"""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any, Final

from attrs import define

from jt709c_gateway.protocol import jt709x, lock_event_item
from jt709c_gateway.protocol.alarms import WAKE_REASONS, jt709_alarms
from jt709c_gateway.protocol.bcd import encode_ymd, time_ymd
from jt709c_gateway.protocol.events import (
    Cell,
    ExtendedLocation,
    Fix,
    Location,
    LockEvent,
    LockState,
    RopeStatus,
    extend,
)
from jt709c_gateway.protocol.packed_position import MAX_COURSE, NO_SATELLITES

FIXED: Final = Struct(">IIIIhHH6s")
FIXED_LENGTH: Final = FIXED.size

STATUS_SUN: Final = 1 << 0
STATUS_FIX: Final = 1 << 1
STATUS_SOUTH: Final = 1 << 2
STATUS_WEST: Final = 1 << 3
STATUS_USB: Final = 1 << 4
STATUS_BASE_STATION: Final = 1 << 6
STATUS_BACK_COVER: Final = 1 << 7
STATUS_MOVING: Final = 1 << 12
STATUS_BACK_COVER_709X: Final = 1 << 13
STATUS_PICTURE: Final = 1 << 14
STATUS_TOP_COVER: Final = 1 << 15
STATUS_SIM_COVER: Final = 1 << 16
STATUS_GNSS: Final = 1 << 18
STATUS_BEIDOU: Final = 1 << 19
STATUS_ROPE: Final = 1 << 20
STATUS_MOTOR: Final = 1 << 21
STATUS_ASLEEP: Final = 1 << 31
_COVER: Final = STATUS_BACK_COVER | STATUS_BACK_COVER_709X
_CHARGED: Final = STATUS_SUN | STATUS_USB

SATELLITES: Final = 0x31
GSM_SIGNAL: Final = 0x30
BATTERY_PERCENT: Final = 0xD4
BATTERY_VOLTS: Final = 0xD5
ODOMETER: Final = 0xFE
FENCE: Final = 0xFC
NETWORK: Final = 0xF4
PROTOCOL_VERSION: Final = 0xF9
CELL: Final = 0xFD
ROPE_STATUS: Final = 0xDA
REPORTS_SENT: Final = 0xDB
TEMPERATURE_SIGNED: Final = 0x0F
TEMPERATURE_OFFSET: Final = 0xF8

#: Items that are plain numbers, in the order of `_Layout.numbers`, with their only valid length.
NUMBERS: Final = {
    SATELLITES: "B",
    GSM_SIGNAL: "B",
    BATTERY_PERCENT: "B",
    BATTERY_VOLTS: "H",
    ODOMETER: "I",
    FENCE: "B",
    NETWORK: "B",
    PROTOCOL_VERSION: "H",
}
CELLS: Final = {9: "HBIH", 10: "HHIH"}
#: Values that stand for "no value".
NO_ALTITUDE: Final = 8000
NO_SPEED: Final = 0xFFFF
NO_SIGNAL: Final = 255
FULL: Final = 100
CHARGING: Final = 0xFF
EXTERNAL_POWER: Final = 0xAA
_NO_TEMPERATURE: Final = 0xFFFF
_EXTRAS: Final = {ROPE_STATUS: "HB", REPORTS_SENT: "H", TEMPERATURE_SIGNED: "H", TEMPERATURE_OFFSET: "H"}


class BodyError(Exception):
    """A location body too short for its fixed part."""


@lru_cache(maxsize=4096)
def _status(bits: int) -> tuple[Fix, LockState, bool, bool, bool, int, str | None, bool | None]:
    """Decode the status u32: fix, lock state, rope, motor, back cover, wake-up source, its name, charging."""
    if bits & (STATUS_FIX | STATUS_GNSS):
        fix: Fix = "gnss"
    else:
        fix = "lbs" if bits & STATUS_BASE_STATION else "none"
    rope, motor = bool(bits & STATUS_ROPE), bool(bits & STATUS_MOTOR)
    state: LockState = "unlocked" if rope or motor else "locked"
    wake = bits >> 24 & 0x0F
    # A clear bit has no meaning: only a JT709X has these bits.
    charging = True if bits & _CHARGED else None
    return fix, state, rope, motor, bool(bits & _COVER), wake, WAKE_REASONS.get(wake), charging


@lru_cache(maxsize=8192)
def _cell(mcc: int, mnc: int, cell_id: int, lac: int) -> Cell:
    return Cell(mcc, mnc, cell_id, lac)


@define
class _Layout:
    """A compiled sequence of item ids and lengths. `mask` and `expected` recognise it by its bytes."""

    mask: int
    expected: int
    struct: Struct
    #: Selects the values of `NUMBERS` from the unpacked ones, None for an item that wasn't sent.
    numbers: Callable[[tuple[Any, ...]], tuple[int | None, ...]]
    cell: int | None
    lock_events: list[int]
    #: Lock event items of unsupported length.
    odd_events: list[int]
    extras: list[tuple[int, int]]
    #: Items of a JT709X and the places of their bytes.
    more: list[tuple[int, int]]
    unknown: list[tuple[str, int]]
    #: Whether any of the last five lists has entries.
    uncommon: bool = False
    #: The class for a report of this layout.
    location: type[Location] = Location


def _compile(items: bytes) -> _Layout:
    """Compile the layout of items; stop at an item that exceeds the body, and keep the earlier ones."""
    mask, expected = bytearray(len(items)), bytearray(len(items))
    codes: list[str] = []
    places: dict[int, int] = {}
    layout = _Layout(0, 0, Struct(">"), itemgetter(0, 1), None, [], [], [], [], [])
    count = 0
    position = 0
    while position + 2 <= len(items):
        item, length = items[position], items[position + 1]
        mask[position : position + 2] = b"\xff\xff"
        expected[position : position + 2] = items[position : position + 2]
        if position + 2 + length > len(items):
            break
        code = NUMBERS.get(item) or _EXTRAS.get(item) or CELLS.get(length if item == CELL else 0, "")
        if code and Struct(">" + code).size == length:
            if item == CELL:
                layout.cell = count
            elif item in _EXTRAS:
                layout.extras.append((item, count))
            else:
                places[item] = count
        else:
            code = f"{length}s"
            if item == lock_event_item.ITEM:
                (layout.lock_events if 1 <= length <= 8 else layout.odd_events).append(count)
            elif jt709x.is_read(item, length):
                layout.more.append((item, count))
            else:
                layout.unknown.append((f"{item:02x}", count))
        codes.append("xx" + code)
        count += 1 if code[0].isdigit() else len(code)
        position += 2 + length
    layout.mask, layout.expected = int.from_bytes(mask, "big"), int.from_bytes(expected, "big")
    layout.struct = Struct(">" + "".join(codes))
    layout.uncommon = any((layout.lock_events, layout.odd_events, layout.extras, layout.more, layout.unknown))
    if layout.extras or layout.more:
        layout.location = ExtendedLocation
    # Index `count` is a None appended to the unpacked values, for items that this layout lacks.
    layout.numbers = itemgetter(*(places.get(item, count) for item in NUMBERS))
    return layout


#: Known layouts, by the length of the items. Bounded, since peers may send anything: about 20 MB.
_layouts: defaultdict[int, list[_Layout]] = defaultdict(list)
_PER_LENGTH: Final = 16
#: Items longer than any lock sends are compiled each time.
_LONGEST_KEPT: Final = 192


def _layout(items: bytes) -> _Layout:
    length = len(items)
    if length > _LONGEST_KEPT:
        return _compile(items)
    known = _layouts[length]
    number = int.from_bytes(items, "big")
    for layout in known:
        if number & layout.mask == layout.expected:
            return layout
    layout = _compile(items)
    if len(known) >= _PER_LENGTH:
        known.pop(0)
    known.append(layout)
    return layout


_NONE: Final = (None,)
#: The key of a lock event item of unsupported length among the items kept as hex.
_EVENT_KEPT: Final = f"{lock_event_item.ITEM:02x}"


def decode(body: bytes) -> tuple[Location, list[LockEvent]]:
    """Decode a location body to a Location and the lock events among its items; BodyError for less than 28
    bytes.

    An impossible coordinate or time, and a unit's value for "none", become None. 0,0 without a fix is no
    position, even if the unit claims a base station's.
    """
    if len(body) < FIXED_LENGTH:
        raise BodyError(f"a location has at least {FIXED_LENGTH} bytes, not {len(body)}")
    alarm_bits, status, lat, lon, altitude, speed, course, moment = FIXED.unpack_from(body)
    fix, state, rope, motor, cover, wake, reason, charging = _status(status)
    latitude: float | None = (-lat if status & STATUS_SOUTH else lat) / 1e6 if lat <= 90_000_000 else None
    longitude: float | None = (-lon if status & STATUS_WEST else lon) / 1e6 if lon <= 180_000_000 else None
    if not latitude and lat == lon == 0 and fix != "gnss":
        latitude = longitude = None
        fix = "none"
    items = body[FIXED_LENGTH:]
    layout = _layout(items)
    values = layout.struct.unpack_from(items) + _NONE
    satellites, signal, percent, volts, odometer, fence, network, version = layout.numbers(values)
    at = layout.cell
    location = layout.location(
        time_ymd(moment),
        fix,
        latitude,
        longitude,
        altitude if altitude != NO_ALTITUDE else None,
        speed / 10 if speed != NO_SPEED else None,
        course if course <= MAX_COURSE else None,
        satellites if satellites != NO_SATELLITES else None,
        signal if signal != NO_SIGNAL else None,
        percent,
        None if volts is None else volts / 100,
        charging,
        odometer,
        state,
        rope,
        motor,
        cover,
        fence,
        wake,
        reason,
        network or None,
        version,
        None if at is None else _cell(*values[at : at + 4]),
        jt709_alarms(alarm_bits) if alarm_bits else (),
        alarm_bits,
        status,
        None,
        {},
    )
    if percent is not None and percent > FULL:
        location = _powered(location, percent)
    return _uncommon(location, layout, values, body) if layout.uncommon else (location, [])


def _powered(location: Location, percent: int) -> Location:
    """Decode the battery byte, in which some units send charging or external power, not a percentage."""
    location.battery_percent = None
    if percent == CHARGING:
        location.charging = True
    elif percent == EXTERNAL_POWER:
        location = extended = extend(location)
        extended.external_power = True
    return location


def _uncommon(
    location: Location, layout: _Layout, values: tuple[Any, ...], body: bytes
) -> tuple[Location, list[LockEvent]]:
    """Add items that most reports don't have; return the lock events among them."""
    # In a frame that only seems intact, an unknown item may contain another item with a password.
    kept = (
        layout.struct.unpack_from(lock_event_item.mask(body), FIXED_LENGTH)
        if lock_event_item.ITEM in body
        else values
    )
    for name, index in layout.unknown:
        location.items[name] = kept[index].hex()
    for index in layout.odd_events:
        location.items[_EVENT_KEPT] = lock_event_item.masked(kept[index]).hex()
    if layout.extras:
        location = extended = extend(location)
        for item, index in layout.extras:
            _extra(extended, item, values[index], values[index + 1])
    events = [
        event
        for index in layout.lock_events
        if (
            event := lock_event_item.decode(
                values[index], location.time, location.latitude, location.longitude
            )
        )
    ]
    if events:
        location.lock_event = events[-1]
    if layout.more:
        location = extend(location)
        for item, index in layout.more:
            if not jt709x.read(location, item, kept[index], events):
                location.items[f"{item:02x}"] = kept[index].hex()
    return location, events


def _extra(location: ExtendedLocation, item: int, value: int, following: Any) -> None:
    """Add the additional items of a JT707."""
    if item == REPORTS_SENT:
        location.reports_sent = value
    elif item == ROPE_STATUS:
        bits: int = following
        location.rope = RopeStatus(value, bool(bits & 1), bool(bits & 2), bool(bits & 4), bits >> 3 & 7)
    elif value == _NO_TEMPERATURE:
        return
    elif item == TEMPERATURE_SIGNED:
        location.temperature_c = (-1 if value >> 12 else 1) * (value & 0x0FFF) / 10
    else:
        location.temperature_c = round(value / 10 - 50, 1)


def password_spans(body: bytes, items_start: int = FIXED_LENGTH) -> list[tuple[int, int]]:
    """Return the places of passwords in a location body, as (start, end) offsets."""
    spans = []
    position = items_start
    while position + 2 <= len(body):
        item, length = body[position], body[position + 1]
        start = position + 2
        # A truncated item may contain a password, too.
        if item == lock_event_item.ITEM and (
            span := lock_event_item.password_span(body[start : start + length])
        ):
            spans.append((start + span[0], start + span[1]))
        position = start + length
    return spans


def encode(
    *,
    alarm_bits: int,
    status: int,
    latitude: float,
    longitude: float,
    altitude_m: int,
    speed_kmh: float,
    course_deg: int,
    time: datetime,
    items: dict[int, bytes],
) -> bytes:
    """Encode a location body for simulated locks, the inverse of `decode`; signs set status bits."""
    status &= ~(STATUS_SOUTH | STATUS_WEST)
    status |= (STATUS_SOUTH if latitude < 0 else 0) | (STATUS_WEST if longitude < 0 else 0)
    fixed = FIXED.pack(
        alarm_bits,
        status,
        round(abs(latitude) * 1e6),
        round(abs(longitude) * 1e6),
        altitude_m,
        round(speed_kmh * 10),
        course_deg,
        encode_ymd(time),
    )
    return fixed + b"".join(bytes([item, len(value)]) + value for item, value in items.items())
