"""`$` frames of masters (docs/protocol.rst §2.3)."""

from typing import Final

from jt709c_gateway.dissector import formatting, position
from jt709c_gateway.dissector import secrets as hiding
from jt709c_gateway.dissector.fields import Bits, Field, problems
from jt709c_gateway.dissector.header_fields import UP, Heading
from jt709c_gateway.dissector.reader import Ended, Reader, Wire
from jt709c_gateway.protocol import jt701
from jt709c_gateway.protocol.alarms import JT701_ALARMS
from jt709c_gateway.protocol.bcd import two_digits
from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.protocol.dialects import JT701
from jt709c_gateway.protocol.dollar_check import MAX_DOLLAR
from jt709c_gateway.protocol.events import Location

_TYPES: Final = {1: "live", 2: "alarm", jt701.STORED: "stored", jt701.SECOND_NEWEST: "second newest"}
_STATUS: Final = JT701_ALARMS | formatting.by_bit(
    {
        jt701.STATUS_BASE_STATION: "base_station",
        jt701.STATUS_ANSWER_WANTED: "answer_wanted",
        jt701.STATUS_ROPE_INSERTED: "rope_inserted",
        jt701.STATUS_MOTOR_LOCKED: "motor_locked",
        jt701.STATUS_COVER_CLOSED: "back_cover_closed",
    }
)
#: Charging state; the covers are those of a JT701E.
_EXTENDED: Final = {
    0: "charging",
    2: "upper_cover_alarm",
    3: "upper_cover_closed",
    4: "lower_cover_alarm",
    5: "lower_cover_closed",
}


def read(raw: bytes, secrets: bool, run_hidden: frozenset[int]) -> tuple[Heading, list[Field]]:
    """Dissect bytes that begin with `$`; `run_hidden` is always hidden."""
    length = int.from_bytes(raw[8:10], "big")
    found = len(raw) - jt701.HEADER_LENGTH
    hidden = hiding.in_dollar(raw) if found == length else hiding.in_run(raw)
    reader = Reader(Wire.plain(raw, secrets, hidden | run_hidden), 0, len(raw))
    heading = Heading(JT701, "master's report", UP)
    try:
        with reader.group("header") as header:
            _header(header, heading, length, found)
        with reader.group("data", size=min(length, found)) as data:
            _data(data, raw[: jt701.HEADER_LENGTH + length], short=found < length)
    except Ended as ended:
        if not any(problems(reader.fields)):
            reader.fields[-1].problem = str(ended)
    reader.nothing_more()
    return heading, reader.fields


def _header(reader: Reader, heading: Heading, length: int, found: int) -> None:
    reader.take(1, "start", "$", "start of the frame")
    digits = reader.peek(5).hex()
    odd = None if digits.isdecimal() else f"expected decimal digits, found {digits}"
    device = canonical(digits)
    taken = reader.take(5, "device", digits, "" if odd else f"device {device}", problem=odd)
    heading.device = None if odd or taken.value is None else device
    reader.number(1, "protocol_version", _version)
    types = (reader.peek(1) or b"\x00")[0]
    kind = _TYPES.get(types & 0x0F, "not known")
    bits = [
        Bits(4, 7, "device_type", types >> 4),
        Bits(0, 3, "data_type", types & 0x0F, kind),
    ]
    reader.take(1, "types", f"{types:02x}", f"{kind} report", bits=bits)
    heading.title = f"master's report, {kind}"
    problem = (
        f"expected {formatting.count(length, 'byte')} of data, found {found}" if found < length else None
    )
    if not 1 <= length <= MAX_DOLLAR:
        problem = f"expected 1 to {MAX_DOLLAR} bytes of data, found a length of {length}"
    reader.number(2, "length", formatting.count(length, "byte"), problem=problem)


def _version(byte: int) -> str:
    digits = two_digits(byte)
    return "not two decimal digits" if digits is None else f"version {digits}"


