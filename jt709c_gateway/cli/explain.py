"""`jt709c explain`: shows every byte of a frame with its field, value and meaning."""

import sys
from datetime import UTC, datetime
from typing import Final

import click
from rich.table import Table
from rich.text import Text

from jt709c_gateway.cli import completion_values, frame_input
from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.dissector import Bits, Explainer, Explanation, Field, walk
from jt709c_gateway.protocol.events import to_json

_INDENT: Final = "  "
#: Minimum columns for eight bytes per line; otherwise four.
_WIDE: Final = 100
_NAME_WIDTH: Final = (24, 32)
_VALUE_WIDTH: Final = (13, 20)
_BYTES_IN_LINE: Final = (4, 8)
#: Maximum hex digits repeated as a value.
_HEX_SHOWN: Final = 16
_DIRECTIONS: Final = {"up": "from the lock", "down": "to the lock"}


@click.command()
@click.argument("hex_text", nargs=-1, metavar="[HEX]...")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Read lines from a file; - is standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per frame.")
@click.option("--secrets", is_flag=True, help="Show passwords instead of masking them.")
def explain(hex_text: tuple[str, ...], path: str | None, as_json: bool, secrets: bool) -> None:
    """Explain frames of any dialect byte by byte.

    Frames are given as for decode: as hex, as sentences, or as lines of a file; HEX may be - for standard
    input. Commands to a lock are understood too. Each field is a line: offset, bytes as received, name, value
    and meaning. A frame that is broken is shown as far as it can be read, and says where it breaks.

    The exit status is 1 when a frame is broken or there is something else between the frames.

    \b
    Examples:
        jt709c explain "(8130630001,P01,JT701D/E_20210311_China_Jointech,41%)"
        jt709c explain --json --file frames.txt
    """
    explainer = Explainer(secrets)
    printer = None if as_json else ExplanationPrinter()
    broken = False
    for item in frame_input.items(hex_text, path):
        for explanation in explainer.explain_all(item, datetime.now(UTC)):
            broken |= explanation.broken
            if printer is None:
                sys.stdout.buffer.write(to_json(explanation) + b"\n")
            else:
                printer.show(explanation)
    sys.stdout.flush()
    if broken:
        sys.exit(1)


class ExplanationPrinter:
    """Prints frames: a heading, a line for each field, and the events of the gateway."""

    def __init__(self) -> None:
        self._out = console()
        self._wide = self._out.width >= _WIDE
        self._number = 0

    def show(self, explanation: Explanation) -> None:
        """Print one frame."""
        self._number += 1
        if self._number > 1:
            self._out.print()
        self._out.print(self._heading(explanation), soft_wrap=True)
        self._out.print(self._table(explanation.fields))
        if explanation.whole:
            self._out.print(Text("the whole message, offsets from the start of its body", "bold"))
            self._out.print(self._table(explanation.whole))
        self._conclusion(explanation)

    def _heading(self, explanation: Explanation) -> Text:
        text = Text.assemble((f"frame {self._number}", "bold"), f"  {explanation.title}")
        for style, part in (
            ("bold cyan", f"device {explanation.device}" if explanation.device else None),
            ("", f"IMEI {explanation.imei}" if explanation.imei else None),
            ("", _direction(explanation)),
            ("dim", explanation.dialect),
            ("dim", f"{explanation.length} byte{'s' * (explanation.length != 1)} at {explanation.offset}"),
        ):
            if part:
                text.append("  " + plain(part), style)
        return text

    def _table(self, fields: list[Field]) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right", no_wrap=True, min_width=4)
        table.add_column(width=3 * _BYTES_IN_LINE[self._wide] - 1)
        table.add_column(width=_NAME_WIDTH[self._wide], overflow="fold")
        table.add_column(max_width=_VALUE_WIDTH[self._wide], overflow="fold")
        table.add_column(overflow="fold")
        for depth, each in walk(fields):
            self._add(table, each, depth)
        return table

    def _add(self, table: Table, each: Field, depth: int) -> None:
        group = bool(each.children)
        table.add_row(
            Text(str(each.offset), "dim"),
            Text("" if group else bytes.fromhex(each.raw).hex(" "), "cyan"),
            Text(_INDENT * depth + each.name, "bold" if group else ""),
            Text("" if group else _value(each), "green"),
            Text(plain(each.meaning), "bold" if group else ""),
        )
        for bits in each.bits:
            table.add_row("", *_bits(bits, depth + 1))
        if each.problem:
            table.add_row("", "", "", Text("broken", "bold red"), Text(plain(each.problem), "bold red"))

    def _conclusion(self, explanation: Explanation) -> None:
        for name, said in (
            ("events", ", ".join(explanation.events)),
            ("answer", _answer(explanation)),
        ):
            if said:
                self._out.print(Text.assemble((f"{name}  ", "bold"), said), soft_wrap=True)
        if explanation.broken:
            self._out.print(Text("this frame is broken", "bold red"))


def _direction(explanation: Explanation) -> str:
    """Return who sent the frame; grouped sentences have the same form in both directions."""
    if explanation.direction is None:
        return "direction unknown" if explanation.device else ""
    return _DIRECTIONS[explanation.direction]


def _value(each: Field) -> str:
    """Return the value, unless it repeats many bytes of the line."""
    if each.value is None or (each.value == each.raw and len(each.raw) > _HEX_SHOWN):
        return ""
    return plain(each.value)


def _bits(bits: Bits, depth: int) -> tuple[Text, Text, Text, Text]:
    where = f"bit {bits.first}" if bits.first == bits.last else f"bits {bits.first}-{bits.last}"
    return (
        Text(where, "dim cyan"),
        Text(_INDENT * depth + bits.name, "dim"),
        Text(str(bits.value), "dim green"),
        Text(plain(bits.meaning), "dim"),
    )


def _answer(explanation: Explanation) -> str:
    if not explanation.answer:
        return "none due" if explanation.events else ""
    text = bytes.fromhex(explanation.answer)
    return explanation.answer + (f"  {plain(text.decode('latin-1'))}" if text[:1] == b"(" else "")
