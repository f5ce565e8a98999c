"""A dissected frame: fields, their bits, and their problems."""

from collections.abc import Iterable, Iterator
from typing import Literal

from attrs import define, field

Direction = Literal["up", "down"]


@define(slots=False)
class Bits:
    """Bits `first` to `last` (0 is the lowest) of a field's number that have a meaning of their own."""

    first: int
    last: int
    name: str
    value: int
    meaning: str = ""


@define(slots=False)
class Field:
    """One field of a frame, or a group of them (`children`).

    `offset` counts the bytes of the frame as received. `raw` has the field's bytes as received, in hex, with
    escapes. `value` is a number, text, decimal digits, or hex of unknown content; None for a group and for a
    password. `meaning` is for people, with the unit. `problem` says what was expected and found where the
    frame is broken.
    """

    offset: int
    raw: str
    name: str
    value: int | str | None = None
    meaning: str = ""
    problem: str | None = None
    bits: list[Bits] = field(factory=list)
    children: "list[Field]" = field(factory=list)


@define(slots=False)
class Explanation:
    """One dissected frame.

    `offset` is its position in the given bytes; a frame that shares a flag with the previous one starts at
    that flag. `title` describes it, `direction` is `up` if a lock sent it, `down` if the gateway did, None if
    either may have. Each byte is in exactly one leaf of `fields`.

    `events` has the kinds of the gateway's events, and `answer` its answer in hex (passwords as `2a`), if the
    gateway can read the frame. `whole` is the reassembled body of a split message, with its last part;
    offsets in it count from the start of that body.
    """

    offset: int
    dialect: str | None
    title: str
    direction: Direction | None
    device: str | None
    imei: str | None
    broken: bool
    fields: list[Field]
    whole: list[Field] = field(factory=list)
    events: list[str] = field(factory=list)
    answer: str | None = None

    @property
    def length(self) -> int:
        """The length of the frame in bytes."""
        return sum(len(each.raw) for each in self.fields) // 2


def walk(fields: Iterable[Field], depth: int = 0) -> Iterator[tuple[int, Field]]:
    """Yield every field with its depth, a group before its children."""
    for each in fields:
        yield depth, each
        yield from walk(each.children, depth + 1)


def leaves(fields: Iterable[Field]) -> Iterator[Field]:
    """Yield every field without children, in the order of the bytes."""
    return (each for _, each in walk(fields) if not each.children)


def problems(fields: Iterable[Field]) -> Iterator[Field]:
    """Yield every field with a problem."""
    return (each for _, each in walk(fields) if each.problem)
