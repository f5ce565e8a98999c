"""Showing how a long run goes: a live table on a terminal, lines elsewhere, a summary at the end."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from twisted.internet import task
from twisted.python.failure import Failure

#: Seconds between two looks: on a terminal, and in lines.
_LIVE_EVERY: Final = 0.5
_LINE_EVERY: Final = 5.0


class Board(Protocol):
    """What there is to show. `now` is the reactor's time in seconds."""

    def line(self, now: float) -> str:
        """One line for a log."""

    def table(self, now: float) -> RenderableType:
        """The same for a terminal, with what a line has no room for."""

    def summary(self) -> str:
        """What it came to, in the end."""


def milliseconds(seconds: float | None) -> str:
    """A time to be shown; None is none measured."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


class _LiveTable:
    """What `rich.live` shows, drawn anew whenever it asks."""

    def __init__(self, board: Board, reactor: Any) -> None:
        self._board = board
        self._reactor = reactor

    def __rich__(self) -> RenderableType:
        return self._board.table(self._reactor.seconds())


class Progress:
    """Shows how it goes while the block runs: a live table on a terminal, else a line now and then.

    `broken` gets the failure of a display that nobody can read any more. The summary comes last.
    """

    def __init__(self, out: Console, board: Board, reactor: Any, broken: Callable[[Failure], None]) -> None:
        self._out = out
        self._board = board
        self._reactor = reactor
        self._broken = broken
        # Refreshed from the reactor: rich's own thread would read counters while they change.
        self._live = Live(_LiveTable(board, reactor), console=out, auto_refresh=False)
        self._loop = task.LoopingCall(self._refresh)
        self._loop.clock = reactor

    def _refresh(self) -> None:
        if self._out.is_terminal:
            self._live.refresh()
        else:
            self._out.print(self._board.line(self._reactor.seconds()), soft_wrap=True)

    def __enter__(self) -> None:
        if self._out.is_terminal:
            self._live.start()
        every = _LIVE_EVERY if self._out.is_terminal else _LINE_EVERY
        self._loop.start(every, now=False).addErrback(self._broken)

    def __exit__(self, kind: object, error: object, _: object) -> None:
        if self._loop.running:
            self._loop.stop()
        if self._out.is_terminal:
            self._live.stop()
        if not isinstance(error, BrokenPipeError):
            self._out.print(self._board.summary(), soft_wrap=True)
