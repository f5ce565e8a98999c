"""Runs a coroutine under the reactor for a subcommand, with signals and notices."""

import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import click
from twisted.internet import defer
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import implementer

from jt709c_gateway.cli.console import plain

#: Seconds within which a repeated line is suppressed.
_SAME_TIME: Final = 2.0

Coro = Coroutine["defer.Deferred[Any]", Any, int]


def notice(text: str) -> None:
    """Print a line on standard error."""
    click.echo(plain(text), err=True)


@implementer(ILogObserver)
class _Observer:
    """Forwards warnings of the library; suppresses duplicates of two connections."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._last = ("", 0.0)

    def __call__(self, event: Any) -> None:
        if event.get("log_level") not in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            return
        text, now = " ".join(formatEvent(event).split()), time.monotonic()
        before, then = self._last
        self._last = (text, now)
        if text != before or now - then > _SAME_TIME:
            self._tell(text)


def run(begin: Callable[[Any], Coro], tell: Callable[[str], None] = notice) -> int:
    """Run `begin(reactor)` until it finishes; return its result, the exit status.

    SIGINT and SIGTERM cancel it, so that its `finally` can tidy up; a second one ends it at once, and the
    status is 128 and the signal's number. `tell` gets what the library has to warn of, one line each. What
    the coroutine raises is raised.
    """
    from twisted.internet import reactor

    running: Any = reactor
    results: list[int | Failure] = []
    signals: list[int] = []

    def stop() -> None:
        if running.running:
            running.stop()

    def finish(result: int | Failure) -> None:
        results.append(result)
        stop()

    def start() -> None:
        task = defer.Deferred.fromCoroutine(begin(running))

        def interrupted(number: int, _: object) -> None:
            signals.append(number)
            running.callFromThread(task.cancel if len(signals) == 1 else stop)

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupted)
        task.addBoth(finish)

    # Type checkers don't see what zope.interface declares at run time.
    observer: Any = _Observer(tell)
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False, discardBuffer=True)
    running.callWhenRunning(start)
    running.run()
    # What follows, such as printing, is interrupted as usual.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    result = results[0] if results else 1
    error = result.value if isinstance(result, Failure) else None
    if error is not None and not isinstance(error, defer.CancelledError):
        raise error
    if signals:
        return 128 + signals[0]
    return result if isinstance(result, int) else 1
