"""The payload of a sub-lock's or sensor's report, without its escapes (docs/protocol.rst §3)."""

from typing import Final

from msgspec import UNSET

from jt709c_gateway.dissector import formatting
from jt709c_gateway.dissector import position as place
from jt709c_gateway.dissector.fields import Bits
from jt709c_gateway.dissector.reader import Reader
from jt709c_gateway.protocol import packed_position, sublock
from jt709c_gateway.protocol.events import Peripheral
from jt709c_gateway.protocol.sublock_end import SUBLOCK_LENGTHS

_STATUS: Final = formatting.by_bit(
    {
        sublock.STATUS_ROPE: "rope_open",
        sublock.STATUS_MOTOR: "motor_open",
        sublock.STATUS_COVER: "back_cover_open",
        sublock.STATUS_CHARGING: "charging",
    }
)
_GATEWAY: Final = formatting.by_bit(
    {
        sublock.GATEWAY_RESENT: "resent",
        sublock.GATEWAY_CONTACT_LOST: "contact_lost",
        sublock.GATEWAY_LOW_VOLTAGE: "low_voltage",
    }
)
_LINK: Final = formatting.by_bit({sublock.SIGNAL_LOST: "signal_lost", sublock.RESENT: "resent"})


def read(reader: Reader) -> None:
    """Read a whole payload."""
    payload = reader.peek()
    if not packed_position.looks_sound(
        payload.ljust(packed_position.LENGTH, b"\x00")[: packed_position.LENGTH]
    ):
        reader.rest("payload", problem="expected the place of the master, in decimal digits, found others")
        return
    known, _ = sublock.decode(payload.ljust(sublock.COMMON_LENGTH, b"\x00"))
    place.read(reader, prefix="master_")
    reader.take(6, "time", reader.peek(6).hex(), formatting.moment(known.time))
    reader.take(5, "peripheral", known.peripheral, f"sub-lock or sensor {known.peripheral}")
    reader.number(1, "serial", f"serial {known.serial}")
    reader.number(2, "battery_volts", formatting.unit(known.battery_volts, "V"))
    reader.number(1, "battery_percent", formatting.unit(known.battery_percent, "%"))
    reader.number(1, "rssi_dbm", formatting.unit(known.rssi_dbm, "dBm"))
    kind = (reader.peek(1) or b"\x00")[0]
    name = str(sublock.TYPES.get(kind, "not known"))
    reader.number(1, "peripheral_type", name, problem=_length_problem(kind, len(payload)))
    if kind in sublock.EVENTS:
        _lock(reader, known, sublock.EVENTS[kind])
    elif kind == sublock.SENSOR_JT126:
        _sensor(reader, known)
    reader.rest("value", "not understood")


def _length_problem(kind: int, found: int) -> str | None:
    """Return why a payload is too short for the gateway; None if it is long enough."""
    lengths = SUBLOCK_LENGTHS.get(kind, ())
    if not lengths or found in lengths or found > lengths[-1]:
        return None
    return f"expected a payload of {' or '.join(map(str, lengths))} bytes, found {found}"


def _lock(reader: Reader, known: Peripheral, names: sublock.EventBits) -> None:
    if known.event is UNSET:
        return
    event = int.from_bytes(reader.peek(2), "big")
    bits = [Bits(bit, bit, _event(bit, names), 1) for bit in sublock.set_bits(event)]
    reader.number(2, "event", formatting.listed(each.name for each in bits), bits=bits)
    status = known.status_bits or 0
    said = [known.lock_state or "", *(["back cover open"] if known.back_cover_open else [])]
    said += ["charging"] if known.charging else []
    reader.number(2, "status_bits", ", ".join(said), bits=formatting.set_bits(status, _STATUS))
    reader.number(2, "lock_cycles", formatting.count(known.lock_cycles or 0, "cycle"))
    _gateway(reader)
    if known.card is not UNSET:
        reader.number(4, "card", f"card {known.card}" if known.card else "none")


def _event(bit: int, names: sublock.EventBits) -> str:
    return _LINK[bit] if names.link >> bit & 1 else names.name(bit)


def _sensor(reader: Reader, known: Peripheral) -> None:
    if known.humidity_percent is UNSET:
        return
    reader.number(2, "temperature_c", formatting.unit(known.temperature_c, "°C"))
    reader.number(1, "humidity_percent", formatting.unit(known.humidity_percent, "%"))
    waiting = int.from_bytes(reader.peek(2), "big")
    reader.number(2, "records_waiting", formatting.count(waiting, "record"))
    _gateway(reader)


def _gateway(reader: Reader) -> None:
    bits = formatting.set_bits(reader.peek(1)[0], _GATEWAY)
    reader.number(1, "gateway", formatting.listed(each.name for each in bits), bits=bits)
