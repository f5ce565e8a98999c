"""The parameters of requests: their parsers, and how the API's description shows them.

A parser raises ValueError with the expected value.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, Literal, TypeVar

from attrs import field, frozen

from jt709c_gateway.commands.model import BATCH_ID, CommandState
from jt709c_gateway.protocol.events import KINDS

_DEVICE: Final = re.compile(r"[0-9]{1,20}|[0-9A-Fa-f]{10}")
#: The longest text to search for, in characters.
MOST_TEXT: Final = 500
_COMMAND: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EPOCH: Final = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
#: In a query an unescaped plus sign is a blank.
_BLANK_OFFSET: Final = re.compile(r"(?<=\d) (?=\d\d:?\d\d$)")
#: The id of an entry, and the number of its partition.
_ENTRY: Final = re.compile(r"([1-9][0-9]{0,14}-[0-9]{1,19})(?::([0-9]{1,3}))?")
#: A sorted set's score as the server writes it, and a member.
_RANKED: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?(?:e\+[0-9]{1,2})?):([0-9A-Za-z_-]{1,64})")

Ranked = tuple[str, str]
"""A position in a sorted set: score and member."""
Position = tuple[str, int]
"""A position in the streams of several partitions: the id of an entry, and the number of its partition."""

_Value = TypeVar("_Value")


@frozen
class Parameter(Generic[_Value]):
    """A parameter of a request. `schema` is its JSON Schema, `default` the value if it is not given.

    A `repeatable` one may be given several times; `schema` is that of one value.
    """

    name: str
    parse: Callable[[str], _Value]
    description: str = ""
    schema: Mapping[str, Any] = field(factory=lambda: {"type": "string"})
    default: Any = None
    repeatable: bool = False
    place: Literal["query", "path", "header"] = "query"
    required: bool = False


def limit(most: int) -> Callable[[str], int]:
    """A parser for the maximum number of entries."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= most:
            raise ValueError(f"a whole number from 1 to {most}")
        return int(text)

    return read


def moment(text: str) -> float:
    """Parse a time into epoch seconds."""
    try:
        if _EPOCH.fullmatch(text):
            return float(text)
        found = datetime.fromisoformat(_BLANK_OFFSET.sub("+", text))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("a time such as 2026-11-22T10:15:00Z, or epoch seconds") from None


def device(text: str) -> str:
    """Parse a device id or an IMEI."""
    if not _DEVICE.fullmatch(text):
        raise ValueError("a device id or an IMEI, 1 to 20 digits, or ten hex digits")
    return text.upper()


def group(text: str) -> str:
    """Parse the name of a group."""
    if not 0 < len(text) <= 64 or not text.isprintable():
        raise ValueError("the name of a group, 1 to 64 characters")
    return text


def command_id(text: str) -> str:
    """Parse the id of a command."""
    if not _COMMAND.fullmatch(text):
        raise ValueError("the id of a command: 1 to 64 letters, digits, '-' or '_'")
    return text


def batch(text: str) -> str:
    """Parse the id of a batch."""
    if not BATCH_ID.fullmatch(text):
        raise ValueError("the id of a batch: 1 to 40 letters, digits, '-' or '_'")
    return text


def kind(text: str) -> str:
    """Parse the kind of an event."""
    if text not in KINDS:
        raise ValueError(f"one of {', '.join(KINDS)}")
    return text


def one_of(*words: str) -> Callable[[str], str]:
    """A parser for one of several words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text

    return read


def state(text: str) -> str:
    """Parse the state of a command."""
    return one_of(*CommandState)(text)


def label_text(text: str) -> str:
    """Parse a text to search in labels."""
    if not 1 <= len(text) <= MOST_TEXT:
        raise ValueError(f"a text of 1 to {MOST_TEXT} characters")
    return text


def flag(text: str) -> bool:
    """Parse 0 or 1."""
    return one_of("0", "1")(text) == "1"


def entry(text: str) -> Position:
    """Parse the cursor of a stream: the last entry of the previous page."""
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ValueError("the next of an earlier answer")
    return found[1], int(found[2] or 0)


def ranked(text: str) -> Ranked:
    """Parse the cursor of a sorted set."""
    found = _RANKED.fullmatch(text)
    if found is None:
        raise ValueError("the next of an earlier answer")
    return found[1], found[2]


DEVICE_PATTERN: Final = f"^({_DEVICE.pattern})$"
COMMAND_ID_PATTERN: Final = f"^{_COMMAND.pattern}$"
_DEVICE_SCHEMA: Final = {"type": "string", "pattern": DEVICE_PATTERN}
_NAMES_OF_A_DEVICE: Final = "A device id, an IMEI, or a sub-lock's id, which stands for its master."
_TIME: Final = "RFC 3339, or epoch seconds."
_NEXT: Final = "`next` of an earlier answer."

DEVICE_IN_PATH: Final = Parameter(
    "id", device, _NAMES_OF_A_DEVICE, _DEVICE_SCHEMA, place="path", required=True
)
COMMAND_IN_PATH: Final = Parameter(
    "id", command_id, schema={"type": "string", "pattern": COMMAND_ID_PATTERN}, place="path", required=True
)
DEVICE: Final = Parameter("device", device, _NAMES_OF_A_DEVICE, _DEVICE_SCHEMA)
KIND: Final = Parameter(
    "kind", kind, "The kinds of events; may be repeated.", {"enum": list(KINDS)}, repeatable=True
)
STATE: Final = Parameter(
    "state", state, "The states of commands; may be repeated.", {"enum": list(CommandState)}, repeatable=True
)
BATCH: Final = Parameter(
    "batch", batch, "The id of a batch.", {"type": "string", "pattern": f"^{BATCH_ID.pattern}$"}
)
GROUP: Final = Parameter(
    "group",
    label_text,
    "The groups of locks, whole and in any case of letters; may be repeated.",
    repeatable=True,
)
TEXT: Final = Parameter(
    "text",
    label_text,
    "Text in name, group, plate, note, device id or IMEI, in any case of letters; all, if repeated.",
    repeatable=True,
)
SINCE: Final = Parameter("since", moment, f"The earliest time: {_TIME}")
UNTIL: Final = Parameter("until", moment, f"The latest time: {_TIME}")
SEEN_SINCE: Final = Parameter("seen_since", moment, f"Only locks seen since this time: {_TIME}")
ENTRY: Final = Parameter("cursor", entry, _NEXT)
RANKED: Final = Parameter("cursor", ranked, _NEXT)


def limit_parameter(most: int, default: int) -> Parameter[int]:
    """The maximum number of entries in an answer."""
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return Parameter("limit", limit(most), "The maximum number of entries.", schema, default)
