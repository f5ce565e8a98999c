"""The published events: one attrs class per kind (docs/redis.rst, "Events").

The fields of the classes are the keys in the JSON. None means that the lock didn't send the value; a field
that is `UNSET` is left out. Instances are never changed; they are `define`d, not frozen, since a frozen one
costs several times as much to make. They have no slots, because msgspec writes the fields of a slotted class
in alphabetical order, and people read these events.
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from attrs import define, field
from msgspec import UNSET, Meta, UnsetType
from msgspec.json import Encoder

from jt709c_gateway.protocol.json_text import escape_bytes

Time = Annotated[datetime, Meta(tz=True)]
Fix = Literal["gnss", "lbs", "none"]
LockState = Literal["locked", "unlocked"]
Method = Literal["password", "dynamic_password", "card", "bluetooth", "lora", "automatic", "unknown"]
Action = Literal["unlocked", "refused", "locked", "unknown"]
#: The model of a sub-lock or sensor, or the number of an undocumented one.
PeripheralType = Literal["jt126", "jt709", "jt802"] | int

KIND_LOCATION: Final = "location"
KIND_LOCK: Final = "lock"
KIND_ALARM: Final = "alarm"
KIND_HEARTBEAT: Final = "heartbeat"
KIND_REPLY: Final = "reply"
KIND_PASSWORD: Final = "password"
KIND_PERIPHERAL: Final = "peripheral"
KIND_SESSION: Final = "session"
KIND_COMMAND: Final = "command"
KIND_REGISTRATION: Final = "registration"
KIND_ATTRIBUTES: Final = "attributes"
KIND_TIME_REQUEST: Final = "time_request"
KIND_UNKNOWN: Final = "unknown"
#: All kinds, in the order of docs/redis.rst.
KINDS: Final = (
    KIND_LOCATION,
    KIND_LOCK,
    KIND_ALARM,
    KIND_HEARTBEAT,
    KIND_REPLY,
    KIND_PASSWORD,
    KIND_PERIPHERAL,
    KIND_SESSION,
    KIND_COMMAND,
    KIND_REGISTRATION,
    KIND_ATTRIBUTES,
    KIND_TIME_REQUEST,
    KIND_UNKNOWN,
)


@define(slots=False)
class Cell:
    """The mobile cell of a lock: country, network, cell and location area codes."""

    mcc: int | None
    mnc: int | None
    cell_id: int
    lac: int


@define(slots=False)
class LockEvent:
    """A lock was opened or closed, or an attempt failed. Degrees; `fence_id` 1-99 is the place; `code` as
    sent.

    `value` has, as hex, the bytes after a code that has none by any document, `detail` the value of item
    0x32. `peripheral` is the sub-lock, if it was one behind the device. `imei` and `cell` come with a P45 of
    a master that is configured to send them.
    """

    time: Time | None
    code: int
    method: Method
    action: Action
    card: str | None
    fence_id: int | None
    result: int | None
    latitude: float | None
    longitude: float | None
    command_id: str | None = None
    value: str | UnsetType = UNSET
    peripheral: str | UnsetType = UNSET
    imei: str | UnsetType = UNSET
    cell: Cell | UnsetType = UNSET
    detail: str | UnsetType = UNSET


@define(slots=False)
class Battery:
    """Item 0x33 of a JT709X. Volts, degrees Celsius, percent, mAh; `current_ua` probably in microamperes."""

    state: int
    volts: float
    current_ua: int
    temperature_c: float | None
    percent: int | None
    health_percent: int | None
    cycles: int
    capacity_mah: int


@define(slots=False)
class RopeStatus:
    """Item 0xDA of a JT707: rope cuts so far, and its own status bits."""

    rope_cuts: int
    locked: bool
    moving: bool
    sim: bool
    wake_source: int


@define(slots=False)
class Location:
    """One position report with all values that a lock sends in it (docs/redis.rst, "Events").

    Degrees, metres, km/h, percent, volts, kilometres, degrees Celsius. `items` has unknown items, as hex
    under the item's id in hex. Values of sister models are in `ExtendedLocation`: up to 30 attributes the
    interpreter needs no dictionary for each instance, which halves the cost of one. The order of the first
    seven attributes matters to `commit_state.lua`, see `Event`.
    """

    time: Time | None
    fix: Fix
    latitude: float | None
    longitude: float | None
    altitude_m: int | None
    speed_kmh: float | None
    course_deg: int | None
    satellites: int | None
    gsm_signal: int | None
    battery_percent: int | None
    battery_volts: float | None
    charging: bool | None
    odometer_km: int | None
    lock_state: LockState | None
    rope_open: bool | None
    motor_open: bool | None
    back_cover_open: bool | None
    fence_id: int | None
    wake_source: int | None
    wake_reason: str | None
    network_generation: int | None
    protocol_version: int | None
    cell: Cell | None
    alarms: tuple[str, ...]
    alarm_bits: int | None
    status_bits: int | None
    lock_event: LockEvent | None
    items: dict[str, str]


@define(slots=False)
class ExtendedLocation(Location):
    """A position report with additional values of sister models (JT709X, JT707, JT705, JT701).

    Degrees Celsius; `tilt`, `illuminance` and `acceleration` are as sent, in undocumented units.
    `external_power` is set when a unit sends that in place of a percentage.
    """

    temperature_c: float | UnsetType = UNSET
    reports_sent: int | UnsetType = UNSET
    rope: RopeStatus | UnsetType = UNSET
    tilt: tuple[int, int, int] | UnsetType = UNSET
    vehicle_id: int | UnsetType = UNSET
    battery: Battery | UnsetType = UNSET
    external_power: bool | UnsetType = UNSET
    illuminance: int | UnsetType = UNSET
    acceleration: tuple[int, int, int] | UnsetType = UNSET
    hardware_version: str | UnsetType = UNSET


def extend(location: Location) -> ExtendedLocation:
    """Return the same position as an ExtendedLocation."""
    return location if isinstance(location, ExtendedLocation) else ExtendedLocation(**vars(location))


@define(slots=False)
class Peripheral:
    """A report of a sub-lock or a sensor through its master, which is the device (docs/protocol.rst §3).

    Percent, volts, dBm, degrees, km/h, degrees Celsius. Position, movement and `master_time` are the
    master's. `resent`, `contact_lost` and `low_voltage` are the master's view of the radio link. A lock adds
    the fields that begin with `event`: the bits, and by name the `alarms` among them and the other `reasons`
    of the report. A sensor adds temperature, humidity, and the number of records that it still has to send.
    `value` is the rest, as hex. Values that older firmware doesn't send are None.
    """

    peripheral: str
    peripheral_type: PeripheralType
    time: Time | None
    serial: int
    battery_percent: int | None
    battery_volts: float
    rssi_dbm: int
    master_time: Time | None
    fix: Fix
    latitude: float | None
    longitude: float | None
    speed_kmh: float
    course_deg: int | None
    resent: bool | UnsetType = UNSET
    contact_lost: bool | UnsetType = UNSET
    low_voltage: bool | UnsetType = UNSET
    event: int | UnsetType = UNSET
    alarms: tuple[str, ...] | UnsetType = UNSET
    reasons: tuple[str, ...] | UnsetType = UNSET
    lock_state: LockState | UnsetType = UNSET
    rope_open: bool | UnsetType = UNSET
    motor_open: bool | UnsetType = UNSET
    back_cover_open: bool | UnsetType | None = UNSET
    charging: bool | UnsetType | None = UNSET
    lock_cycles: int | UnsetType = UNSET
    status_bits: int | UnsetType = UNSET
    card: str | UnsetType | None = UNSET
    temperature_c: float | UnsetType | None = UNSET
    humidity_percent: int | UnsetType | None = UNSET
    records_waiting: int | UnsetType = UNSET
    value: str | UnsetType = UNSET


@define(slots=False)
class Alarm:
    """An alarm began (`active`) or ended, compared with the last known state of the lock.

    `peripheral` is the sub-lock that reported it; sub-locks report an alarm once and never its end.
    """

    time: Time | None
    name: str
    active: bool
    latitude: float | None
    longitude: float | None
    peripheral: str | UnsetType = UNSET


@define(slots=False)
class Heartbeat:
    """A heartbeat; the values are None for an empty one."""

    battery_percent: int | None = None
    gsm_signal: int | None = None
    status_bits: int | None = None


@define(slots=False)
class Reply:
    """A lock's answer or sentence that belongs to no other kind.

    `word` is the sentence's word (`BASE`, `P43`) or the message id in hex (`0001`); `arguments` is the rest,
    as text. A binary answer names the answered message: `answered_serial`, `answered_id` (hex), `result` (0
    done, 1 failed, 2 wrong, 3 unsupported). `parameters` maps ids to values, both hex (0x0104).

    The other fields are decoded from the arguments: percent of the battery (P01), reports queued in the lock
    (P98), cards registered at the lock (P42), whether it has set its clock (P22), ids of bound sub-locks
    (WLNET,1).
    """

    word: str
    arguments: tuple[str, ...]
    command_id: str | None = None
    answered_serial: int | UnsetType = UNSET
    answered_id: str | UnsetType = UNSET
    result: int | UnsetType = UNSET
    parameters: dict[str, str] | UnsetType = UNSET
    battery_percent: int | UnsetType = UNSET
    records_waiting: int | UnsetType = UNSET
    cards: tuple[str, ...] | UnsetType = UNSET
    time_taken: bool | UnsetType = UNSET
    peripherals: tuple[str, ...] | UnsetType = UNSET


@define(slots=False)
class Password:
    """The lock reported a dynamic password, which is never part of an event."""

    time: Time | None = None


@define(slots=False)
class Session:
    """A session changed: `online`, `offline` or `replaced`; `duration_s` is that of the ended session."""

    state: Literal["online", "offline", "replaced"]
    reason: str
    duration_s: float | None


@define(slots=False)
class Registration:
    """0x0100, 0x0102 or 0x0003: `step` is `registration`, `authentication` or `logout`; the body as hex."""

    step: Literal["registration", "authentication", "logout"]
    body: str


@define(slots=False)
class Attributes:
    """0x0107: the terminal attributes of the unit."""

    terminal_type: int
    maker: str
    model: str
    terminal_id: str
    iccid: str
    hardware: str | None
    firmware: str | None


@define(slots=False)
class TimeRequest:
    """The lock requests the time (UTC)."""


@define(slots=False)
class Unknown:
    """An intact frame that this gateway can't decode (see `raw`): its message id in hex, and the reason."""

    message_id: str | None
    reason: str


