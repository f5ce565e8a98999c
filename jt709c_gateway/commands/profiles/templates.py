"""Templates, which render checked parameters to the bytes for a lock.

There are four sorts, told apart by their keys in a profile:

- ``sentence = "ELOCK,1,1,{password}"``: a grouped sentence (docs/protocol.rst §2.1); the encoder adds
  ``(device,1,serial,`` and ``)``;
- ``pnn = "P43,{password}"``: a ``Pnn`` sentence (docs/protocol.rst §2.2); the encoder adds the brackets. The
  sentences of a list are written in sequence, and the answer to the last one is that of the command;
- ``message_id`` and ``body``: a JT/T 808 message (:mod:`~jt709c_gateway.commands.profiles.bodies`);
- ``raw = "{hex}"``: bytes that are written as they are.

``{name}`` stands for a parameter, ``{name.count}`` for the length of a list, ``{now}`` for the present UTC
time as yyyyMMddHHmmss, ``{now:%d%m%y%H%M%S}`` for the same in another strftime format. A sentence with
``{name.pages}`` is written once for each ten of the places in ``name``: the page's number from 1, how many
places are on it, and these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import attrs

from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.profiles.bodies import BodyError, build
from jt709c_gateway.commands.profiles.params import Param, ParamKind, fits_sentence

MAX_SENTENCE: Final = 1000
"""Characters of a sentence without its head; longer ones fit no lock's buffer for certain [ASM]."""

PAGE: Final = 10
"""Places on a page of a fence (docs/protocol.rst §4: P29)."""

_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)(\.count|\.pages)?(?::([^{}]*))?\}")
_STATIC = re.compile(r"[\x20-\x7e]*")
_DEFAULT_TIME: Final = "%Y%m%d%H%M%S"
NOW: Final = "now"


@attrs.frozen
class GroupedSentence:
    """``GROUP,number,parameters…``, to be framed with device id and serial (docs/protocol.rst §2.1)."""

    group: str
    number: int
    parameters: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class PnnSentence:
    """``Pnn,…`` without brackets (docs/protocol.rst §2.2); ``before`` are the sentences sent first."""

    text: str = attrs.field(repr=False)
    before: tuple[str, ...] = attrs.field(default=(), repr=False)


@attrs.frozen
class BinaryMessage:
    """Message id and unescaped body of a JT/T 808 message (docs/protocol.rst §1)."""

    message_id: int
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class RawBytes:
    """Raw bytes, written unchanged."""

    data: bytes = attrs.field(repr=False)


Rendered: TypeAlias = GroupedSentence | PnnSentence | BinaryMessage | RawBytes


class TemplateError(ValueError):
    """A template is malformed. The message has the problem and the expected form."""


@attrs.frozen
class Placeholder:
    """One ``{…}``; ``time_format`` belongs to ``{now}``."""

    name: str
    count: bool = False
    pages: bool = False
    time_format: str | None = None


