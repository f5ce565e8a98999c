"""Counts the whole fleet regularly, so that /metrics need not wait for Redis."""

from collections.abc import Mapping
from typing import Any, Final

import txredisapi
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.periodic import PeriodicService
from jt709c_gateway.redis.errors import explain
from jt709c_gateway.redis.fleet_stats import FleetCounts, count_fleet

#: Seconds between counts, as often as Prometheus usually scrapes.
EVERY: Final = 15.0
#: Seconds between log lines about a limit of the whole fleet.
_PAUSE: Final = 600.0
#: By kind of deleted data: the option that limits it, and its description for the log.
_LIMITS: Final = {
    "devices": ("--devices-max", "locks' last states"),
    "histories": ("--histories-max", "locks' audit trails"),
}


class FleetStats(PeriodicService):
    """Keeps the last count in `fleet`; None when the last attempt has failed."""

    log = Logger()

    def __init__(self, reactor: Any, context: CommandContext) -> None:
        super().__init__(reactor, EVERY, self.on_redis_ready)
        self.fleet: FleetCounts | None = None
        self._context = context
        self._refusal = ""
        #: Deletions as of the last log line, and when the next line is allowed.
        self._let_go: Mapping[str, int] | None = None
        self._next_line = 0.0
        self._reactor = reactor

    def on_redis_ready(self) -> "defer.Deferred[None]":
        """Count now. The Deferred never fails."""
        return defer.Deferred.fromCoroutine(self._count()).addErrback(self._failed)

    async def _count(self) -> None:
        context = self._context
        try:
            self.fleet = await count_fleet(context.store.caller, context.store.keys, context.now())
            self._refusal = ""
            self._warn_of_limits(self.fleet)
        except txredisapi.ConnectionError:
            self.fleet = None
        except txredisapi.RedisError as error:
            self.fleet = None
            self._log_refusal(explain(str(error)))

    def _log_refusal(self, refusal: str) -> None:
        # Logged once: neither devices nor commands depend on it.
        if refusal != self._refusal:
            self._refusal = refusal
            self.log.warn(
                "Redis refuses to count the fleet: {reason}; without it /metrics has no jt709c_fleet_*",
                reason=refusal,
            )

    def _warn_of_limits(self, fleet: FleetCounts) -> None:
        before, now = self._let_go, self._reactor.seconds()
        if before is None or any(fleet.let_go[what] < before[what] for what in _LIMITS):
            # At the start, and after the store was emptied, earlier deletions are not ours to report.
            self._let_go = before = fleet.let_go
        if now < self._next_line:
            return
        for what, (option, text) in _LIMITS.items():
            if fleet.let_go[what] > before[what]:
                self._let_go, self._next_line = fleet.let_go, now + _PAUSE
                self.log.warn(
                    "{option} is reached: {count} " + text + " had to go, {total} so far",
                    option=option,
                    count=fleet.let_go[what] - before[what],
                    total=fleet.let_go[what],
                )

    def _failed(self, failure: Any) -> None:
        self.fleet = None
        self.log.failure("counting the fleet failed", failure)
