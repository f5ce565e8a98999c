"""Opens a capture and replays it, with a board of its progress."""

import itertools
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, NoReturn

import click
from attrs import define
from rich.table import Table
from twisted.internet import defer
from twisted.python.failure import Failure

from jt709c_gateway.cli.console import console
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.progress import Progress, milliseconds
from jt709c_gateway.cli.replay import text_capture
from jt709c_gateway.cli.replay.player import Pace, Player
from jt709c_gateway.cli.replay.steps import CaptureError, LeftOut, Step
from jt709c_gateway.simulator.connections import Target

#: Seconds of delay from which it is shown.
_LATE: Final = 0.1


#: The first four bytes of pcap files (both byte orders; µs, ns and a modified variant) and of pcapng.
_CAPTURES: Final = frozenset(
    bytes.fromhex(magic)
    for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1", "0a0d0d0a")
)


@contextmanager
def opened(path: str, ports: frozenset[int], left_out: LeftOut) -> Iterator[Iterator[Step]]:
    """Yield the steps of a capture, read on demand; raise UserError if it can't be opened."""
    name = "standard input" if path == "-" else path
    try:
        with click.open_file(path, "rb") as file:
            steps = _steps(file, name, ports, left_out)
            # Read the first step now, so that an invalid capture is reported before anything is sent.
            first = next(steps, None)
            if first is None:
                raise CaptureError(f"{name}: it contains nothing to replay")
            steps = itertools.chain([first], steps)
            yield steps if file.seekable() else _interruptible(steps)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None
    except CaptureError as error:
        raise UserError(str(error)) from None


def _steps(file: IO[bytes], name: str, ports: frozenset[int], left_out: LeftOut) -> Iterator[Step]:
    if file.peek(4)[:4] not in _CAPTURES:  # type: ignore[attr-defined]
        return text_capture.read(file, name, left_out)
    try:
        from jt709c_gateway.cli.replay import pcap
    except ImportError:
        raise UserError(
            f"{name}: pcap files need the library dpkt: pip install 'jt709c-gateway[pcap]'"
        ) from None
    return pcap.read(file, name, ports, left_out)


def _interruptible(steps: Iterator[Step]) -> Iterator[Step]:
    """Yield the same steps; signals end a read that blocks, as it does at a pipe, and with it the reactor."""

    def end(number: int, _: object) -> NoReturn:
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    while True:
        before = [signal.signal(number, end) for number in numbers]
        try:
            step = next(steps, None)
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
        if step is None:
            return
        yield step


@define
class _Board:
    """Formats the progress of a replay."""

    player: Player
    left_out: LeftOut
    name: str
    began: float

    def line(self, now: float) -> str:
        """Format the figures as a line for a log."""
        counts = self.player.counts
        return (
            f"{now - self.began:6.0f} s  up {self.player.open}  sent {counts.frames}"
            f"  answered {counts.answered}/{counts.due}  not answered {counts.unanswered}"
            f"  refused {counts.refused}  closed by the gateway {counts.closed}{self._pace(now)}"
        )

    def _pace(self, now: float) -> str:
        if self.player.due > now:
            return f"  next in {self.player.due - now:.0f} s"
        return f"  {self.player.late:.1f} s late" if self.player.late > _LATE else ""

    def table(self, now: float) -> Table:
        """Format the figures as a table, with more details."""
        counts = self.player.counts
        table = Table(title=f"{self.name}, {now - self.began:.0f} s{self._pace(now)}", min_width=48)
        table.add_column("")
        table.add_column("total", justify="right")
        percentile = counts.latencies.percentile
        for name, value in (
            ("connections up / made", f"{self.player.open} / {counts.connections}"),
            ("connections refused", f"{counts.refused}"),
            ("closed by the gateway", f"{counts.closed}"),
            ("frames sent", f"{counts.frames}"),
            ("bytes sent / not sent", f"{counts.bytes} / {counts.unsent}"),
            ("frames to be answered", f"{counts.due}"),
            ("answered", f"{counts.answered}"),
            ("not answered", f"{counts.unanswered}"),
            ("answer p50 / p99", f"{milliseconds(percentile(50))} / {milliseconds(percentile(99))}"),
            ("other frames received", f"{counts.other}"),
            ("sent that is no frame", f"{counts.malformed}"),
        ):
            table.add_row(name, value)
        return table

    def summary(self) -> str:
        """Format the summary at the end."""
        counts = self.player.counts
        percentile = counts.latencies.percentile
        sent = f"{counts.frames} frames sent ({counts.bytes} bytes) over {counts.connections} connections"
        answered = f"of {counts.due} to be answered {counts.answered} were, {counts.unanswered} not"
        times = f"answer p50 {milliseconds(percentile(50))}, p99 {milliseconds(percentile(99))}"
        refused = f"{counts.refused} connections refused, {counts.closed} closed by the gateway"
        parts = [
            f"{self.name}: {sent}",
            f"{answered}; {times}",
            f"{refused}, {counts.unsent} bytes not sent",
            f"{counts.malformed} pieces sent that are no frame" if counts.malformed else "",
            f"{counts.other} other frames received" if counts.other else "",
            self.left_out.describe(),
        ]
        return "; ".join(part for part in parts if part)


async def play(
    reactor: Any, target: Target, pace: Pace, steps: Iterator[Step], left_out: LeftOut, name: str
) -> int:
    """Play the steps; return 1 if anything was refused, not sent or not answered."""
    player = Player(reactor, target.host, target.port, pace)
    board = _Board(player, left_out, name, reactor.seconds())
    playing = defer.Deferred.fromCoroutine(player.play(steps))

    def broken(failure: Failure) -> None:
        """End the replay: the output is closed."""
        failures.append(failure)
        playing.cancel()

    failures: list[Failure] = []
    with Progress(console(), board, reactor, broken):
        try:
            await playing
        except defer.CancelledError:
            if failures:
                failures[0].raiseException()
            raise
    counts = player.counts
    return 1 if counts.unanswered or counts.unsent or counts.refused else 0
