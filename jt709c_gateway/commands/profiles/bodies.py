"""Bodies of the JT/T 808-2013 messages that carry commands (docs/protocol.rst §4; layouts from the public
standard).

A profile names a builder and gives its arguments: ``template = { message_id = 0x8105, body = "control",
arguments = { word = 4 } }``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from jt709c_gateway.commands.profiles.params import ParamKind

MAX_BODY: Final = 1023
"""The body length has ten bits (docs/protocol.rst §1); commands are not split."""


class BodyError(ValueError):
    """Values fit no body; ``argument`` is the wrong one, if known. The message has no values."""

    def __init__(self, problem: str, expected: str, argument: str | None = None) -> None:
        super().__init__(f"{problem}; expected {expected}")
        self.problem = problem
        self.expected = expected
        self.argument = argument


@attrs.frozen
class Builder:
    """Builds a body; ``arguments`` maps each name to the types of parameter that may fill it."""

    build: Callable[[Mapping[str, Any]], bytes]
    arguments: Mapping[str, tuple[ParamKind, ...]]
    optional: frozenset[str] = frozenset()


def _empty(values: Mapping[str, Any]) -> bytes:
    """0x8104, 0x8107 and 0x8201 have no body."""
    return b""


def _parameters_set(values: Mapping[str, Any]) -> bytes:
    """0x8103: count u8, then per parameter id u32, length u8, value."""
    items: tuple[tuple[int, bytes], ...] = values["parameters"]
    return bytes([len(items)]) + b"".join(
        struct.pack(">IB", number, len(value)) + value for number, value in items
    )


def _parameters_query_some(values: Mapping[str, Any]) -> bytes:
    """0x8106: count u8, then ids u32."""
    ids = [int(text, 16) for text in values["ids"]]
    return struct.pack(f">B{len(ids)}I", len(ids), *ids)


def _control(values: Mapping[str, Any]) -> bytes:
    """0x8105: command word u8, then its parameters as GBK text, often none."""
    return struct.pack(">B", values["word"]) + _gbk(values, "text")


def _text(values: Mapping[str, Any]) -> bytes:
    """0x8300: flags u8 (bit 0 urgent, 2 display, 3 read aloud), then GBK text."""
    return struct.pack(">B", values["flags"]) + _gbk(values, "text")


def _raw(values: Mapping[str, Any]) -> bytes:
    """Any body, in hex."""
    return bytes.fromhex(values["hex"])


def _gbk(values: Mapping[str, Any], argument: str) -> bytes:
    text: str = values.get(argument, "")
    try:
        return text.encode("gbk")
    except UnicodeEncodeError:
        raise BodyError("holds a character that GBK has not", "characters of GBK", argument) from None


BUILDERS: Final[Mapping[str, Builder]] = {
    "parameters_set": Builder(_parameters_set, {"parameters": (ParamKind.PARAMETERS,)}),
    "parameters_query": Builder(_empty, {}),
    "parameters_query_some": Builder(_parameters_query_some, {"ids": (ParamKind.LIST,)}),
    "control": Builder(
        _control,
        {"word": (ParamKind.INTEGER,), "text": (ParamKind.TEXT, ParamKind.FREE_TEXT)},
        optional=frozenset({"text"}),
    ),
    "location_query": Builder(_empty, {}),
    "attributes_query": Builder(_empty, {}),
    "text": Builder(_text, {"flags": (ParamKind.INTEGER,), "text": (ParamKind.TEXT, ParamKind.FREE_TEXT)}),
    "raw": Builder(_raw, {"hex": (ParamKind.HEX,)}),
}
"""Builders by the name that profiles use."""


def build(name: str, values: Mapping[str, Any]) -> bytes:
    """Build a body; raise :class:`BodyError` if the values are invalid or the body is too long."""
    body = BUILDERS[name].build(values)
    if len(body) > MAX_BODY:
        raise BodyError(f"make a body of {len(body)} bytes", f"at most {MAX_BODY}")
    return body