def _data(reader: Reader, raw: bytes, short: bool) -> None:
    """Read records, each followed by a serial, or one serial after all; indivisible bytes are one record."""
    data = raw[jt701.HEADER_LENGTH :]
    records = [] if short else list(jt701.divide(data))
    locations = [record.location for record in jt701.decode(raw)] if records else []
    each = sum(len(record) + 1 for record, _ in records) == len(data)
    for (record, serial), location in zip(records, locations, strict=True):
        with reader.group("record", size=len(record) + each) as inner:
            _record(inner, location, len(record))
            if each:
                inner.number(1, "serial", f"serial {serial}")
    if records and not each:
        reader.number(1, "serial", "serial of all records")
    if not records:
        _broken(reader, raw, short)


def _broken(reader: Reader, raw: bytes, short: bool) -> None:
    """Read bytes that the gateway can't divide into records."""
    data = raw[jt701.HEADER_LENGTH :]
    padded = raw[: jt701.HEADER_LENGTH] + data[: jt701.SIZES[0]].ljust(jt701.SIZES[0] + 1, b"\x00")
    records = jt701.decode(padded)
    sizes = ", ".join(str(size + 1) for size in reversed(jt701.SIZES))
    problem = (
        None if short else f"expected records of {sizes} bytes, found {formatting.count(len(data), 'byte')}"
    )
    if not records:
        what = "expected decimal digits of time and place, found others"
        reader.rest("data", problem=what if short else problem)
        return
    _record(reader, records[0].location, jt701.SIZES[0])
    reader.rest("left_over", problem=problem)


def _record(reader: Reader, location: Location, size: int) -> None:
    """Read the known fields that end within `size` bytes, and the rest as unknown."""
    end = reader.position + size
    position.read(reader)
    reader.number(4, "odometer_km", formatting.unit(location.odometer_km, "km"))
    reader.number(1, "satellites", formatting.satellites(location.satellites))
    reader.number(4, "vehicle_id")
    bits = formatting.set_bits(location.status_bits or 0, _STATUS)
    reader.number(2, "status_bits", _status(location), bits=bits)
    reader.number(1, "battery_percent", formatting.battery(location.battery_percent, location.charging))
    if size >= jt701.SIGNAL_END:
        reader.number(2, "cell_id_low", formatting.cell(location.cell))
        reader.number(2, "lac")
        signal = location.gsm_signal
        reader.number(1, "gsm_signal", "none" if signal is None else f"signal {signal}")
    if size >= jt701.FENCE_END:
        reader.number(1, "fence_id", f"fence {location.fence_id}" if location.fence_id else "none")
    if size >= jt701.EXTENDED_END:
        reader.number(1, "wake_source", formatting.wake(location.wake_source, location.wake_reason))
        reader.number(1, "mnc_high", lambda high: "absent" if high == jt701.ABSENT else "")
        _extended(reader)
    if size >= jt701.FULL_END:
        digits = jt701.read_imei(reader.peek(8))
        reader.take(8, "imei", digits, "absent" if digits is None else "IMEI of the unit")
        reader.number(2, "cell_id_high", formatting.cell(location.cell))
        reader.number(2, "mcc")
        reader.number(1, "mnc_low")
    if reader.position < end:
        reader.take(end - reader.position, "value", meaning="not understood")


def _extended(reader: Reader) -> None:
    status = (reader.peek(1) or b"\x00")[0]
    if status == jt701.ABSENT:
        reader.number(1, "extended_status", "absent")
        return
    bits = formatting.set_bits(status, _EXTENDED)
    reader.number(1, "extended_status", formatting.listed(each.name for each in bits), bits=bits)


def _status(location: Location) -> str:
    alarms = formatting.listed(location.alarms)
    said = [location.lock_state or "", f"fix {location.fix}", f"alarms: {alarms}"]
    return ", ".join(said + (["back cover open"] if location.back_cover_open else []))
