"""`$` frames of JT701 and JT701D masters (docs/protocol.rst §2.3), decoded and encoded.

::

    24 | device id BCD[5] | protocol version u8 | device type, data type: a nibble each | length u16 | data

A record in the data; those of older units end after the battery, the signal, the fence id or the extended
status, and the serial u8 comes last in each::

    0  position, 17 bytes (packed_position.py) | 17 mileage u32 (km) | 21 satellites u8 | 22 vehicle id u32
    26 status u16 | 28 battery u8 (%, FF while charging)
    29 cell id u16, its low half | 31 LAC u16 | 33 mobile signal u8 (99 = none)
    34 fence id u8 | 35 wake-up source u8 (low nibble) | 36 MNC u8, its high half (0F = absent)
    37 extended status u8 (0F = absent) | 38 IMEI[8] (0F each = absent) | 46 cell id u16, its high half
    48 MCC u16
    50 MNC u8, its low half

Battery FF is from boards before PCB 2.7.1; later ones send a percentage, and the extended status says whether
the unit is being charged. A unit whose clock was never set sends the date 010100 or 000000.

In the status 1 means locked, inserted, closed; the events say `open` where a bit is 0, as for every dialect.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from struct import Struct
from typing import Final

from attrs import define

from jt709c_gateway.protocol import packed_position
from jt709c_gateway.protocol.alarms import JT701_ALARM_BITS, JT701_WAKE_REASONS, jt701_alarms
from jt709c_gateway.protocol.bcd import two_digits
from jt709c_gateway.protocol.device_id import master_digits
from jt709c_gateway.protocol.events import Cell, ExtendedLocation, Fix, Location

HEADER_LENGTH: Final = 10
_HEADER = Struct(">c5sBBH")
_RECORD = Struct(">17sIBIHBHHBBBBB8sHHB")
_BATTERY_END: Final = 29
SIGNAL_END: Final = 34
FENCE_END: Final = 35
EXTENDED_END: Final = 38
FULL_END: Final = _RECORD.size
#: Bytes that a record may have before its serial, longest first.
SIZES: Final = (FULL_END, EXTENDED_END, FENCE_END, SIGNAL_END, _BATTERY_END)
SHORTEST: Final = _BATTERY_END + 1
#: Less data than this is one record, whether its length is known or not.
TWO_RECORDS: Final = 2 * _BATTERY_END + 1
#: A single record may be slightly longer than the known ones; more can't be decoded.
LONGEST: Final = 64

STATUS_BASE_STATION: Final = 1 << 0
STATUS_ANSWER_WANTED: Final = 1 << 5
STATUS_ROPE_INSERTED: Final = 1 << 6
STATUS_MOTOR_LOCKED: Final = 1 << 7
STATUS_COVER_CLOSED: Final = 1 << 13

EXTENDED_CHARGING: Final = 1 << 0

STORED: Final = 3
#: Positions of the last seconds, newest first: they are live, not stored.
SECOND_NEWEST: Final = 4
#: From this protocol version on (JT701D) a report is answered by its serial, earlier ones by `(P35)`.
VERSION_JT701D: Final = 0x19
_DEVICE_TYPE: Final = 1
_CHARGING: Final = 0xFF
_FULL: Final = 100
_NO_SIGNAL: Final = 99
ABSENT: Final = 0x0F
_IMEI_DIGITS: Final = 15


@define
class Record:
    """One position of a frame, its serial, whether the lock expects an answer, and its IMEI."""

    location: Location
    serial: int
    answer_wanted: bool
    imei: str | None


@define
class Head:
    """The header of a frame; `device` has ten digits."""

    device: str
    version: int
    data_type: int


def parse_head(raw: bytes) -> Head:
    """Decode the header of a whole frame."""
    _, device, version, types, _ = _HEADER.unpack_from(raw)
    return Head(device.hex(), version, types & 0x0F)


def decode(raw: bytes) -> list[Record]:
    """Decode the records of a whole frame, in order; empty when the data can't be divided into records."""
    version = two_digits(raw[6])
    return [_record(data, serial, version) for data, serial in divide(raw[HEADER_LENGTH:])]


def answers(raw: bytes, records: Sequence[Record]) -> bytes | None:
    """Return one answer for each record that expects one: `(P69,0,serial)`; for older units `(P35)` for all.

    An unreadable record has its status and its serial at the usual places.
    """
    serials = [record.serial for record in records if record.answer_wanted]
    data = raw[HEADER_LENGTH:]
    if not records and len(data) >= SHORTEST and data[27] & STATUS_ANSWER_WANTED:
        serials = [data[-1]]
    if not serials:
        return None
    if raw[6] < VERSION_JT701D:
        return b"(P35)"
    return b"".join(b"(P69,0,%d)" % serial for serial in dict.fromkeys(serials))


