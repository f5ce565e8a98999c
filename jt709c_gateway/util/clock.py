"""The clock interface of a reactor, and a monotonic clock for it."""

import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """IReactorTime, as a type; `twisted.internet.task.Clock` is one as well."""

    def seconds(self) -> float:
        """Seconds since some fixed moment."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        """Call a function in `delay` seconds."""


def count_monotonic(reactor: Any) -> None:
    """Make a reactor use the monotonic clock, also for all of its timers.

    Twisted uses the wall clock: if it is set back by an hour, every delayed call is delayed by that hour.
    Calls that are already scheduled keep their remaining time.
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic
