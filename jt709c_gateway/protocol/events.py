"""What the gateway tells other services: one attrs class per kind of event (DESIGN.md §3).

The names of classes' fields are the names in the JSON. None means that the lock didn't say; a field that is
`UNSET` is left out. Instances are written once and never changed; they are `define`d, not frozen, since a
frozen one costs several times as much to make. They have no slots, because msgspec writes a slotted class's
fields in alphabetical order, and people read these events.
"""

from datetime import datetime
from typing import Any, Final, Literal

from attrs import define, field
from msgspec import UNSET, UnsetType
from msgspec.json import Encoder

from jt709c_gateway.protocol.json_text import escape_bytes

Fix = Literal["gnss", "lbs", "none"]
LockState = Literal["locked", "unlocked"]
Method = Literal["password", "dynamic_password", "card", "bluetooth", "lora", "automatic", "unknown"]
Action = Literal["unlocked", "refused", "locked", "unknown"]
#: A sub-lock or sensor by its model, or the number of one that no document names.
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
#: Every kind, in the order of DESIGN.md §3.
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
    """The mobile cell a lock hears: country, network, cell and location area codes."""

    mcc: int | None
    mnc: int | None
    cell_id: int
    lac: int


@define(slots=False)
class LockEvent:
    """Somebody opened, closed or tried a lock. Degrees; `fence_id` 1-99 where it happened; `code` as sent.

    `value` holds, as hex, the bytes behind a code that has none by any document, `detail` what item 0x32 says
    of the event. `peripheral` is the sub-lock, when it was one behind the device. `imei` and `cell` come with
    a P45 of a master that was told to send them.
    """

    time: datetime | None
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
    """Item 0x33 of a JT709X. Volts, degrees Celsius, percent, mAh; `current_ua` perhaps in microamperes."""

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
    """One position report and everything a lock says with it (DESIGN.md §3).

    Degrees, metres, km/h, percent, volts, kilometres, degrees Celsius. `items` keeps what is not understood,
    as hex under the item's id in hex. What only sister models send is in `ExtendedLocation`: up to 30
    attributes the interpreter keeps without a dictionary for each instance, which halves what one costs.
    """

    time: datetime | None
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
    """A position report with what sister models say besides (JT709X, JT707, JT705, JT701).

    Degrees Celsius; `tilt`, `illuminance` and `acceleration` are as sent, in units that no document names.
    `external_power` says so where a unit gives that in the place of a percentage.
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
    """The same position with room for what sister models say."""
    return location if isinstance(location, ExtendedLocation) else ExtendedLocation(**vars(location))


@define(slots=False)
class Peripheral:
    """What a sub-lock or a sensor says through its master, the device (PROTOCOL.md §3).

    Percent, volts, dBm, degrees, km/h, degrees Celsius. Place and movement, and `master_time`, are the
    master's. `resent`, `contact_lost` and `low_voltage` are what the master says of the link to it.
    A lock adds what begins with `event`: its bits, and by name the `alarms` among them and the other
    `reasons` for which it reported. A sensor adds temperature, humidity, and how many records it still has
    to send. `value` is the rest, as hex. None is what older firmware doesn't say.
    """

    peripheral: str
    peripheral_type: PeripheralType
    time: datetime | None
    serial: int
    battery_percent: int | None
    battery_volts: float
    rssi_dbm: int
    master_time: datetime | None
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
    """An alarm rose (`active`) or cleared against the last known state of the lock.

    `peripheral` is the sub-lock that reported it, which tells of each alarm once and never of its end.
    """

    time: datetime | None
    name: str
    active: bool
    latitude: float | None
    longitude: float | None
    peripheral: str | UnsetType = UNSET


@define(slots=False)
class Heartbeat:
    """A sign of life; what an empty one doesn't carry is None."""

    battery_percent: int | None = None
    gsm_signal: int | None = None
    status_bits: int | None = None


@define(slots=False)
class Reply:
    """A lock's answer or sentence that is none of the other kinds.

    `word` is the sentence's word (`BASE`, `P43`) or the message id in hex (`0001`); `arguments` what follows
    it, as text. A binary answer names what it answers: `answered_serial`, `answered_id` (hex), `result`
    (0 done, 1 failed, 2 wrong, 3 unsupported). `parameters` maps ids to values, both hex (0x0104).

    What follows is read out of the arguments: percent of the battery (P01), reports that wait to be sent
    (P98), cards registered at the lock (P42), whether it took the time (P22), ids of bound sub-locks
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
    """The lock reported a dynamic password. The password itself is never part of an event."""

    time: datetime | None = None


@define(slots=False)
class Session:
    """A lock came, went or moved: `online`, `offline` or `replaced`; `duration_s` of what ended."""

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
    """0x0107: what the unit says of itself."""

    terminal_type: int
    maker: str
    model: str
    terminal_id: str
    iccid: str
    hardware: str | None
    firmware: str | None


@define(slots=False)
class TimeRequest:
    """The lock asks what time it is (UTC)."""


@define(slots=False)
class Unknown:
    """A sound frame that this gateway can't read (`raw` has it): its message id in hex, and why."""

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
    """The envelope every event travels in; `data` is one of the classes above.

    `clock_skew_s` is how far the lock's clock, by which the times in `data` are, is ahead of ours.
    """

    v: int
    id: str | None
    kind: str
    device: str
    imei: str | None
    dialect: str | None
    serial: int | None
    stored: bool
    received_at: datetime | None
    clock_skew_s: int | None
    gateway: str | None
    transport: str | None
    peer: str | None
    raw: str | None = field(repr=False)
    raw_masked: bool | UnsetType
    data: EventData


_encoder: Final = Encoder()
#: Keeps the room that an event takes, which `to_json` would have to find for each anew.
_buffer: Final = bytearray(4096)


def to_json(value: Any) -> bytes:
    """An attrs object as JSON. Times become RFC 3339 text ending in Z, control characters are escaped."""
    data = _encoder.encode(value)
    # As `escape_bytes` begins: nearly every event passes here.
    return data if data.isascii() and 0x7F not in data else escape_bytes(data)


def time_text(time: datetime) -> str:
    """A time in UTC in the same form as in events, but always with microseconds."""
    return _encoder.encode(time)[1:-2].decode() + ("Z" if time.microsecond else ".000000Z")


def to_text(value: Any) -> str:
    """The same as text."""
    _encoder.encode_into(value, _buffer)
    text = _buffer.decode()
    # As in `to_json`.
    if text.isascii() and "\x7f" not in text:
        return text
    return escape_bytes(bytes(_buffer)).decode()
