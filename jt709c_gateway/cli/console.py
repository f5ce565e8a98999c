"""Consoles, and escaping of received text for terminals."""

import os
import sys
from typing import IO, Any, NoReturn, TextIO

from rich.console import Console
from rich.text import Text

#: Columns without a terminal: long lines suit `grep` better than wrapped ones.
_WIDTH = 200


class PipeConsole(Console):
    """A Console that raises BrokenPipeError, so that the program can end quietly."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise the error of the closed pipe."""
        raise BrokenPipeError


def console(file: TextIO | None = None) -> Console:
    """Make a Console on standard output (or `file`); it uses colours on a terminal without NO_COLOR."""
    target = file or sys.stdout
    width = None if target.isatty() else _WIDTH
    return PipeConsole(file=target, highlight=False, markup=False, emoji=False, width=width)


def print_line(out: Console, line: Text, indent: int) -> None:
    """Print a line; on a terminal, what does not fit follows below, indented.

    Without a terminal a line stays one, whatever its length.
    """
    if not out.is_terminal or line.cell_len <= out.width:
        out.print(line, soft_wrap=True)
        return
    first = line.wrap(out, out.width, overflow="fold", no_wrap=False)[0]
    out.print(first, soft_wrap=True)
    rest = line[len(first.plain) :]
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    for other in rest.wrap(out, max(out.width - indent, indent), overflow="fold", no_wrap=False):
        out.print(Text.assemble(" " * indent, other), soft_wrap=True)


def in_foreground(file: IO[str]) -> bool:
    """Return whether a file is a terminal of which this process is in the foreground."""
    try:
        return os.tcgetpgrp(file.fileno()) == os.getpgrp()
    except (OSError, ValueError):
        return False


def plain(value: Any) -> str:
    """Convert a value to text without control characters: unprintable characters are escaped."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
