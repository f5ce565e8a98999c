"""Logs, at most every 10 minutes per limit, that connections are rejected."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

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


@define
class LimitWarnings:
    """Names a limit when it first rejects a connection, and every ten minutes while it does."""

    log = Logger()

    _warned: dict[str, float] = field(factory=dict, init=False)

    def warn(self, reason: str, count: int, now: float) -> None:
        """Log that a connection was rejected; `count` is the number of rejections for this reason."""
        option = _OPTIONS.get(reason)
        if option is None or now - self._warned.get(reason, -_PAUSE) < _PAUSE:
            return
        self._warned[reason] = now
        self.log.warn(
            "{option} is reached, so locks are turned away ({reason}, so far {count})",
            option=option,
            reason=reason,
            count=count,
        )
