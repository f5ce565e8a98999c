"""Prints records: as a table for people, or as CSV or JSON for programs."""

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import click
import msgspec
from attrs import frozen
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.output import Output
from jt709c_gateway.protocol.events import to_json

#: A text and its style.
Cell = tuple[str, str]
UNKNOWN: Final[Cell] = ("-", "dim")
_GAP: Final = "  "
#: Rows per write.
_ROWS: Final = 500
#: Columns of the terminal that the last column gets in any case.
_LAST_WIDTH: Final = 8


@frozen
class Column:
    """A column of a table. `cell` makes the cell of a record.

    On a narrow terminal, columns are left out, those with the highest `rank` first; those of rank 0 stay. The
    last column is cut, to `least` columns of the terminal before others are left out, otherwise after that.
    A `wide` column is shown with `-o wide` only.
    """

    name: str
    cell: Callable[[Any], Cell]
    rank: int = 0
    least: int | None = None
    wide: bool = False


def known(value: object, style: str = "") -> Cell:
    """Make a cell of a value; None is a dash."""
    return UNKNOWN if value is None else (plain(value), style)


def print_records(
    records: Sequence[Any], columns: Sequence[Column], fields: Sequence[str], output: str
) -> None:
    """Print mappings or msgspec structs to standard output.

    `fields` are their fields, for CSV; that of an object in one is `label.name`.
    """
    if output == Output.JSON:
        for record in records:
            click.echo(to_json(record))
    elif output == Output.CSV:
        _print_csv(records, fields)
    elif records:
        print_table(console(), records, columns, wide=output == Output.WIDE)


def _print_csv(records: Sequence[Any], fields: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(fields)
    for record in records:
        values: Mapping[str, Any] = msgspec.to_builtins(record)
        writer.writerow([_csv_value(_value(values, field)) for field in fields])
    sys.stdout.flush()


def _value(values: Mapping[str, Any], field: str) -> Any:
    name, _, inner = field.partition(".")
    found = values.get(name)
    return found.get(inner) if inner and isinstance(found, Mapping) else None if inner else found


def _csv_value(value: Any) -> str:
    """Format a value for CSV: None is empty, names are separated by spaces, objects are JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return plain(" ".join(value))
    if isinstance(value, str):
        return plain(value)
    return to_json(value).decode()


def print_table(
    out: Console,
    records: Sequence[Any],
    columns: Sequence[Column],
    *,
    wide: bool = False,
    rows: int | None = None,
) -> None:
    """Print a heading and a line for each record, at most `rows` lines.

    rich's own table takes seconds to measure 10,000 rows.
    """
    columns = [column for column in columns if wide or not column.wide]
    heading: list[Cell] = [(column.name, "bold underline") for column in columns]
    cells = [[column.cell(record) for column in columns] for record in records]
    widths = [
        max(map(cell_len, (text for text, _ in column))) for column in zip(heading, *cells, strict=True)
    ]
    room = out.width if out.is_terminal and not wide else None
    shown = list(range(len(columns)))
    if room is not None:
        shown = _fitting(columns, widths, room)
        others = sum(widths[at] + len(_GAP) for at in shown[:-1])
        widths[shown[-1]] = min(widths[shown[-1]], max(room - others, _LAST_WIDTH))
    lines = [heading, *cells][: None if rows is None else max(rows, 1)]
    for start in range(0, len(lines), _ROWS):
        _print(
            out,
            [[line[at] for at in shown] for line in lines[start : start + _ROWS]],
            [widths[at] for at in shown],
        )


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """Return the places of the columns that fit into the width of a terminal."""
    shown = list(range(len(columns)))

    def width() -> int:
        *others, last = shown
        least = columns[last].least
        cut = widths[last] if least is None else min(widths[last], least)
        return sum(widths[at] + len(_GAP) for at in others) + cut

    while width() > room and any(columns[at].rank for at in shown):
        shown.remove(max(shown, key=lambda at: columns[at].rank))
    return shown


def _print(out: Console, lines: Sequence[Sequence[Cell]], widths: Sequence[int]) -> None:
    segments: list[Segment] = []
    for line in lines:
        gap = ""
        for (text, style), width in zip(line, widths, strict=True):
            length = cell_len(text)
            if length > width:
                text, length = set_cell_size(text, width - 1) + "…", width
            if text:
                segments.append(Segment(gap + text if not style else gap))
                if style:
                    segments.append(Segment(text, _style(style)))
                gap = ""
            gap += " " * (width - length) + _GAP
        segments.append(Segment.line())
    out.print(Segments(segments), end="", soft_wrap=True)


_style = cache(Style.parse)
