"""Parameters of commands: their types, ranges and wire form.

Whatever passes :meth:`Param.check` can be put into its field and can't leave it: text for a sentence holds no
comma, bracket, control or non-ASCII byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from jt709c_gateway.commands.masking import MASK, item_key
from jt709c_gateway.commands.model import InvalidCommand
from jt709c_gateway.commands.value_description import described, kind_of

_SENTENCE_FIELD = re.compile(r"[\x20-\x7e]*")
_SENTENCE = re.compile(r"\([^()]+\)")
_ITEM_ID = re.compile(r"(?:[0-9A-Fa-f]{4}){1,2}")
_SEPARATORS: Final = frozenset("(),")
_WIDTHS: Final[Mapping[str, int]] = {"u8": 1, "u16": 2, "u32": 4}
_DECIMALS: Final = 6
#: Most latitude and longitude.
_GLOBE: Final = (90, 180)
#: Ten-thousandths of a minute in a degree.
_PER_DEGREE: Final = 600_000
MAX_INTEGER: Final = 2**32 - 1
MAX_LENGTH: Final = 1000
_VALUE_FORMS: Final = (
    'an integer, text, or one of {"u8": n}, {"u16": n}, {"u32": n}, {"text": "…"}, {"hex": "…"}'
)


class ParamKind(StrEnum):
    """The types of parameters; the head of ``jt709.toml`` describes them."""

    TEXT = "text"
    FREE_TEXT = "free_text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    HEX = "hex"
    SENTENCE = "sentence"
    LIST = "list"
    PARAMETERS = "parameters"
    PLACES = "places"


def fits_sentence(text: str) -> bool:
    """Whether text can be one field of a sentence: printable ASCII without comma and brackets."""
    return _SENTENCE_FIELD.fullmatch(text) is not None and not _SEPARATORS & set(text)


@attrs.frozen
class Param:
    """One parameter of a command, from a profile's ``params`` table.

    ``minimum`` and ``maximum`` bound numbers, but for those in ``also``; ``shortest`` and ``longest`` count
    characters of text, bytes of hex, or items of lists. ``supplied_by`` names what the gateway puts in when
    the command leaves the parameter out. ``choices`` maps each allowed word to what is written for it.
    ``widths`` (bytes) and ``secret_items`` belong to JT/T 808 parameters, by id in hex.
    """

    name: str
    kind: ParamKind
    description: str = ""
    required: bool = False
    secret: bool = False
    default: Any = attrs.field(default=None, repr=False)
    supplied_by: str | None = None
    minimum: float = 0
    maximum: float = MAX_INTEGER
    also: tuple[float, ...] = ()
    shortest: int = 1
    longest: int = MAX_LENGTH
    pattern: re.Pattern[str] | None = None
    choices: Mapping[str, str] = attrs.field(factory=dict)
    items: Param | None = None
    widths: Mapping[str, int] = attrs.field(factory=dict)
    secret_items: frozenset[str] = frozenset()

    @property
    def always_there(self) -> bool:
        """Whether the parameter always has a value."""
        return self.required or self.default is not None or self.supplied_by is not None

    def expected(self) -> str:
        """Describe the expected value."""
        length = f"{self.shortest}" if self.shortest == self.longest else f"{self.shortest} to {self.longest}"
        matching = f" matching {self.pattern.pattern}" if self.pattern else ""
        others = "".join(f"{value:g} or " for value in self.also)
        bounds = f" from {self.minimum:g} to {self.maximum:.10g}"
        match self.kind:
            case ParamKind.TEXT:
                return f"text of {length} printable ASCII characters without comma and brackets{matching}"
            case ParamKind.FREE_TEXT:
                return f"text of {length} printable characters{matching}"
            case ParamKind.INTEGER:
                return f"{others}an integer{bounds}"
            case ParamKind.NUMBER:
                return f"{others}a number{bounds}"
            case ParamKind.BOOLEAN:
                return "true or false"
            case ParamKind.CHOICE:
                return "one of " + ", ".join(self.choices)
            case ParamKind.HEX:
                return f"{length} bytes in hex"
            case ParamKind.SENTENCE:
                return f"one sentence of at most {self.longest} printable ASCII characters, (…)"
            case ParamKind.LIST:
                return f"a list of {length} items" + (f", each {self.items.expected()}" if self.items else "")
            case ParamKind.PLACES:
                return f"a list of {length} places, each [latitude, longitude] in degrees"
            case ParamKind.PARAMETERS:
                return f"an object of 1 to 255 ids (four or eight hex digits), each with {_VALUE_FORMS}"

    def check(self, value: object) -> Any:
        """Check and normalize a value; raise :class:`InvalidCommand`."""
        match self.kind:
            case ParamKind.TEXT | ParamKind.FREE_TEXT | ParamKind.SENTENCE:
                return self._text(value)
            case ParamKind.INTEGER | ParamKind.NUMBER:
                return self._number(value)
            case ParamKind.BOOLEAN:
                if not isinstance(value, bool):
                    raise self.wrong(value)
                return value
            case ParamKind.CHOICE:
                if not isinstance(value, str) or value not in self.choices:
                    raise self.wrong(value)
                return value
            case ParamKind.HEX:
                return self._hex(value)
            case ParamKind.LIST:
                return self._list(value)
            case ParamKind.PLACES:
                return self._places(value)
            case ParamKind.PARAMETERS:
                return self._parameters(value)

    def wrong(self, value: object, problem: str | None = None) -> InvalidCommand:
        """The error about a value, with its type and length; of a secret only the type."""
        secret = self.secret or bool(self.secret_items)
        hidden = MASK if isinstance(value, str) else kind_of(value)
        seen = hidden if secret else described(value)
        return InvalidCommand(f"params.{self.name}", problem or f"is {seen}", self.expected())

    def wire(self, value: Any) -> str:
        """Format a checked value for a sentence; the items of a list are separated by commas.

        A place is longitude, then latitude, each as DDDMM.MMMM, negative in west and south
        (docs/protocol.rst §4).
        """
        if self.kind is ParamKind.PLACES:
            return ",".join(f"{_packed(east, 3)},{_packed(north, 2)}" for north, east in value)
        if isinstance(value, list):
            return ",".join(self.items.wire(item) if self.items else str(item) for item in value)
        if self.kind is ParamKind.CHOICE:
            return self.choices[value]
        if isinstance(value, bool):
            return "1" if value else "0"
        if isinstance(value, float):
            return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
        return str(value)

    def _text(self, value: object) -> str:
        if not isinstance(value, str) or not self.shortest <= len(value) <= self.longest:
            raise self.wrong(value)
        if self.kind is ParamKind.TEXT:
            fits = fits_sentence(value)
        elif self.kind is ParamKind.SENTENCE:
            fits = _SENTENCE_FIELD.fullmatch(value) is not None and _SENTENCE.fullmatch(value) is not None
        else:
            fits = value.isprintable()
        if not fits or (self.pattern is not None and not self.pattern.fullmatch(value)):
            raise self.wrong(value)
        return value

    def _number(self, value: object) -> int | float:
        allowed = int if self.kind is ParamKind.INTEGER else int | float
        if isinstance(value, bool) or not isinstance(value, allowed):
            raise self.wrong(value)
        # A NaN is within no range.
        if not self.minimum <= value <= self.maximum and value not in self.also:
            raise self.wrong(value)
        return value if self.kind is ParamKind.INTEGER else float(value)

    def _hex(self, value: object) -> str:
        if not isinstance(value, str) or re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", value) is None:
            raise self.wrong(value)
        if not self.shortest <= len(value) // 2 <= self.longest:
            raise self.wrong(value)
        return value.upper()

    def _list(self, value: object) -> list[Any]:
        if not isinstance(value, list) or not self.shortest <= len(value) <= self.longest:
            raise self.wrong(value)
        if self.items is None:
            raise self.wrong(value)
        return [self.items.check(item) for item in value]

    def _places(self, value: object) -> list[tuple[float, float]]:
        if not isinstance(value, list) or not self.shortest <= len(value) <= self.longest:
            raise self.wrong(value)
        places = []
        for place in value:
            if not isinstance(place, list | tuple) or len(place) != len(_GLOBE):
                raise self.wrong(value)
            for degrees, most in zip(place, _GLOBE, strict=True):
                if (
                    isinstance(degrees, bool)
                    or not isinstance(degrees, int | float)
                    or not abs(degrees) <= most
                ):
                    raise self.wrong(value)
            places.append((float(place[0]), float(place[1])))
        return places

    def _parameters(self, value: object) -> tuple[tuple[int, bytes], ...]:
        if not isinstance(value, dict) or not 1 <= len(value) <= 255:
            raise self.wrong(value)
        found: dict[int, bytes] = {}
        for place, (key, item) in enumerate(value.items(), 1):
            if _ITEM_ID.fullmatch(key) is None:
                raise self.wrong(value, f"the key of item {place} is {described(key)}, and no parameter id")
            number = int(key, 16)
            if number in found:
                raise self.wrong(value, f"item {place} has the id of one before it")
            found[number] = self._item(place, key, item)
        return tuple(found.items())

    def _item(self, place: int, key: str, item: object) -> bytes:
        secret = self.secret or item_key(key) in self.secret_items
        named = secret or item_key(key) in self.widths
        field = f"params.{self.name}" + (f".{key}" if named else "")
        which = "is" if named else f"item {place} is"
        seen = MASK if secret else described(item)
        wrong = InvalidCommand(field, f"{which} {seen}", _VALUE_FORMS)
        form, content = "", item
        if isinstance(item, dict):
            if len(item) != 1:
                raise wrong
            [(form, content)] = item.items()
        encoded = _encode_item(form, content, self.widths.get(item_key(key), 4))
        if encoded is None or len(encoded) > 255:
            raise wrong
        return encoded


def _packed(degrees: float, digits: int) -> str:
    """Format degrees as DDDMM.MMMM, with a number of digits for whole degrees."""
    whole, minutes = divmod(round(abs(degrees) * _PER_DEGREE), _PER_DEGREE)
    sign = "-" if degrees < 0 and (whole or minutes) else ""
    return f"{sign}{whole:0{digits}d}{minutes // 10_000:02d}.{minutes % 10_000:04d}"


def _encode_item(form: str, content: object, width: int) -> bytes | None:
    """Encode a JT/T 808 parameter; text is GBK (JT/T 808-2013)."""
    if isinstance(content, str):
        if form == "hex":
            return bytes.fromhex(content) if re.fullmatch(r"(?:[0-9A-Fa-f]{2})*", content) else None
        if form not in ("", "text") or not (content.isprintable() or not content):
            return None
        try:
            return content.encode("gbk")
        except UnicodeEncodeError:
            return None
    if type(content) is not int or form not in ("", *_WIDTHS):
        return None
    size = _WIDTHS.get(form, width)
    return content.to_bytes(size, "big") if 0 <= content < 256**size else None
