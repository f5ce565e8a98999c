"""Reads a frame from front to back into fields; every byte belongs to exactly one field."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from attrs import define, field

from jt709c_gateway.dissector.fields import Bits, Field

#: The text shown in place of a password.
HIDDEN: Final = "******"
_HIDDEN_PROBLEM: Final = "not as expected; what was found may be a password"
#: The meaning of a number, or a function that returns it.
Meaning = str | Callable[[int], str]


class Ended(Exception):
    """Raised if a field should begin where the bytes end; `reported` once a field reports it."""

    def __init__(self, problem: str, reported: bool) -> None:
        super().__init__(problem)
        self.reported = reported


@define
class Wire:
    """A frame as received, and without escapes.

    `at` has the offset in `raw` of each byte of `data` and of its end. `faults` has the wrong escapes by
    offset in `data`. Bytes of `raw` at the offsets in `hidden` may be a password; with `secrets` nothing is
    hidden.
    """

    raw: bytes = field(repr=False)
    data: bytes = field(repr=False)
    at: Sequence[int] = field(repr=False)
    secrets: bool = False
    hidden: frozenset[int] = frozenset()
    faults: dict[int, str] = field(factory=dict)

    @classmethod
    def plain(cls, raw: bytes, secrets: bool, hidden: frozenset[int]) -> "Wire":
        """Return a `Wire` of bytes without escapes."""
        return cls(raw, raw, range(len(raw) + 1), secrets, hidden)

    def shown(self, start: int, end: int, secret: bool) -> tuple[str, bool]:
        """Return `data[start:end]` as received, in hex, and whether any of it is hidden."""
        first, last = self.at[start], self.at[end]
        if self.secrets:
            return self.raw[first:last].hex(), False
        hidden = [secret or offset in self.hidden for offset in range(first, last)]
        text = "".join(
            "2a" if covered else f"{byte:02x}"
            for byte, covered in zip(self.raw[first:last], hidden, strict=True)
        )
        return text, any(hidden)


@define
class Reader:
    """Takes fields from `position` on; nothing behind `end` is its own. `fields` are those taken."""

    wire: Wire
    position: int
    end: int
    fields: list[Field] = field(factory=list)
    #: The current group.
    _group: Field | None = None
    #: A hidden field is no password by its position, so the meaning of the group might reveal one.
    _meddled: bool = False

    @property
    def left(self) -> int:
        """Number of unread bytes."""
        return self.end - self.position

    def peek(self, size: int | None = None) -> bytes:
        """Return up to `size` next bytes without reading them."""
        return self.wire.data[
            self.position : self.end if size is None else min(self.position + size, self.end)
        ]

    def take(
        self,
        size: int,
        name: str,
        value: int | str | None = None,
        meaning: str = "",
        *,
        bits: Sequence[Bits] = (),
        secret: bool = False,
        problem: str | None = None,
    ) -> Field:
        """Read one field of `size` bytes; its value is their hex by default.

        Where fewer are left, they are a field with a problem; Ended is raised then, and where none are left.
        """
        short = min(size, self.left)
        expected = f"expected {size} byte{'s' if size > 1 else ''} of {name}, found "
        if not short:
            raise Ended(expected + "the end", reported=False)
        start, self.position = self.position, self.position + short
        if short < size:
            value, meaning, bits, problem = None, "", (), f"{expected}{short}"
        fault = "; ".join(text for at, text in self.wire.faults.items() if start <= at < self.position)
        raw, hidden = self.wire.shown(start, self.position, secret)
        if hidden:
            value, meaning, bits = None, HIDDEN, ()
            problem = problem and _HIDDEN_PROBLEM
            self._meddled = self._meddled or not secret
        elif value is None:
            value = self.wire.data[start : self.position].hex()
        taken = Field(self.wire.at[start], raw, name, value, meaning, problem or fault or None, list(bits))
        self.fields.append(taken)
        if short < size:
            raise Ended(f"{expected}{short}", reported=True)
        return taken

    def number(
        self,
        size: int,
        name: str,
        meaning: Meaning = "",
        *,
        bits: Sequence[Bits] = (),
        signed: bool = False,
        problem: str | None = None,
    ) -> int:
        """Read and return a big-endian number of `size` bytes."""
        number = int.from_bytes(self.peek(size), "big", signed=signed)
        text = meaning if isinstance(meaning, str) else meaning(number)
        self.take(size, name, number, text, bits=bits, problem=problem)
        return number

    def identifier(self, size: int, name: str, meaning: Meaning = "") -> int:
        """Read and return a number that is usually written in hex."""
        number = int.from_bytes(self.peek(size), "big")
        self.take(size, name, None, meaning if isinstance(meaning, str) else meaning(number))
        return number

    def text(self, size: int, name: str, encoding: str = "latin-1", secret: bool = False) -> str:
        """Read text of `size` bytes, without padding; nothing for 0 bytes."""
        said = self.peek(size).decode(encoding, "replace").strip("\x00 ")
        if size:
            self.take(size, name, said, secret=secret)
        return said

    def rest(self, name: str, meaning: str = "", *, secret: bool = False, problem: str | None = None) -> None:
        """Read the rest as one field, if bytes are left."""
        if self.left:
            self.take(self.left, name, None, meaning, secret=secret, problem=problem)

    def describe(self, name: str, meaning: str) -> None:
        """Set name and meaning of the current group."""
        if self._group is not None:
            self._group.name, self._group.meaning = name, meaning

    def nothing_more(self, expected: str = "the end") -> None:
        """Mark the rest as unexpected."""
        found = f"{self.left} byte{'s' if self.left > 1 else ''} more"
        self.rest("left_over", problem=f"expected {expected}, found {found}")

    @contextmanager
    def group(self, name: str, meaning: str = "", size: int | None = None) -> "Iterator[Reader]":
        """Read a group with the reader that the context gives, up to `size` bytes if that is known.

        At the end of a group of known size, unread bytes become a field. If the bytes end within the group,
        that is reported, and reading continues after it, unless the group is empty.
        """
        group = Field(self.wire.at[self.position], "", name, None, meaning)
        end = self.end if size is None else min(self.position + size, self.end)
        inner = Reader(self.wire, self.position, end, group.children, group)
        try:
            yield inner
            if size is not None:
                inner.nothing_more()
        except Ended as ended:
            if not ended.reported:
                group.problem = group.problem or str(ended)
                ended.reported = bool(group.children)
            if size is None or not group.children:
                raise
        finally:
            self.position = inner.position
            group.meaning = "" if inner._meddled else group.meaning
            group.raw = "".join(child.raw for child in group.children)
            if group.children:
                self.fields.append(group)
