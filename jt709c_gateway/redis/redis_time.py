"""The clock that all gateways share: Redis's time, extrapolated with the monotonic clock."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.util.clock import Clock

#: Seconds by which a gateway's clock may differ from Redis's without a warning.
TOLERANCE: Final = 3.0
#: Difference in seconds at which a wrong clock counts as right again; less than the tolerance.
_RIGHT_AGAIN: Final = 2.0
#: Seconds by which an estimate may differ from Redis's reply, besides half its round-trip time.
_JITTER: Final = 0.002
#: Change in seconds of Redis's clock between two measurements that counts as a step.
_STEP: Final = 1.0


@define(eq=False)
class RedisTime:
    """Estimates Redis's `TIME` at any moment.

    `measure` reads it, at each new connection and with each heartbeat; in between it is extrapolated with
    `clock`, which must be monotonic, so a wrong or changed wall clock of the gateway has no effect. Before
    the first measurement the time is that of the wall clock at the start, and after it if the two agree.
    """

    log = Logger()

    clock: Clock
    #: The wall clock of this host, in epoch seconds: only used to report its error.
    wall: Callable[[], float] = time.time
    #: Called with the seconds by which Redis's clock has stepped, also by a fail-over.
    stepped: Callable[[float], None] = lambda seconds: None
    #: Whether a wrong clock of this host is logged.
    says: bool = True
    #: Whether Redis's time was measured yet.
    known: bool = field(default=False, init=False)
    _offset: float = field(init=False)
    _said: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._offset = self.wall() - self.clock.seconds()

    def seconds(self) -> float:
        """Return the current time of Redis's clock in epoch seconds."""
        return self.clock.seconds() + self._offset

    def utc(self) -> datetime:
        """Return the current time of Redis's clock as a datetime in UTC."""
        return datetime.fromtimestamp(self.clock.seconds() + self._offset, UTC)

    @property
    def skew(self) -> float | None:
        """Seconds by which this host's clock is ahead of Redis's; negative when behind; None when unknown."""
        return self.wall() - self.seconds() if self.known else None

    @property
    def is_right(self) -> bool:
        """Whether this host's clock agrees with Redis's; true when unknown."""
        skew = self.skew
        return skew is None or abs(skew) <= TOLERANCE

    async def measure(self, caller: Caller) -> None:
        """Read Redis's clock; txredisapi's errors are passed on."""
        asked = self.clock.seconds()
        seconds, microseconds = await caller.call("TIME")
        self.note(asked, self.clock.seconds(), int(seconds) + int(microseconds) / 1e6)

    def note(self, asked: float, answered: float, said: float) -> None:
        """Process a time of Redis, in epoch seconds, that was read between these two moments of `clock`.

        The estimate is kept if it agrees within the uncertainty, which is half the round-trip time.
        """
        doubt = (answered - asked) / 2
        offset = said - (asked + doubt)
        change = offset - self._offset
        known, self.known = self.known, True
        if abs(change) > doubt + _JITTER:
            self._offset = offset
            if known and abs(change) > doubt + _STEP:
                self.log.warn(
                    "Redis's clock was set {change} by {seconds:.1f} s; times go by it from now on",
                    change="forward" if change > 0 else "back",
                    seconds=abs(change),
                )
                self.stepped(change)
        self._judge()

    def _judge(self) -> None:
        """Log once when this host's clock is wrong, and once when it is right again."""
        if not self.says:
            return
        skew = self.skew or 0.0
        if not self._said and abs(skew) > TOLERANCE:
            self._said = True
            self.log.warn(
                "this host's clock is {seconds:.1f} s {way} Redis's; times go by Redis's, but the clock "
                "should be set (NTP)",
                seconds=abs(skew),
                way="ahead of" if skew > 0 else "behind",
            )
        elif self._said and abs(skew) <= _RIGHT_AGAIN:
            self._said = False
            self.log.info("this host's clock agrees with Redis's again")