def divide(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Divide the data of a frame into records and their serials; empty when that is impossible.

    Each record is followed by its serial, or the last serial counts for all.
    """
    for size in SIZES if len(data) >= TWO_RECORDS else ():
        if len(data) % (size + 1) == 0 and _all_sound(data, size + 1):
            yield from ((data[at : at + size], data[at + size]) for at in range(0, len(data), size + 1))
            return
        if len(data) % size == 1 and _all_sound(data[:-1], size):
            yield from ((data[at : at + size], data[-1]) for at in range(0, len(data) - 1, size))
            return
    if SHORTEST <= len(data) <= LONGEST and packed_position.looks_sound(data):
        yield data[:-1], data[-1]


def _all_sound(data: bytes, step: int) -> bool:
    return all(packed_position.looks_sound(data, at) for at in range(0, len(data), step))


def _record(data: bytes, serial: int, version: int | None) -> Record:
    """Decode the fields that end within `data`; the other fields are None."""
    size = next(size for size in SIZES if size <= len(data))
    (
        head, mileage, satellites, vehicle, status, battery, cell_low, lac, signal,
        fence, wake, mnc_high, extended, imei, cell_high, mcc, mnc_low,
    ) = _RECORD.unpack(data[:size].ljust(FULL_END, b"\x00"))  # fmt: skip
    place = packed_position.decode(head)
    cell = None if size < SIGNAL_END else Cell(None, None, cell_low, lac)
    if size == FULL_END:
        mnc = mnc_low if mnc_high == ABSENT else mnc_high << 8 | mnc_low
        cell = Cell(mcc, mnc, cell_high << 16 | cell_low, lac)
    source = wake & 0x0F if size >= EXTENDED_END and wake != ABSENT else None
    rope, motor = not status & STATUS_ROPE_INSERTED, not status & STATUS_MOTOR_LOCKED
    fix: Fix = "gnss" if place.fix else "lbs" if status & STATUS_BASE_STATION else "none"
    if fix == "lbs" and place.latitude is None:
        fix = "none"
    charging = True if battery == _CHARGING else False if battery <= _FULL else None
    if size >= EXTENDED_END and extended != ABSENT:
        charging = charging or bool(extended & EXTENDED_CHARGING)
    location = ExtendedLocation(
        place.time,
        fix,
        place.latitude,
        place.longitude,
        None,
        place.speed_kmh,
        place.course_deg,
        satellites if satellites != packed_position.NO_SATELLITES else None,
        signal if size >= SIGNAL_END and signal != _NO_SIGNAL else None,
        battery if battery <= _FULL else None,
        None,
        charging,
        mileage,
        "unlocked" if rope or motor else "locked",
        rope,
        motor,
        not status & STATUS_COVER_CLOSED,
        fence or None,
        source,
        None if source is None else JT701_WAKE_REASONS.get(source),
        None,
        version,
        cell,
        jt701_alarms(status),
        status & JT701_ALARM_BITS,
        status,
        None,
        {},
        vehicle_id=vehicle,
    )
    wanted = bool(status & STATUS_ANSWER_WANTED)
    return Record(location, serial, wanted, read_imei(imei) if size == FULL_END else None)


def read_imei(field: bytes) -> str | None:
    """Decode the IMEI field of a record: fifteen digits and F; older firmware fills it with 0F."""
    digits = field.hex()
    if digits[_IMEI_DIGITS:] == "f" and digits[:_IMEI_DIGITS].isdecimal():
        return digits[:_IMEI_DIGITS]
    return None


def encode_record(
    *,
    time: datetime,
    latitude: float,
    longitude: float,
    fix: bool,
    speed_kmh: float,
    course_deg: int,
    odometer_km: int,
    satellites: int,
    vehicle_id: int = 0,
    status: int,
    battery: int,
    cell: Cell,
    gsm_signal: int | None,
    fence_id: int | None,
    wake_source: int | None,
    serial: int,
    extended: int = ABSENT,
    imei: str | None = None,
    length: int = FULL_END + 1,
) -> bytes:
    """Encode one record for simulated locks, the inverse of `decode`; `battery` is the byte as sent."""
    mnc = cell.mnc or 0
    fields = _RECORD.pack(
        packed_position.encode(time, latitude, longitude, fix, speed_kmh, course_deg),
        odometer_km,
        satellites,
        vehicle_id,
        status,
        battery,
        cell.cell_id & 0xFFFF,
        cell.lac,
        _NO_SIGNAL if gsm_signal is None else gsm_signal,
        fence_id or 0,
        ABSENT if wake_source is None else wake_source,
        mnc >> 8 or ABSENT,
        extended,
        bytes([ABSENT]) * 8 if imei is None else bytes.fromhex(imei + "f"),
        cell.cell_id >> 16,
        cell.mcc or 0,
        mnc & 0xFF,
    )
    return fields[: length - 1] + bytes([serial])


def encode_frame(device: str, version: int, data_type: int, records: Sequence[bytes]) -> bytes:
    """Encode a whole frame around records; `device` has up to ten digits, `version` is the byte as sent."""
    data = b"".join(records)
    types = _DEVICE_TYPE << 4 | data_type
    return _HEADER.pack(b"$", bytes.fromhex(master_digits(device)), version, types, len(data)) + data
