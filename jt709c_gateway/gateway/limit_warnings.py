"""Logs, at most every 10 minutes per limit, that connections are rejected."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.counters import Counters
from jt709c_gateway.util.clock import Clock

#: By reason: the option that sets the limit.
_OPTIONS: Final = {
    "max_connections": "--max-connections",
    "max_per_address": "--max-connections-per-address",
    "max_sessions": "--max-sessions",
    "evicted": "--max-sessions",
    "max_addresses": "--max-sessions",
}
#: Seconds between log lines about one limit.
_PAUSE: Final = 600.0


@define(eq=False)
class LimitWarnings:
    """Names a limit when it first rejects a connection, and every ten minutes while it does."""

    log = Logger()

    counters: Counters
    clock: Clock
    _warned: dict[str, float] = field(factory=dict, init=False)

    def dropped(self, reason: str) -> None:
        """Count a connection or datagram that was closed or rejected for a reason, and warn of its limit."""
        self.counters.dropped[reason] += 1
        option, now = _OPTIONS.get(reason), self.clock.seconds()
        if option is None or now - self._warned.get(reason, -_PAUSE) < _PAUSE:
            return
        self._warned[reason] = now
        self.log.warn(
            "{option} is reached, so locks are turned away ({reason}, so far {count})",
            option=option,
            reason=reason,
            count=self.counters.dropped[reason],
        )
