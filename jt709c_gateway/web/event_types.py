"""The types of published events, one for each kind, for the description of the API."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union

import attrs
from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.provenance import Provenance
from jt709c_gateway.protocol import events
from jt709c_gateway.util.timestamps import Timestamp

SCHEMAS: Final = "#/components/schemas/"
#: Schemas of JSON that passes through as it stands in Redis.
EVENT: Final = {"$ref": f"{SCHEMAS}Event"}
LOCATION_DATA: Final = {"anyOf": [{"$ref": f"{SCHEMAS}ExtendedLocation"}, {"type": "null"}]}


class CommandData(Struct):
    """The `data` of a `command` event: the public fields of the command's record (docs/commands.rst).

    Secrets in `params` are `******`. `assumed` says that no public document has this form of the command,
    `provenance` which document has it: the maker's documents or a recording, or the standard JT/T 808; both
    are None while the form is unknown.
    """

    id: str | None
    command: str | None
    device: str | None
    peripheral: str | None
    state: CommandState | None
    params: dict[str, Any] | None
    issued_by: str | None
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

_NARROWER: Final[Mapping[str, Any]] = {
    "v": Literal[1],
    "id": str,
    "clock_skew_s": Annotated[
        int | None,
        Meta(description="Seconds that the lock's clock is ahead of the gateway's; null: unknown."),
    ],
    "raw": Annotated[
        str | None, Meta(description="The frame: hex, or the text of a sentence; passwords are masked.")
    ],
}
"""Fields of the envelope that the description has more to say about than `Event`."""
_REPEATS: Final = Annotated[
    int | UnsetType, Meta(description="The serial of an earlier report with the same content.")
]


def event_types() -> Any:
    """The union of the events of all kinds, told apart by `kind`."""
    envelope = [
        (one.name, _NARROWER.get(one.name, one.type), *((UNSET,) if one.name == "raw_masked" else ()))
        for one in attrs.fields(events.Event)
        if one.name not in ("kind", "data")
    ]
    found = [
        defstruct(
            "Event" + "".join(word.title() for word in kind.split("_")),
            [*envelope, ("repeats", _REPEATS, UNSET), ("data", data)],
            tag_field="kind",
            tag=kind,
            kw_only=True,
            namespace={"__doc__": f"An event of the kind `{kind}` (docs/redis.rst)."},
        )
        for kind, data in DATA.items()
    ]
    return Union[tuple(found)]  # noqa: UP007
