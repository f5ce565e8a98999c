"""Loads the ``template`` tables of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jt709c_gateway.commands.profiles.bodies import BUILDERS
from jt709c_gateway.commands.profiles.params import Param, ParamKind
from jt709c_gateway.commands.profiles.templates import (
    BinaryTemplate,
    Line,
    Placeholder,
    PnnTemplate,
    RawTemplate,
    SentenceTemplate,
    Template,
    TemplateError,
    parse_placeholder,
    parse_pnn,
    parse_sentence,
)
from jt709c_gateway.commands.profiles.toml_table import TomlTable

_SORTS: Final = ("sentence", "pnn", "message_id", "raw")
_WRITABLE: Final = frozenset(
    {
        ParamKind.TEXT,
        ParamKind.INTEGER,
        ParamKind.NUMBER,
        ParamKind.BOOLEAN,
        ParamKind.CHOICE,
        ParamKind.HEX,
        ParamKind.LIST,
        ParamKind.PLACES,
    }
)
"""The types allowed in a sentence."""


def read_template(command: TomlTable, params: Mapping[str, Param]) -> Template:
    """Load the template of a command; check its placeholders against ``params``."""
    table = command.table("template")
    if table is None:
        raise command.error("template", "missing; expected one with sentence, pnn, message_id or raw")
    sorts = [key for key in _SORTS if key in table]
    if len(sorts) != 1:
        raise table.error("", f"has {' and '.join(sorts) or 'none'}; expected one of {', '.join(_SORTS)}")
    try:
        template = _read(table, sorts[0])
    except TemplateError as error:
        raise table.error(sorts[0], str(error)) from None
    table.finish()
    for name in sorted(template.names - params.keys()):
        known = ", ".join(sorted(params)) or "none"
        raise table.error(sorts[0], f"{{{name}}} is no parameter of the command; expected one of {known}")
    _check_kinds(table, template, params)
    return template


def _read(table: TomlTable, sort: str) -> Template:
    if sort == "sentence":
        return parse_sentence(table.needed_text("sentence"))
    if sort == "pnn":
        several = isinstance(table.raw("pnn"), list)
        sentences = table.texts("pnn") if several else (table.needed_text("pnn"),)
        if not sentences:
            raise TemplateError("expected a sentence, or a list of them")
        return parse_pnn(*sentences)
    if sort == "message_id":
        return _binary(table)
    placeholder = parse_placeholder(table.needed_text("raw"))
    if placeholder is None:
        raise TemplateError('expected one placeholder: "{hex}"')
    return RawTemplate(placeholder.name)


def _binary(table: TomlTable) -> BinaryTemplate:
    message_id = table.integer("message_id", 0x8000, 0x8FFF) or 0
    body = table.needed_text("body")
    if body not in BUILDERS:
        raise table.error("body", f"is {body!r}; expected one of {', '.join(BUILDERS)}")
    arguments = table.table_or_empty("arguments")
    builder, found = BUILDERS[body], {}
    for key in builder.arguments:
        if key in arguments:
            found[key] = _argument(arguments, key, builder.arguments[key])
        elif key not in builder.optional:
            raise arguments.error(key, f"missing; expected a constant or a placeholder for {body}")
    arguments.finish()
    return BinaryTemplate(message_id, body, found)


def _argument(table: TomlTable, key: str, kinds: tuple[ParamKind, ...]) -> int | str | Placeholder:
    value = table.raw(key)
    placeholder = parse_placeholder(value) if isinstance(value, str) else None
    if placeholder is not None:
        return placeholder
    if ParamKind.INTEGER in kinds:
        return table.integer(key, 0, 255) or 0
    if {ParamKind.LIST, ParamKind.PARAMETERS} & set(kinds):
        raise table.error(key, 'expected a placeholder such as "{' + key + '}"')
    return table.needed_text(key)


def _check_kinds(table: TomlTable, template: Template, params: Mapping[str, Param]) -> None:
    match template:
        case SentenceTemplate(line=line):
            _check_line(table, line, params)
        case PnnTemplate(line=line, before=before):
            for each in (*before, line):
                _check_line(table, each, params)
        case RawTemplate(name=name):
            if params[name].kind not in (ParamKind.HEX, ParamKind.SENTENCE):
                raise table.error("raw", f"{{{name}}} is {params[name].kind}; expected hex or sentence")
        case BinaryTemplate(body=body, arguments=arguments):
            for key, item in arguments.items():
                allowed = BUILDERS[body].arguments[key]
                if isinstance(item, Placeholder) and not _fits(params[item.name], allowed):
                    is_now = f"{{{item.name}}} is {params[item.name].kind}"
                    fitting = f"{' or '.join(allowed)} that the body has room for"
                    raise table.error(f"arguments.{key}", f"{is_now}; expected {fitting}")


def _fits(param: Param, allowed: tuple[ParamKind, ...]) -> bool:
    """Whether every valid value fits into a body: a byte, up to 255 ids in hex, or text."""
    if param.kind is ParamKind.INTEGER:
        return param.kind in allowed and param.minimum >= 0 and param.maximum <= 255
    if param.kind is ParamKind.LIST:
        is_hex = param.items is not None and param.items.kind is ParamKind.HEX and param.items.longest <= 4
        return param.kind in allowed and is_hex and param.longest <= 255
    return param.kind in allowed


def _check_line(table: TomlTable, line: Line, params: Mapping[str, Param]) -> None:
    for piece in line.pieces:
        if not isinstance(piece, Placeholder) or piece.time_format is not None:
            continue
        param = params[piece.name]
        if param.kind not in _WRITABLE or (param.items is not None and param.items.kind not in _WRITABLE):
            raise table.error(
                "", f"{{{piece.name}}} is {param.kind}, which can't stand in a sentence; expected text"
            )
        if piece.count and param.kind not in (ParamKind.LIST, ParamKind.PLACES):
            raise table.error("", f"{{{piece.name}.count}} counts {param.kind}; expected a list")
        if piece.pages and param.kind is not ParamKind.PLACES:
            raise table.error("", f"{{{piece.name}.pages}} divides {param.kind}; expected places")
