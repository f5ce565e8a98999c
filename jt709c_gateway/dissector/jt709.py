"""The 0x0200 location body (docs/protocol.rst §1.1)."""

from datetime import UTC, datetime
from functools import partial
from struct import calcsize
from typing import Final

from jt709c_gateway.dissector import formatting, items
from jt709c_gateway.dissector.fields import Bits
from jt709c_gateway.dissector.reader import Reader
from jt709c_gateway.protocol import jt709, jt709x, lock_event_item
from jt709c_gateway.protocol.alarms import JT709_ALARMS
from jt709c_gateway.protocol.events import Location, extend

_WAKE_BITS: Final = 0x0F << 24
_STATUS: Final = formatting.by_bit(
    {
        jt709.STATUS_SUN: "charging_by_sun",
        jt709.STATUS_FIX: "gnss_fix",
        jt709.STATUS_SOUTH: "south",
        jt709.STATUS_WEST: "west",
        jt709.STATUS_USB: "charging_by_usb",
        jt709.STATUS_BASE_STATION: "base_station",
        jt709.STATUS_BACK_COVER: "back_cover_open",
        jt709.STATUS_MOVING: "moving",
        jt709.STATUS_BACK_COVER_709X: "back_cover_open",
        jt709.STATUS_PICTURE: "picture_taken",
        jt709.STATUS_TOP_COVER: "top_cover_open",
        jt709.STATUS_SIM_COVER: "sim_cover_open",
        jt709.STATUS_GNSS: "gnss_in_use",
        jt709.STATUS_BEIDOU: "beidou_in_use",
        jt709.STATUS_ROPE: "rope_open",
        jt709.STATUS_MOTOR: "motor_open",
        jt709.STATUS_ASLEEP: "asleep",
    }
)
_ROPE_STATUS: Final = {0: "locked", 1: "moving", 2: "sim"}
_ROPE_WAKE: Final = (3, 5)


def read(reader: Reader) -> None:
    """Read a whole body."""
    head = reader.peek(jt709.FIXED_LENGTH).ljust(jt709.FIXED_LENGTH, b"\x00")
    location, _ = jt709.decode(head)
    reader.number(
        4, "alarm_bits", formatting.listed(location.alarms),
        bits=formatting.set_bits(location.alarm_bits or 0, JT709_ALARMS),
    )  # fmt: skip
    reader.number(4, "status_bits", _status(location), bits=_status_bits(location))
    nowhere = not any(head[8:16])
    reader.number(4, "latitude", formatting.latitude(location.latitude, nowhere))
    reader.number(4, "longitude", formatting.longitude(location.longitude, nowhere))
    reader.number(2, "altitude_m", formatting.unit(location.altitude_m, "m"), signed=True)
    reader.number(2, "speed_kmh", formatting.unit(location.speed_kmh, "km/h"))
    reader.number(2, "course_deg", formatting.course(location.course_deg))
    reader.take(6, "time", head[22:28].hex(), formatting.moment(location.time))
    items.walk(reader, partial(_decode, head), _ITEMS, {jt709x.EVENT_TIME: 4, jt709x.EVENT_DETAIL: 2})


def _decode(head: bytes, item: bytes) -> Location:
    return jt709.decode(head + item)[0]


def _status(location: Location) -> str:
    state = [location.lock_state or "", f"fix {location.fix}"]
    if location.back_cover_open:
        state.append("back cover open")
    if location.charging:
        state.append("charging")
    return ", ".join([*state, f"woken by {formatting.wake(location.wake_source, location.wake_reason)}"])


def _status_bits(location: Location) -> list[Bits]:
    wake = Bits(
        24, 27, "wake_source", location.wake_source or 0,
        formatting.wake(location.wake_source, location.wake_reason),
    )  # fmt: skip
    bits = [*formatting.set_bits(location.status_bits or 0, _STATUS, skip=_WAKE_BITS), wake]
    return sorted(bits, key=lambda each: each.first)


def _cell(reader: Reader, location: Location) -> None:
    reader.describe("cell", formatting.cell(location.cell))
    for code, name in zip(jt709.CELLS[reader.left], ("mcc", "mnc", "cell_id", "lac"), strict=True):
        reader.number(calcsize(">" + code), name)


