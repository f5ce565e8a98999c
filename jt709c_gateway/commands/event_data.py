"""The types of the `data` of published events, one for each kind."""

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.protocol import events
from jt709c_gateway.util.timestamps import Timestamp


class CommandData(Struct):
    """The `data` of a `command` event: the public fields of the command's record (docs/commands.rst).

    Secrets in `params` are `******`. `conditions` has the fields of the command that say where, how fast and
    when it may be written, and is None without any. `assumed` says that no public document has this form of
    the command, `provenance` which document has it: the maker's documents or a recording, or the standard
    JT/T 808; both are None while the form is unknown.
    """

    id: str | None
    command: str | None
    device: str | None
    peripheral: str | None
    state: CommandState | None
    params: dict[str, Any] | None
    conditions: dict[str, Any] | None
    issued_by: str | None
    batch: str | None
    key: str | None
    physical: bool | None
    assumed: bool | None
    provenance: Provenance | None
    created_at: Timestamp | None
    sent_at: Timestamp | None
    acknowledged_at: Timestamp | None
    confirmed_at: Timestamp | None
    ended_at: Timestamp | None
    attempts: int | None
    serial: int | None
    reason: str | None
    answer: dict[str, Any] | None
    profile: str | None
    evidence: dict[str, Any] | None


DATA: Final[Mapping[str, type[Any]]] = {
    events.KIND_LOCATION: events.ExtendedLocation,
    events.KIND_LOCK: events.LockEvent,
    events.KIND_ALARM: events.Alarm,
    events.KIND_HEARTBEAT: events.Heartbeat,
    events.KIND_REPLY: events.Reply,
    events.KIND_PASSWORD: events.Password,
    events.KIND_PERIPHERAL: events.Peripheral,
    events.KIND_SESSION: events.Session,
    events.KIND_COMMAND: CommandData,
    events.KIND_REGISTRATION: events.Registration,
    events.KIND_ATTRIBUTES: events.Attributes,
    events.KIND_TIME_REQUEST: events.TimeRequest,
    events.KIND_UNKNOWN: events.Unknown,
}
"""The type of an event's `data`, by kind."""
