"""Measures Redis's clock regularly, so that all gateways use its time."""

from typing import Any, Final

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.errors import ErrorLog
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.redis.scripts import Caller

#: Longest time between measurements, in seconds.
_EVERY: Final = 5.0


class ClockSync(Service):
    """Measures over `caller` while it is connected; errors are logged."""

    log = Logger()

    def __init__(self, reactor: Any, redis_time: RedisTime, caller: Caller, heartbeat: float) -> None:
        """`heartbeat` is the time between heartbeats, in seconds."""
        self._time = redis_time
        self.caller = caller
        self._interval = min(heartbeat, _EVERY)
        self._errors = ErrorLog(reactor)
        self._loop = task.LoopingCall(self.measure)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Measure at once, and then with each heartbeat."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._interval)

    def stopService(self) -> None:
        """Stop measuring."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def measure(self) -> "defer.Deferred[None]":
        """Measure now. The Deferred never fails."""
        return defer.Deferred.fromCoroutine(self._time.measure(self.caller)).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        if failure.check(txredisapi.RedisError):
            self._errors.report("to tell the time", failure.value)
        else:
            self.log.failure("measuring Redis's clock failed", failure)