def _rope_status(reader: Reader, location: Location) -> None:
    rope = extend(location).rope
    if not rope:
        return
    said = [formatting.count(rope.rope_cuts, "rope cut"), "locked" if rope.locked else "unlocked"]
    said += ["moving"] if rope.moving else []
    reader.describe("rope", ", ".join(said))
    reader.number(2, "rope_cuts")
    status = reader.peek(1)[0]
    wake = Bits(*_ROPE_WAKE, "wake_source", rope.wake_source)
    reader.number(
        1, "rope_status", ", ".join(said[1:]), bits=[*formatting.each_bit(status, _ROPE_STATUS), wake]
    )


def _battery(reader: Reader, location: Location) -> None:
    """Read the battery record of a JT709X, with bytes that its document doesn't explain."""
    known = extend(location).battery
    if not known:
        return
    charge, volts = formatting.unit(known.percent, "%"), formatting.unit(known.volts, "V")
    reader.describe("battery", f"{charge}, {volts}")
    reader.take(2, "value", meaning="not understood")
    reader.number(1, "state")
    reader.number(2, "volts", volts)
    reader.number(4, "current_ua", f"{known.current_ua} µA, perhaps", signed=True)
    reader.number(2, "temperature_c", formatting.unit(known.temperature_c, "°C"))
    reader.number(1, "percent", charge)
    reader.number(1, "health_percent", formatting.unit(known.health_percent, "%"))
    reader.number(2, "cycles", formatting.count(known.cycles, "cycle"))
    reader.take(4, "value", meaning="not understood")
    reader.number(4, "capacity_mah", formatting.unit(known.capacity_mah, "mAh"))


def _event_time(reader: Reader, location: Location) -> None:
    seconds = int.from_bytes(reader.peek(4), "big")
    said = f"{formatting.moment(datetime.fromtimestamp(seconds, UTC))}, of the lock event"
    reader.describe("event_time", said)
    reader.number(4, "event_time", said)


def _acceleration(reader: Reader, location: Location) -> None:
    reader.describe("acceleration", "three axes, in a unit that no document names")
    for axis in "xyz":
        reader.number(2, f"acceleration_{axis}", signed=True)


def _text_item(name: str, meaning: str) -> items.ItemReader:
    def read(reader: Reader, location: Location) -> None:
        reader.describe(name, meaning)
        reader.text(reader.left, name)

    return read


def _detail(reader: Reader, location: Location) -> None:
    reader.describe("event_detail", "more about the lock event")
    reader.rest("event_detail", "more about the lock event")


def _percent(location: Location) -> str:
    if extend(location).external_power is True:
        return "power from outside"
    return formatting.battery(location.battery_percent, location.charging)


def _temperature(location: Location) -> str:
    return formatting.unit(extend(location).temperature_c, "°C")


_ITEMS: Final = {
    lock_event_item.ITEM: items.lock_event,
    jt709.SATELLITES: items.number("satellites", lambda at: formatting.satellites(at.satellites)),
    jt709.GSM_SIGNAL: items.number("gsm_signal", lambda at: formatting.signal(at.gsm_signal)),
    jt709.BATTERY_PERCENT: items.number("battery_percent", _percent),
    jt709.BATTERY_VOLTS: items.number("battery_volts", lambda at: formatting.unit(at.battery_volts, "V")),
    jt709.ODOMETER: items.number("odometer_km", lambda at: formatting.unit(at.odometer_km, "km")),
    jt709.FENCE: items.number("fence_id", lambda at: f"fence {at.fence_id}"),
    jt709.NETWORK: items.number(
        "network_generation", lambda at: formatting.generation(at.network_generation)
    ),
    jt709.PROTOCOL_VERSION: items.number("protocol_version", lambda at: f"version {at.protocol_version}"),
    jt709.CELL: _cell,
    jt709.ROPE_STATUS: _rope_status,
    jt709.REPORTS_SENT: items.number(
        "reports_sent", lambda at: formatting.count(extend(at).reports_sent or 0, "report")
    ),
    jt709.TEMPERATURE_SIGNED: items.number("temperature_c", _temperature),
    jt709.TEMPERATURE_OFFSET: items.number("temperature_c", _temperature),
    jt709x.BATTERY: _battery,
    jt709x.EVENT_TIME: _event_time,
    jt709x.EVENT_DETAIL: _detail,
    jt709x.ILLUMINANCE: items.number("illuminance", lambda at: "in a unit that no document names"),
    jt709x.ACCELERATION: _acceleration,
    jt709x.HARDWARE: _text_item("hardware_version", "hardware version"),
    jt709x.IMEI: _text_item("imei", "IMEI of the unit"),
}
