"""Loads the ``params`` tables of a profile."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from jt709c_gateway.commands.masking import item_key
from jt709c_gateway.commands.model import InvalidCommand, quote
from jt709c_gateway.commands.profiles.params import (
    MAX_INTEGER,
    MAX_LENGTH,
    Param,
    ParamKind,
    fits_sentence,
)
from jt709c_gateway.commands.profiles.toml_table import TomlTable

SUPPLIED: Final = ("static_password", "dynamic_password")
"""The sources from which the gateway supplies an omitted parameter (``from``)."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MEASURED: Final = frozenset(
    {ParamKind.TEXT, ParamKind.FREE_TEXT, ParamKind.HEX, ParamKind.SENTENCE, ParamKind.LIST, ParamKind.PLACES}
)
_NUMBERS: Final = frozenset({ParamKind.INTEGER, ParamKind.NUMBER})


def read_params(table: TomlTable) -> dict[str, Param]:
    """Load all parameters of a command, by name."""
    return {name: _param(name, sub) for name, sub in table.subtables() if not sub.boolean("disabled")}


def _param(name: str, table: TomlTable, *, secret: bool = False) -> Param:
    word = table.needed_text("type")
    try:
        kind = ParamKind(word)
    except ValueError:
        raise table.error("type", f"is {word!r}; expected one of {', '.join(ParamKind)}") from None
    if _NAME.fullmatch(name.rstrip("[]")) is None or name == "now":
        raise table.error("", "expected a name of lower-case letters, digits and '_' other than now")
    secret = table.boolean("secret", secret)
    shortest, longest = _length(table) if kind in _MEASURED else (1, MAX_LENGTH)
    minimum, maximum = _bounds(table) if kind in _NUMBERS else (0, MAX_INTEGER)
    param = Param(
        name=name,
        kind=kind,
        description=table.text("description") or "",
        required=table.boolean("required"),
        secret=secret,
        default=table.raw("default"),
        supplied_by=_supplied_by(table),
        minimum=minimum,
        maximum=maximum,
        also=_also(table) if kind in _NUMBERS else (),
        shortest=shortest,
        longest=longest,
        pattern=_pattern(table) if kind in (ParamKind.TEXT, ParamKind.FREE_TEXT) else None,
        choices=_choices(table) if kind is ParamKind.CHOICE else {},
        items=_items(name, table, secret=secret) if kind is ParamKind.LIST else None,
        widths=_widths(table) if kind is ParamKind.PARAMETERS else {},
        secret_items=_secret_items(table) if kind is ParamKind.PARAMETERS else frozenset(),
    )
    table.finish()
    _check_default(table, param)
    return param


def _length(table: TomlTable) -> tuple[int, int]:
    """``length = 6`` or ``length = [4, 8]``."""
    value = table.raw("length")
    if value is None:
        return 1, MAX_LENGTH
    bounds = value if isinstance(value, list) else [value, value]
    low, high = bounds if len(bounds) == 2 else (None, None)
    if type(low) is not int or type(high) is not int or not 0 <= low <= high <= MAX_LENGTH:
        raise table.error(
            "length", f"is {quote(value)}; expected n or [shortest, longest], up to {MAX_LENGTH}"
        )
    return low, high


def _bounds(table: TomlTable) -> tuple[float, float]:
    low, high = table.number("min"), table.number("max")
    minimum, maximum = 0.0 if low is None else low, float(MAX_INTEGER) if high is None else high
    if minimum > maximum:
        raise table.error("min", f"is {minimum:g}; expected at most max, {maximum:g}")
    return minimum, maximum


def _also(table: TomlTable) -> tuple[float, ...]:
    """``also = [0]``: further valid numbers outside the bounds."""
    values = table.raw("also")
    if values is None:
        return ()
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise table.error("also", f"is {quote(values)}; expected a list of numbers")
    return tuple(values)


def _pattern(table: TomlTable) -> re.Pattern[str] | None:
    text = table.text("pattern")
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise table.error("pattern", f"{error}; expected a regular expression") from None


def _choices(table: TomlTable) -> Mapping[str, str]:
    """``choices = ["on", "off"]``, or ``choices = { on = "1", off = "0" }`` with what is written for each."""
    if isinstance(table.raw("choices"), dict):
        written = table.table_or_empty("choices")
        choices = {key: written.needed_text(key) for key in written.names()}
    else:
        choices = {word: word for word in table.texts("choices")}
    if not choices or not all(fits_sentence(word) for word in choices.values()):
        raise table.error(
            "choices", "expected words of printable ASCII without comma and brackets, at least one"
        )
    return choices


def _items(name: str, table: TomlTable, *, secret: bool) -> Param:
    items = table.table("items")
    if items is None:
        raise table.error("items", 'missing; expected what each item is: items = { type = "text" }')
    param = _param(f"{name}[]", items, secret=secret)
    if param.kind in (ParamKind.LIST, ParamKind.PARAMETERS, ParamKind.PLACES):
        raise items.error("type", f"is {param.kind}; expected a single value")
    return param


def _widths(table: TomlTable) -> Mapping[str, int]:
    widths = table.table_or_empty("widths")
    found: dict[str, int] = {}
    for key in widths.names():
        _item_id(widths, key)
        found[item_key(key)] = widths.integer(key, 1, 4) or 4
    return found


def _secret_items(table: TomlTable) -> frozenset[str]:
    ids = table.texts("secret_items")
    for key in ids:
        _item_id(table, key)
    return frozenset(item_key(key) for key in ids)


def _item_id(table: TomlTable, key: str) -> None:
    if re.fullmatch(r"(?:[0-9A-Fa-f]{4}){1,2}", key) is None:
        raise table.error(key, "expected the id of a JT/T 808 parameter: four or eight hex digits")


def _supplied_by(table: TomlTable) -> str | None:
    name = table.text("from")
    if name is not None and name not in SUPPLIED:
        raise table.error("from", f"is {name!r}; expected one of {', '.join(SUPPLIED)}")
    return name


def _check_default(table: TomlTable, param: Param) -> Any:
    if param.default is None:
        return
    try:
        param.check(param.default)
    except InvalidCommand as error:
        problem = error.problem if param.secret else f"is {quote(param.default)}"
        raise table.error("default", f"{problem}; expected {error.expected}") from None