EventData = (
    Location
    | LockEvent
    | Alarm
    | Heartbeat
    | Reply
    | Password
    | Peripheral
    | Session
    | Registration
    | Attributes
    | TimeRequest
    | Unknown
    | dict[str, Any]
)


@define(slots=False)
class Event:
    """The envelope of every event; `data` is one of the classes above.

    `clock_skew_s` is how far the lock's clock, which all times in `data` are from, is ahead of ours.

    `commit_state.lua` cuts fields out of this JSON by patterns: keep the order of the attributes, here and in
    `Location`. Handing it the same values beside the JSON would cost the gateway 1 µs for each position, a
    twentieth of all that it does for a report, and save the server as much.
    """

    v: int
    id: str | None
    kind: str
    device: str
    imei: str | None
    dialect: str | None
    serial: int | None
    stored: bool
    received_at: Time | None
    clock_skew_s: int | None
    gateway: str | None
    transport: str | None
    peer: str | None
    raw: str | None = field(repr=False)
    raw_masked: bool | UnsetType
    data: EventData


_encoder: Final = Encoder()
#: Reused buffer for `to_json`, which would otherwise allocate one for each event.
_buffer: Final = bytearray(4096)


def to_json(value: Any) -> bytes:
    """Encode an attrs object as JSON. Times become RFC 3339 text ending in Z; escape control characters."""
    data = _encoder.encode(value)
    # As `escape_bytes` begins: nearly every event passes here.
    return data if data.isascii() and 0x7F not in data else escape_bytes(data)


def time_text(time: datetime) -> str:
    """Format a time in UTC as in events, but always with microseconds."""
    return _encoder.encode(time)[1:-2].decode() + ("Z" if time.microsecond else ".000000Z")


def to_text(value: Any) -> str:
    """Encode an attrs object as JSON text."""
    _encoder.encode_into(value, _buffer)
    text = _buffer.decode()
    # As in `to_json`.
    if text.isascii() and "\x7f" not in text:
        return text
    return escape_bytes(bytes(_buffer)).decode()
