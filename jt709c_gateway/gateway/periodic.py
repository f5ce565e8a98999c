"""A service that does the same thing again and again."""

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet import task


class PeriodicService(Service):
    """Calls `step`, which never fails, at its start and then every `interval` seconds.

    Unlike Twisted's TimerService, `stopService` doesn't wait for a step under way: that may wait for Redis.
    """

    def __init__(self, reactor: Any, interval: float, step: Callable[[], Any]) -> None:
        self._interval = interval
        self._loop = task.LoopingCall(step)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Take the first step."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._interval)

    def stopService(self) -> None:
        """Begin no further step."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()
