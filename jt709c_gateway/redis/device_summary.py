"""One record per device for lists of the fleet, read from the hashes of device, session and label."""

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, UnsetType

from jt709c_gateway.protocol.events import Fix, LockState
from jt709c_gateway.redis.client_protocol import Argument
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.labels import LABEL_FIELDS, Label, label_of
from jt709c_gateway.util.timestamps import Timestamp

#: Fields of `jt709c:device:<device>` and `jt709c:session:<device>`, in the order that `summarise` expects.
DEVICE_FIELDS: Final = (
    "imei",
    "dialect",
    "firmware",
    "seen",
    "lock_state",
    "battery_percent",
    "alarms",
    "location",
    "place",
)
SESSION_FIELDS: Final = ("gateway", "transport", "peer", "since")
#: Keys that are read for each device.
_KEYS: Final = 3
#: The server's error, also from within a script, for a key of the wrong type.
WRONG_TYPE: Final = "WRONGTYPE"

Transport = Literal["tcp", "udp"]

_Read = TypeVar("_Read")
#: A value for each field, from HMGET or `fleet_read.lua`; None for an absent field.
Values = Sequence[bytes | str | None]


class DeviceSummary(msgspec.Struct):
    """The summary of a device in a list of the fleet; None means unknown. The values are as Redis has them.

    Times are RFC 3339 in UTC, degrees, km/h, percent; `gsm_signal` and `fix` are as in a `location` event.
    `online` says whether the device has a session; `gateway`, `transport`, `peer` and `since` describe it.
    `lock_state` and `battery_percent` are the last known values; `fix`, `gsm_signal`, `rope_open` and
    `charging` are those of the last live location. So is the position, unless that location had none: then it
    is the last one with a fix. `position_time` is the time of the position itself. A device without
    a label has no `label`.
    """

    device: str
    imei: str | None
    dialect: str | None
    firmware: str | None
    seen: Timestamp | None
    online: bool
    gateway: str | None
    transport: Transport | None
    peer: str | None
    since: Timestamp | None
    lock_state: LockState | None
    battery_percent: int | None
    gsm_signal: int | None
    fix: Fix | None
    latitude: float | None
    longitude: float | None
    position_time: Timestamp | None
    speed_kmh: float | None
    course_deg: float | None
    alarms: list[str]
    rope_open: bool | None
    charging: bool | None
    label: Label | UnsetType = UNSET


class _Place(msgspec.Struct):
    """The fields used of a location event's data, or of the last position; other fields are ignored."""

    time: str | None = None
    seen: str | None = None
    fix: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    speed_kmh: float | None = None
    course_deg: float | None = None
    gsm_signal: int | None = None
    rope_open: bool | None = None
    charging: bool | None = None


_place = msgspec.json.Decoder(_Place)
_names = msgspec.json.Decoder(list[str])
_NOWHERE: Final = _Place()


def commands(keys: Keys, devices: Sequence[str]) -> list[tuple[Argument, ...]]:
    """Return the commands to pipeline for these devices, three for each; `summaries` reads their replies."""
    wanted: list[tuple[Argument, ...]] = []
    for device in devices:
        wanted.append(("HMGET", keys.device(device), *DEVICE_FIELDS))
        wanted.append(("HMGET", keys.session(device), *SESSION_FIELDS))
        wanted.append(("HMGET", keys.label(device), *LABEL_FIELDS))
    return wanted


def summaries(devices: Sequence[str], replies: Sequence[Any]) -> list[DeviceSummary]:
    """Return the devices from the replies to `commands`; raise an error among the replies.

    A key that is not a hash is no error: its fields are unknown. So are labels that this user may not read.
    """
    each = zip(devices, *(replies[at::_KEYS] for at in range(_KEYS)), strict=True)
    return [
        summarise(device, known(state, DEVICE_FIELDS), known(session, SESSION_FIELDS), _readable(label))
        for device, state, session, label in each
    ]


def _readable(reply: Any) -> Values:
    """Return the values of a label; none for a user whose rights are from before there were labels."""
    if isinstance(reply, Exception) and str(reply).lstrip("-").startswith("NOPERM"):
        return [None] * len(LABEL_FIELDS)
    return known(reply, LABEL_FIELDS)


def known(reply: Any, names: Sequence[Argument]) -> Values:
    """Return the values of these fields from the reply to an HMGET; raise errors except WRONGTYPE."""
    if isinstance(reply, Exception):
        if WRONG_TYPE not in str(reply):
            raise reply
        return [None] * len(names)
    values: Values = reply
    return values


def summarise(device: str, state: Values, session: Values, label: Values = ()) -> DeviceSummary:
    """Make the summary of one device from the values of `DEVICE_FIELDS`, `SESSION_FIELDS` and `LABEL_FIELDS`.

    An unreadable value counts as unknown, so that one device can't break a list of the fleet.
    """
    imei, dialect, firmware, seen, lock_state, battery, alarms, location, last_place = state
    gateway, transport, peer, since = map(_text, session)
    place = where = _decoded(_place, location, _NOWHERE)
    if place.latitude is None or place.longitude is None:
        where = _decoded(_place, last_place, place)
    return DeviceSummary(
        device=device,
        imei=_text(imei),
        dialect=_text(dialect),
        firmware=_text(firmware),
        seen=_text(seen),
        # The gateway's field alone is enough: all fields are written together, and it is never empty.
        online=gateway is not None,
        gateway=gateway,
        transport=cast(Transport | None, transport),
        peer=peer,
        since=since,
        lock_state=cast(LockState | None, _text(lock_state)),
        battery_percent=_percent(battery),
        gsm_signal=place.gsm_signal,
        fix=cast(Fix | None, place.fix),
        latitude=where.latitude,
        longitude=where.longitude,
        position_time=where.time or where.seen,
        speed_kmh=place.speed_kmh,
        course_deg=place.course_deg,
        alarms=_decoded(_names, alarms, []),
        rope_open=place.rope_open,
        charging=place.charging,
        label=label_of(label) or UNSET,
    )


def _percent(value: bytes | str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > len("100"):
        return None
    return int(value)


def _text(value: bytes | str | None) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _decoded(decoder: "msgspec.json.Decoder[_Read]", value: bytes | str | None, otherwise: _Read) -> _Read:
    if value is None:
        return otherwise
    try:
        return decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return otherwise
