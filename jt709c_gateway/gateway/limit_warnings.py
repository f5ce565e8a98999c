"""Telling in the log which limit turns locks away: seldom, since a line for each link would fill a disk."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

#: The reasons that are a limit's, and the option that sets it.
_OPTIONS: Final = {
    "max_connections": "--max-connections",
    "max_per_address": "--max-connections-per-address",
    "max_sessions": "--max-sessions",
    "evicted": "--max-sessions",
    "max_addresses": "--max-sessions",
}
#: Seconds between two lines about one limit.
_PAUSE: Final = 600.0


@define
class LimitWarnings:
    """Names a limit when it first turns a lock away, and again every ten minutes while it does."""

    log = Logger()

    _warned: dict[str, float] = field(factory=dict, init=False)

    def warn(self, reason: str, count: int, now: float) -> None:
        """A link was closed for this reason, the last of so many."""
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
