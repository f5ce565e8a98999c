"""Measures Redis's clock regularly, so that all gateways use its time."""

from typing import Any, Final

import txredisapi
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.periodic import PeriodicService
from jt709c_gateway.redis.errors import ErrorLog
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.redis.scripts import Caller

#: Longest time between measurements, in seconds.
_EVERY: Final = 5.0


class ClockSync(PeriodicService):
    """Measures over `caller` while it is connected; errors are logged."""

    log = Logger()

    def __init__(self, reactor: Any, redis_time: RedisTime, caller: Caller, heartbeat: float) -> None:
        """`heartbeat` is the time between heartbeats, in seconds."""
        super().__init__(reactor, min(heartbeat, _EVERY), self.measure)
        self._time = redis_time
        self.caller = caller
        self._errors = ErrorLog(reactor)

    def measure(self) -> "defer.Deferred[None]":
        """Measure now. The Deferred never fails."""
        return defer.Deferred.fromCoroutine(self._time.measure(self.caller)).addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        if failure.check(txredisapi.RedisError):
            self._errors.report("to tell the time", failure.value)
        else:
            self.log.failure("measuring Redis's clock failed", failure)
