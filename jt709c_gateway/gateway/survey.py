"""Counts the whole fleet every now and then, so that /metrics needs not wait for Redis."""

from typing import Any, Final

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.refusals import explain
from jt709c_gateway.redis.survey import Fleet, count

from .orders import Orders

#: Seconds from one count to the next: as often as Prometheus usually asks.
EVERY: Final = 15.0


class Survey(Service):
    """`fleet` is what the last count gave; None where it failed: no number is better than an old one."""

    log = Logger()

    def __init__(self, reactor: Any, orders: Orders) -> None:
        self.fleet: Fleet | None = None
        self._orders = orders
        self._refusal = ""
        self._loop = task.LoopingCall(self.wake)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Count at once, and then every `EVERY` seconds."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(EVERY)

    def stopService(self) -> None:
        """Count no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def wake(self) -> "defer.Deferred[None]":
        """Count now: Redis has (again) become usable. It never fails."""
        return defer.Deferred.fromCoroutine(self._count()).addErrback(self._failed)

    async def _count(self) -> None:
        orders = self._orders
        try:
            self.fleet = await count(orders.store.caller, orders.store.keys, orders.now())
            self._refusal = ""
        except txredisapi.ConnectionError:
            self.fleet = None
        except txredisapi.RedisError as error:
            self.fleet = None
            self._say(explain(str(error)))

    def _say(self, refusal: str) -> None:
        # Once: no lock and no order suffers from it.
        if refusal != self._refusal:
            self._refusal = refusal
            self.log.warn(
                "Redis refuses to count the fleet: {reason}; without it /metrics has no jt709c_fleet_*",
                reason=refusal,
            )

    def _failed(self, failure: Any) -> None:
        self.fleet = None
        self.log.failure("counting the fleet failed", failure)
