"""The body of 0x5501 and 0x5502 (docs/protocol.rst §1.2)."""

from functools import partial
from typing import Final

from jt709c_gateway.dissector import formatting, items, position
from jt709c_gateway.dissector.reader import Reader
from jt709c_gateway.protocol import jt705, lock_event_item
from jt709c_gateway.protocol.alarms import JT705_ALARMS
from jt709c_gateway.protocol.events import Location, extend

_PRODUCTS: Final = {1: "tracker", 2: "tracker", jt705.PRODUCT_LOCK: "lock"}
_STATUS: Final = formatting.by_bit(
    {
        jt705.STATUS_BATTERY_LOW: "low_battery",
        jt705.STATUS_COVER: "back_cover_open",
        jt705.STATUS_MOTOR: "motor_open",
        jt705.STATUS_UNLOCK_BUTTON: "unlock_button",
        jt705.STATUS_BLUETOOTH: "bluetooth_connected",
    }
)


def read(reader: Reader) -> None:
    """Read a whole body."""
    head = reader.peek(jt705.FIXED_LENGTH).ljust(jt705.FIXED_LENGTH, b"\x00")
    location, _ = jt705.decode(head)
    product = head[30]
    names = _STATUS if product == jt705.PRODUCT_LOCK else {}
    position.read(reader)
    reader.number(1, "gsm_signal", f"signal {location.gsm_signal}")
    reader.number(1, "satellites", formatting.satellites(location.satellites))
    reader.number(4, "odometer_km", formatting.unit(location.odometer_km, "km"))
    reader.number(1, "battery_percent", formatting.battery(location.battery_percent, location.charging))
    reader.number(4, "cell_id")
    reader.number(2, "lac")
    reader.number(1, "product", formatting.named(product, _PRODUCTS))
    reader.number(
        2,
        "status_bits",
        location.lock_state or "",
        bits=formatting.set_bits(location.status_bits or 0, names),
    )
    reader.number(
        2, "alarm_bits", formatting.listed(location.alarms),
        bits=formatting.set_bits(location.alarm_bits or 0, JT705_ALARMS.get(product, {})),
    )  # fmt: skip
    items.walk(reader, partial(_decode, head), _ITEMS)


def _decode(head: bytes, item: bytes) -> Location:
    return jt705.decode(head + item)[0]


def _network_codes(reader: Reader, location: Location) -> None:
    reader.describe("cell", formatting.cell(location.cell))
    reader.number(2, "mcc")
    reader.number(reader.left, "mnc")


def _tilt(reader: Reader, location: Location) -> None:
    reader.describe("tilt", ", ".join(map(str, extend(location).tilt or ())))
    for axis in "xyz":
        reader.number(2, f"tilt_{axis}", signed=True)


def _altitude(location: Location) -> str:
    return formatting.unit(location.altitude_m, "m")


_ITEMS: Final = {
    lock_event_item.ITEM: items.lock_event,
    jt705.ALTITUDE: items.number("altitude_m", _altitude, signed=True),
    jt705.NETWORK_CODES: _network_codes,
    jt705.TILT: _tilt,
    jt705.WAKE_SOURCE: items.number(
        "wake_source", lambda at: formatting.wake(at.wake_source, at.wake_reason)
    ),
    jt705.NETWORK: items.number(
        "network_generation", lambda at: formatting.generation(at.network_generation)
    ),
    jt705.FENCE: items.number("fence_id", lambda at: f"fence {at.fence_id}"),
}