@attrs.frozen
class Line:
    """The text of a sentence, as literal pieces and placeholders."""

    pieces: tuple[str | Placeholder, ...]

    @classmethod
    def parse(cls, text: str) -> Line:
        """Parse the text of a template; raise :class:`TemplateError`."""
        pieces: list[str | Placeholder] = []
        end = 0
        for found in _PLACEHOLDER.finditer(text):
            pieces += [text[end : found.start()], _placeholder(found)]
            end = found.end()
        pieces.append(text[end:])
        static = "".join(piece for piece in pieces if isinstance(piece, str))
        if _STATIC.fullmatch(static) is None or set("(){}") & set(static):
            raise TemplateError(
                "expected printable ASCII without brackets, and placeholders {name}, {name.count}, "
                "{name.pages}, {now}"
            )
        return cls(tuple(piece for piece in pieces if piece))

    @property
    def names(self) -> frozenset[str]:
        """The names of its parameters."""
        placeholders = (piece for piece in self.pieces if isinstance(piece, Placeholder))
        return frozenset(piece.name for piece in placeholders) - {NOW}

    def render(self, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> str:
        """Insert ``values``; raise :class:`InvalidCommand` if a value could break out of its field."""
        text = "".join(
            piece if isinstance(piece, str) else _field(piece, params, values, now) for piece in self.pieces
        )
        if len(text) > MAX_SENTENCE:
            raise InvalidCommand(
                "params", f"make a sentence of {len(text)} characters", f"at most {MAX_SENTENCE}"
            )
        return text

    def render_pages(self, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> list[str]:
        """Render the text, or one text per page if there is a placeholder for pages."""
        paged = next((one for one in self.pieces if isinstance(one, Placeholder) and one.pages), None)
        if paged is None:
            return [self.render(params, values, now)]
        found, places = [], values[paged.name]
        for start in range(0, len(places), PAGE):
            page = places[start : start + PAGE]
            text = f"{start // PAGE + 1},{len(page)},{params[paged.name].wire(page)}"
            line = Line(tuple(text if piece is paged else piece for piece in self.pieces))
            found.append(line.render(params, values, now))
        return found


def _placeholder(found: re.Match[str]) -> Placeholder:
    name, count, pages, time_format = found[1], found[2] == ".count", found[2] == ".pages", found[3]
    if name != NOW:
        if time_format is not None:
            raise TemplateError(f"{found[0]}: only {{now}} takes a format; expected {{{name}}}")
        return Placeholder(name, count, pages)
    chosen = time_format or _DEFAULT_TIME
    if count or pages or not fits_sentence(datetime.fromtimestamp(0, UTC).strftime(chosen)):
        raise TemplateError(
            f"{found[0]}: expected a strftime format without comma, such as {{now:%d%m%y%H%M%S}}"
        )
    return Placeholder(NOW, time_format=chosen)


def _field(piece: Placeholder, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> str:
    if piece.time_format is not None:
        return datetime.fromtimestamp(now, UTC).strftime(piece.time_format)
    value, param = values[piece.name], params[piece.name]
    if piece.count:
        return str(len(value))
    if param.kind is ParamKind.PLACES:
        return param.wire(value)
    # The last check before the wire: whatever the profile allows, no value may end its field or its sentence.
    parts = value if isinstance(value, list) else [value]
    if not all(fits_sentence((param.items or param).wire(part)) for part in parts):
        raise param.wrong(value)
    return param.wire(value)


@attrs.frozen
class SentenceTemplate:
    """A grouped sentence; group and number are fixed."""

    group: str
    number: int
    line: Line

    @property
    def names(self) -> frozenset[str]:
        """The names of its parameters."""
        return self.line.names

    def render(self, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> Rendered:
        """Render the sentence for checked values."""
        if not self.line.pieces:
            return GroupedSentence(self.group, self.number)
        text = self.line.render(params, values, now)
        return GroupedSentence(self.group, self.number, tuple(text.split(",")))


@attrs.frozen
class PnnTemplate:
    """A ``Pnn`` sentence with a fixed word, and the sentences written ``before`` it."""

    word: str
    line: Line
    before: tuple[Line, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The names of its parameters."""
        return self.line.names.union(*(line.names for line in self.before))

    def render(self, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> Rendered:
        """Render the sentences for checked values."""
        before = [text for line in self.before for text in line.render_pages(params, values, now)]
        *more, last = self.line.render_pages(params, values, now)
        return PnnSentence(last, (*before, *more))


@attrs.frozen
class BinaryTemplate:
    """A JT/T 808 message. ``arguments`` are constants, or placeholders that are a whole parameter."""

    message_id: int
    body: str
    arguments: Mapping[str, int | str | Placeholder]

    @property
    def names(self) -> frozenset[str]:
        """The names of its parameters."""
        return frozenset(item.name for item in self.arguments.values() if isinstance(item, Placeholder))

    def render(self, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> Rendered:
        """Render the message for checked values; raise :class:`InvalidCommand` if they fit no body."""
        filled = {
            key: values[item.name] if isinstance(item, Placeholder) else item
            for key, item in self.arguments.items()
        }
        try:
            return BinaryMessage(self.message_id, build(self.body, filled))
        except BodyError as error:
            culprit = self.arguments.get(error.argument or "")
            field = f"params.{culprit.name}" if isinstance(culprit, Placeholder) else "params"
            raise InvalidCommand(field, error.problem, error.expected) from None


@attrs.frozen
class RawTemplate:
    """Raw bytes of one parameter, hex or a whole sentence."""

    name: str

    @property
    def names(self) -> frozenset[str]:
        """The names of its parameters."""
        return frozenset({self.name})

    def render(self, params: Mapping[str, Param], values: Mapping[str, Any], now: float) -> Rendered:
        """Render the bytes for a checked value."""
        value = values[self.name]
        is_hex = params[self.name].kind is ParamKind.HEX
        return RawBytes(bytes.fromhex(value) if is_hex else value.encode("ascii"))


Template: TypeAlias = SentenceTemplate | PnnTemplate | BinaryTemplate | RawTemplate


def parse_sentence(text: str) -> SentenceTemplate:
    """Parse ``GROUP,number[,…]``; raise :class:`TemplateError`."""
    found = re.fullmatch(r"([A-Z][A-Z0-9]*),([0-9]{1,5})(?:,(.*))?", text)
    if found is None or found[3] == "":
        raise TemplateError(
            'expected a group and a number, then perhaps parameters: "BASE,1" or "ELOCK,1,1,{password}"'
        )
    return SentenceTemplate(found[1], int(found[2]), Line.parse(found[3] or ""))


def parse_pnn(text: str, *more: str) -> PnnTemplate:
    """Parse ``Pnn[,…]``, or several in sending order; raise :class:`TemplateError`."""
    if more:
        *before, last = (parse_pnn(one) for one in (text, *more))
        return attrs.evolve(last, before=tuple(one.line for one in before))
    found = re.fullmatch(r"(P[0-9]{2,3})(?:,.+)?", text)
    if found is None:
        raise TemplateError('expected a word and perhaps arguments: "P43,{password}"')
    return PnnTemplate(found[1], Line.parse(text))


def parse_placeholder(text: str) -> Placeholder | None:
    """``{name}`` and nothing else as a placeholder; ``None`` for plain text."""
    found = re.fullmatch(r"\{([a-z_][a-z0-9_]*)\}", text)
    return None if found is None else Placeholder(found[1])
