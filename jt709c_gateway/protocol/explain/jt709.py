"""The 0x0200 location body (PROTOCOL.md §1.1)."""

from functools import partial
from struct import calcsize
from typing import Final

from .. import jt709, lock_events
from ..alarms import JT709_ALARMS
from ..events import Location, extend
from . import items, text
from .reader import Reader
from .tree import Bits

_WAKE_BITS: Final = 0x0F << 24
_STATUS: Final = text.by_bit(
    {
        jt709.STATUS_FIX: "gnss_fix",
        jt709.STATUS_SOUTH: "south",
        jt709.STATUS_WEST: "west",
        jt709.STATUS_BASE_STATION: "base_station",
        jt709.STATUS_BACK_COVER: "back_cover_open",
        jt709.STATUS_GNSS: "gnss_in_use",
        jt709.STATUS_ROPE: "rope_open",
        jt709.STATUS_MOTOR: "motor_open",
    }
)
_ROPE_STATUS: Final = {0: "locked", 1: "moving", 2: "sim"}
_ROPE_WAKE: Final = (3, 5)


def read(reader: Reader) -> None:
    """Take a whole body."""
    head = reader.peek(jt709.FIXED_LENGTH).ljust(jt709.FIXED_LENGTH, b"\x00")
    location, _ = jt709.decode(head)
    reader.number(
        4, "alarm_bits", text.listed(location.alarms),
        bits=text.set_bits(location.alarm_bits or 0, JT709_ALARMS),
    )  # fmt: skip
    reader.number(4, "status_bits", _status(location), bits=_status_bits(location))
    reader.number(4, "latitude", text.latitude(location.latitude))
    reader.number(4, "longitude", text.longitude(location.longitude))
    reader.number(2, "altitude_m", text.unit(location.altitude_m, "m"), signed=True)
    reader.number(2, "speed_kmh", text.unit(location.speed_kmh, "km/h"))
    reader.number(2, "course_deg", f"{location.course_deg}°")
    reader.take(6, "time", head[22:28].hex(), text.moment(location.time))
    items.walk(reader, partial(_decode, head), _ITEMS)


def _decode(head: bytes, item: bytes) -> Location:
    return jt709.decode(head + item)[0]


def _status(location: Location) -> str:
    state = [location.lock_state or "", f"fix {location.fix}"]
    if location.back_cover_open:
        state.append("back cover open")
    return ", ".join([*state, f"woken by {text.wake(location.wake_source, location.wake_reason)}"])


def _status_bits(location: Location) -> list[Bits]:
    wake = Bits(
        24, 27, "wake_source", location.wake_source or 0,
        text.wake(location.wake_source, location.wake_reason),
    )  # fmt: skip
    bits = [*text.set_bits(location.status_bits or 0, _STATUS, skip=_WAKE_BITS), wake]
    return sorted(bits, key=lambda each: each.first)


def _cell(reader: Reader, location: Location) -> None:
    reader.describe("cell", text.cell(location.cell))
    for code, name in zip(jt709.CELLS[reader.left], ("mcc", "mnc", "cell_id", "lac"), strict=True):
        reader.number(calcsize(">" + code), name)


def _rope_status(reader: Reader, location: Location) -> None:
    rope = extend(location).rope
    if not rope:
        return
    said = [text.count(rope.rope_cuts, "rope cut"), "locked" if rope.locked else "unlocked"]
    said += ["moving"] if rope.moving else []
    reader.describe("rope", ", ".join(said))
    reader.number(2, "rope_cuts")
    status = reader.peek(1)[0]
    wake = Bits(*_ROPE_WAKE, "wake_source", rope.wake_source)
    reader.number(1, "rope_status", ", ".join(said[1:]), bits=[*text.each_bit(status, _ROPE_STATUS), wake])


def _temperature(location: Location) -> str:
    return text.unit(extend(location).temperature_c, "°C")


_ITEMS: Final = {
    lock_events.ITEM: items.lock_event,
    jt709.SATELLITES: items.number("satellites", lambda at: f"{at.satellites} satellites"),
    jt709.GSM_SIGNAL: items.number("gsm_signal", lambda at: f"signal {at.gsm_signal}"),
    jt709.BATTERY_PERCENT: items.number("battery_percent", lambda at: text.unit(at.battery_percent, "%")),
    jt709.BATTERY_VOLTS: items.number("battery_volts", lambda at: text.unit(at.battery_volts, "V")),
    jt709.ODOMETER: items.number("odometer_km", lambda at: text.unit(at.odometer_km, "km")),
    jt709.FENCE: items.number("fence_id", lambda at: f"fence {at.fence_id}"),
    jt709.NETWORK: items.number("network_generation", lambda at: text.generation(at.network_generation)),
    jt709.PROTOCOL_VERSION: items.number("protocol_version", lambda at: f"version {at.protocol_version}"),
    jt709.CELL: _cell,
    jt709.ROPE_STATUS: _rope_status,
    jt709.REPORTS_SENT: items.number(
        "reports_sent", lambda at: text.count(extend(at).reports_sent or 0, "report")
    ),
    jt709.TEMPERATURE_SIGNED: items.number("temperature_c", _temperature),
    jt709.TEMPERATURE_OFFSET: items.number("temperature_c", _temperature),
}
