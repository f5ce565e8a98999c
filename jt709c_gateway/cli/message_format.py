"""Decoded frames for people."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from rich.table import Table
from rich.text import Text

from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.event_format import STYLES
from jt709c_gateway.cli.frame_input import Result
from jt709c_gateway.protocol.events import Event, to_json

_INDENT: Final = "  "
#: How many bytes of a frame are shown in its heading.
_BYTES_SHOWN: Final = 24


class FramePrinter:
    """Prints one frame after the other: a heading, a table for each event, and the answer."""

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
            self._out.print(Text(f"{_INDENT}malformed: {plain(result.error)}", "bold red"))
        elif not result.events:
            self._out.print(Text(f"{_INDENT}part of a split message; it is shown with the last part", "dim"))
        for event in result.events:
            self._event(event)
        if result.error is None:
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
        # What is printed is what would be published: through JSON, so times and names look the same.
        for name, value in _fields(msgspec.json.decode(to_json(event.data))):
            table.add_row(Text(f"{_INDENT * 2}{name}", "dim"), Text(value))
        self._out.print(table)


def _style(event: Event) -> str:
    return STYLES.get(event.kind, "") or "bold"


def _fields(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values, nested ones with dotted names; what the lock didn't say is left out."""
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
