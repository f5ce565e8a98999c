"""The records that `commit.lua` writes, one class for each layout (docs/architecture.rst, section 7).

A record is sent as a MessagePack array of its fields in the order of its class, and the script reads them by
position: change both together. msgspec makes and packs such a record faster than a tuple of the same values.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

RedisCommand = tuple[Any, ...]
"""A Redis command with its arguments; the script executes it unchanged."""

PublishedEvent = tuple[str, ...]
"""Kind and JSON of an event; for a session that opens, also the JSON to publish if it takes over another."""


class _Layout(Struct, array_like=True, gc=False):
    """A MessagePack array."""


class OpenSession(_Layout, kw_only=True, tag="open"):
    """A device has connected or reconnected; `ttl` is in seconds."""

    token: str
    ttl: int
    #: Field, value, … of the session's hash.
    fields: Sequence[str]


class OfferSession(_Layout, kw_only=True, tag="offer"):
    """A device seems to have sent datagrams; their sender is not proven. Redis may decline the session."""

    token: str
    ttl: int
    fields: Sequence[str]
    #: Fingerprint of the report; empty when the message is no report.
    report: str


class KeepSession(_Layout, kw_only=True, tag="keep"):
    """The device was heard again."""

    token: str
    ttl: int


class AffirmSession(_Layout, kw_only=True, tag="affirm"):
    """The device is still connected, though Redis may have lost its session."""

    token: str
    ttl: int
    fields: Sequence[str]


class CloseSession(_Layout, kw_only=True, tag="close"):
    """The device has disconnected."""

    token: str


class LoseSession(_Layout, kw_only=True, tag="lost"):
    """The device was connected to a gateway that has died."""

    gateway: str
    #: Whether the gateway is certainly gone, even if its heartbeat is still in Redis.
    gone: bool
    #: Prefix of the session tokens of the gateway's present run.
    living: str


SessionChange = OpenSession | OfferSession | KeepSession | AffirmSession | CloseSession | LoseSession


class HeldCondition(_Layout, kw_only=True, tag="held"):
    """This claim still holds the command, which has not ended and, if given, was sent `attempts` times."""

    key: str
    holder: str
    token: str
    attempts: str | None = None


class RequeueCondition(_Layout, kw_only=True, tag="put_back"):
    """This claim still holds the command, and the command may return to its lock's queue."""

    key: str
    holder: str
    token: str


class EvidenceCondition(_Layout, kw_only=True, tag="evidence"):
    """The command's bytes may have been sent, and its outcome is not final."""

    key: str
    #: Fingerprint of the report that shows its effect, which must be stored; None without one.
    report: str | None = None


class AnswerCondition(_Layout, kw_only=True, tag="answer"):
    """The command's outcome is unknown, and the lock has not answered it."""

    key: str


class UnknownCondition(_Layout, kw_only=True, tag="unknown"):
    """The command has no record."""

    key: str


Condition = HeldCondition | RequeueCondition | EvidenceCondition | AnswerCondition | UnknownCondition


class LivePosition(_Layout, kw_only=True):
    """Changes of a device's state by a live location."""

    #: Index of the location among the events of the record, from 0.
    event: int
    lock_state: str | None
    battery_percent: int | None
    #: JSON array of names.
    alarms: str
    #: By the lock's clock, in epoch seconds; None when that time can't be right.
    time: float | None
    #: Seconds by which the lock's clock is certainly ahead of the gateway's.
    skew: float | None


class PeripheralState(_Layout, kw_only=True):
    """The last state of a sub-lock or sensor; `time` is in epoch seconds."""

    peripheral: str
    type: str | int
    time: float | None
    lock_state: str | None
    battery_percent: int | None


class DeviceState(_Layout, kw_only=True):
    """Changes of a device's last known state by a message; None changes nothing."""

    dialect: str | None = None
    imei: str | None = None
    firmware: str | None = None
    #: Dynamic password; empty if the lock has none any more.
    secret: str | None = None
    positions: Sequence[LivePosition] | None = None
    peripheral: PeripheralState | None = None
    #: Further fields of the device's hash: those in STATE of `commit.lua`.
    reply_state: dict[str, str] | None = None


class EventsRecord(_Layout, kw_only=True):
    """Events of one device, and what changes with them; written completely or not at all."""

    device: str
    #: Fingerprint of a report, by which a repetition is recognised.
    fingerprint: str | None = None
    #: When the device was heard: ISO 8601, and in epoch seconds.
    seen: str = ""
    seen_at: float = 0.0
    events: Sequence[PublishedEvent] = ()
    state: DeviceState | None = None
    session: SessionChange | None = None
    commands: Sequence[RedisCommand] | None = None
    #: Nothing is written unless it holds; the error is then "LATE".
    condition: Condition | None = None
    #: Token of the message's session; if the device has a newer one, nothing is written: "STALE <token>".
    token: str | None = None
    #: The fingerprint of each event, of a message with several reports.
    keys: Sequence[str] | None = None
    #: Whether a repeated report is returned as the error "KNOWN".
    must_be_new: bool = False


class PositionRecord(_Layout, kw_only=True):
    """A report with one event, a live location: a short form of `EventsRecord` for nearly all records."""

    device: str
    fingerprint: str
    seen: str
    seen_at: float
    #: JSON.
    event: str
    dialect: str | None
    imei: str | None
    #: As in `LivePosition`.
    lock_state: str | None
    battery_percent: int | None
    alarms: str
    time: float | None
    skew: float | None
    token: str | None


class MalformedRecord(_Layout, kw_only=True, tag=""):
    """Unreadable input for `jt709c:malformed`; its first value is an empty device id."""

    peer: str
    reason: str
    #: As hex, with passwords masked.
    raw: str
    #: ISO 8601.
    time: str


CommitRecord = EventsRecord | PositionRecord | MalformedRecord
