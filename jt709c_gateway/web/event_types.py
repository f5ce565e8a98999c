"""The types of published events, one for each kind, for the description of the API."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union

import attrs
from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from jt709c_gateway.commands.event_data import DATA
from jt709c_gateway.protocol import events

SCHEMAS: Final = "#/components/schemas/"
#: Schemas of JSON that passes through as it stands in Redis.
EVENT: Final = {"$ref": f"{SCHEMAS}Event"}
LOCATION_DATA: Final = {"anyOf": [{"$ref": f"{SCHEMAS}ExtendedLocation"}, {"type": "null"}]}

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


class EventLabel(Struct):
    """What people call a lock, as far as it is set."""

    name: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    plate: str | UnsetType = UNSET


_REPEATS: Final = Annotated[
    int | UnsetType, Meta(description="The serial of an earlier report with the same content.")
]
_LABEL: Final = Annotated[
    EventLabel | UnsetType, Meta(description="With --labels-in-events, for a lock that has a label.")
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
            [*envelope, ("repeats", _REPEATS, UNSET), ("label", _LABEL, UNSET), ("data", data)],
            tag_field="kind",
            tag=kind,
            kw_only=True,
            namespace={"__doc__": f"An event of the kind `{kind}` (docs/redis.rst)."},
        )
        for kind, data in DATA.items()
    ]
    return Union[tuple(found)]  # noqa: UP007
