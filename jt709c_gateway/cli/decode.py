"""`jt709c decode`: decodes frames of locks."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import click
import msgspec
from msgspec import UNSET
from rich.table import Table
from rich.text import Text

from jt709c_gateway.cli import completion_values, frame_input
from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.event_format import STYLES
from jt709c_gateway.cli.frame_input import Result
from jt709c_gateway.protocol.events import Event, to_json

_INDENT: Final = "  "
_TO_LOCK: Final = "a command or an answer, not a report of the lock; jt709c explain shows its fields"
#: Maximum bytes of a frame in its heading.
_BYTES_SHOWN: Final = 24


@click.command()
@click.argument("hex_text", nargs=-1, metavar="[HEX]...")
@click.option(
    "--file",
    "path",
    metavar="FILE",
    shell_complete=completion_values.files,
    help="Read lines from a file; - is standard input.",
)
@click.option("--jsonl", is_flag=True, help="Print one JSON object per frame.")
@click.option("--secrets", is_flag=True, help="Show passwords instead of masking them.")
def decode(hex_text: tuple[str, ...], path: str | None, jsonl: bool, secrets: bool) -> None:
    """Decode frames given as hex, or as lines of a file.

    A line of hex may hold several frames; of a line of JSON, the "frame" is decoded. Spaces, colons, 0x and
    upper case don't matter; sentences may be given as text. HEX may be - for standard input. The exit status
    is 1 if any input is malformed.

    \b
    Examples:
        jt709c decode "(8130630001,P01,JT701D/E_20210311_China_Jointech,41%)"
        jt709c decode 7e0200004d794308010679013800000000022c004e01819568036ef38c \\
            005c00120000251118112611d40164d50201a230011d31010cf40104f9020007 \\
            fe0400000090fd0a02e8000400044a150fe6ef014a0b062200623a4965977e
        jt709c decode --file frames.txt --jsonl
    """
    items = frame_input.items(hex_text, path)
    decoder = frame_input.FrameDecoder(secrets)
    printer = None if jsonl else FramePrinter()
    malformed = False
    for item in items:
        for result in decoder.decode(item):
            malformed |= result.error is not None
            if printer is None:
                sys.stdout.buffer.write(frame_input.to_line(result))
            else:
                printer.show(result)
    sys.stdout.flush()
    if malformed:
        sys.exit(1)


class FramePrinter:
    """Prints frames: a heading, a table for each event, and the answer."""

    def __init__(self) -> None:
        self._out = console()
        self._number = 0

    def show(self, result: Result) -> None:
        """Print one frame."""
        self._number += 1
        if self._number > 1:
            self._out.print()
        self._out.print(self._heading(result), soft_wrap=True)
        if result.error is not None:
            word = "" if result.to_lock else "malformed: "
            self._out.print(Text(f"{_INDENT}{word}{plain(result.error)}", "bold red"))
        elif not result.events:
            self._out.print(Text(f"{_INDENT}part of a split message; it is shown with the last part", "dim"))
        if result.to_lock and result.error is None:
            self._out.print(Text(f"{_INDENT}{_TO_LOCK}"), soft_wrap=True)
        else:
            for event in result.events:
                self._event(event)
        if result.passwords is not UNSET:
            line = Text.assemble((f"{_INDENT}passwords  ", "bold"), plain(result.passwords))
            self._out.print(line, soft_wrap=True)
        if result.error is None and not result.to_lock:
            answer = result.answer or "none due"
            self._out.print(Text.assemble((f"{_INDENT}answer  ", "bold"), answer), soft_wrap=True)

    def _heading(self, result: Result) -> Text:
        text = Text.assemble((f"frame {self._number}", "bold"), f"  {plain(result.dialect or 'no dialect')}")
        if result.events:
            first = result.events[0]
            text.append(f"  device {plain(first.device)}", "bold cyan")
            for name, value in (("IMEI", first.imei), ("serial", first.serial)):
                if value is not None:
                    text.append(f"  {name} {value}")
        if result.to_lock:
            text.append("  to the lock")
        length = len(result.frame) // 2
        shown = result.frame[: 2 * _BYTES_SHOWN] + ("…" if length > _BYTES_SHOWN else "")
        return text.append(f"  {length} bytes  {shown}", "dim")

    def _event(self, event: Event) -> None:
        self._out.print(
            Text(f"{_INDENT}{plain(event.kind)}" + ("  (stored)" if event.stored else ""), _style(event))
        )
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        # Converted to JSON and back, so that times and names look as published.
        for name, value in _fields(msgspec.json.decode(to_json(event.data))):
            table.add_row(Text(f"{_INDENT * 2}{name}", "dim"), Text(value))
        self._out.print(table)


def _style(event: Event) -> str:
    return STYLES.get(event.kind, "") or "bold"


def _fields(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield names and values, nested ones with dotted names; null values are omitted."""
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{plain(name)}.")
        elif isinstance(value, list):
            if value:
                yield prefix + plain(name), ", ".join(plain(item) for item in value)
        elif isinstance(value, bool):
            yield prefix + plain(name), "yes" if value else "no"
        elif value is not None:
            yield prefix + plain(name), plain(value)
