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

    `offset` counts bytes of the frame as received. `raw` are its bytes as received, in hex, escapes included.
    `value` is what they hold: a number, text, decimal digits, or hex where nothing is known; None for a group
    and for a password. `meaning` is for people, with the unit. `problem` says what was expected and what was
    found where the frame breaks.
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

    `offset` is where it stands in the bytes given; a frame that shares its first flag with the one before
    starts at that flag. `title` says in words what it is, `direction` whether a lock sent it (`up`), the
    gateway did (`down`), or either may have (None). Each of its bytes is in exactly one leaf of `fields`.

    `events` are the kinds of the events that the gateway makes of it, and `answer` is what it answers, in hex
    (passwords as `2a`); both only when the gateway can read the frame. `whole` is the body of a split message
    put together, with the last part to come; offsets in it count from the start of that body.
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
