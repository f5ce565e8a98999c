"""Consoles, and making safe what locks and peers send before it reaches a terminal."""

import sys
from typing import Any, NoReturn, TextIO

from rich.console import Console

#: Columns where there is no terminal to ask: long lines suit `grep` better than folded ones.
_WIDTH = 200


class PipeConsole(Console):
    """A Console that lets a broken pipe be seen, so that the command can end quietly."""

    def on_broken_pipe(self) -> NoReturn:
        """The reader has gone."""
        raise BrokenPipeError


def console(file: TextIO | None = None) -> Console:
    """A Console on standard output (or `file`); colours only for a terminal, and not under NO_COLOR."""
    target = file or sys.stdout
    width = None if target.isatty() else _WIDTH
    return PipeConsole(file=target, highlight=False, markup=False, emoji=False, width=width)


def plain(value: Any) -> str:
    """A value as text that can't steer a terminal: what isn't printable is escaped."""
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
