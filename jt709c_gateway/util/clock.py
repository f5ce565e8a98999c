"""What is needed of a reactor to tell the time and to do things later."""

import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    """IReactorTime, as a type; `twisted.internet.task.Clock` is one as well."""

    def seconds(self) -> float:
        """Seconds since some fixed moment."""

    def callLater(self, delay: float, callable: Callable[..., Any], *args: Any) -> Any:
        """Call it `delay` seconds from now."""


def count_monotonic(reactor: Any) -> None:
    """Have a reactor count its seconds on the monotonic clock, and with it every timer that it runs.

    Twisted's own count is the wall clock's: set back by an hour, it holds every delayed call for that hour.
    What has been scheduled already keeps the time that it has left.
    """
    if reactor.seconds is time.monotonic:
        return
    shift = time.monotonic() - reactor.seconds()
    for call in reactor.getDelayedCalls():
        call.time += shift
        call.seconds = time.monotonic
    reactor.seconds = time.monotonic
