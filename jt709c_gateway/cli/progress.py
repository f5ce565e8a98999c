"""Shows the progress of a long run: a live table on a terminal, otherwise lines; then a summary."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from rich.console import Console, RenderableType
from rich.live import Live
from twisted.internet import task
from twisted.python.failure import Failure

from jt709c_gateway.cli.console import in_foreground
from jt709c_gateway.cli.runner import notice

#: Seconds between updates: on a terminal, and of lines.
_LIVE_EVERY: Final = 0.5
_LINE_EVERY: Final = 5.0


class Board(Protocol):
    """The figures of a run. `now` is the reactor's time in seconds."""

    def line(self, now: float) -> str:
        """Format the figures as a line for a log."""

    def table(self, now: float) -> RenderableType:
        """Format the figures as a table for a terminal, with more details."""

    def summary(self) -> str:
        """Format the summary at the end."""


def milliseconds(seconds: float | None) -> str:
    """Format a time; None means not measured."""
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


class _LiveTable:
    """Renders the table whenever `rich.live` refreshes."""

    def __init__(self, board: Board, reactor: Any) -> None:
        self._board = board
        self._reactor = reactor

    def __rich__(self) -> RenderableType:
        return self._board.table(self._reactor.seconds())


class Progress:
    """Shows progress while the block runs, and then the summary.

    In the foreground of a terminal that is a live table; without a terminal, regular lines; in the
    background of a terminal, where others write, notices only. `broken` gets the failure of a closed output.
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

    def notice(self, text: str) -> None:
        """Print a notice, above the live table if there is one."""
        if self._live.is_started:
            self._out.print(text, soft_wrap=True)
        else:
            notice(text)

    def _refresh(self) -> None:
        if not self._out.is_terminal:
            self._out.print(self._board.line(self._reactor.seconds()), soft_wrap=True)
        elif not in_foreground(self._out.file):
            self._live.stop()
        elif not self._live.is_started:
            self._live.start()
        else:
            self._live.refresh()

    def __enter__(self) -> "Progress":
        if self._out.is_terminal:
            self._refresh()
        every = _LIVE_EVERY if self._out.is_terminal else _LINE_EVERY
        self._loop.start(every, now=False).addErrback(self._broken)
        return self

    def __exit__(self, kind: object, error: object, _: object) -> None:
        if self._loop.running:
            self._loop.stop()
        self._live.stop()
        if not isinstance(error, BrokenPipeError):
            self._out.print(self._board.summary(), soft_wrap=True)
