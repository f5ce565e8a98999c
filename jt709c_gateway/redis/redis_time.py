"""The time that all gateways share: Redis's, carried on by the monotonic clock between two looks at it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.util.clock import Clock

#: Seconds by which a gateway's clock may differ from Redis's without being called wrong.
TOLERANCE: Final = 3.0
#: Seconds of a difference, below the tolerance, at which a wrong clock counts as right again.
_RIGHT_AGAIN: Final = 2.0
#: Seconds by which an estimate may differ from what Redis says, beyond the time that its answer took.
_JITTER: Final = 0.002
#: Seconds by which Redis's clock has to leave ours between two looks for that to be called a step.
_STEP: Final = 1.0


@define(eq=False)
class RedisTime:
    """Redis's `TIME` at any moment, without asking for it.

    `measure` takes a look, at each new connection and with each heartbeat; in between, `clock`, which must be
    monotonic, carries the time on, so that a gateway's wall clock that is wrong or is set changes nothing.
    Before the first look it is the wall clock's time as of the start, and after it if the two agree.
    """

    log = Logger()

    clock: Clock
    #: The wall clock of this host, in epoch seconds: only to tell how far it is off.
    wall: Callable[[], float] = time.time
    #: Told by how many seconds Redis's own clock was set, or that of the server which took its place.
    stepped: Callable[[float], None] = lambda seconds: None
    #: Whether it says in the log that the host's clock is wrong.
    says: bool = True
    #: Whether Redis has been looked at yet.
    known: bool = field(default=False, init=False)
    _offset: float = field(init=False)
    _said: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._offset = self.wall() - self.clock.seconds()

    def seconds(self) -> float:
        """Now, in epoch seconds of Redis's clock."""
        return self.clock.seconds() + self._offset

    def utc(self) -> datetime:
        """The same as a date."""
        return datetime.fromtimestamp(self.clock.seconds() + self._offset, UTC)

    @property
    def skew(self) -> float | None:
        """Seconds by which this host's clock is ahead of Redis's; negative behind; None when unknown."""
        return self.wall() - self.seconds() if self.known else None

    @property
    def is_right(self) -> bool:
        """Whether this host's clock agrees with Redis's, as far as is known."""
        skew = self.skew
        return skew is None or abs(skew) <= TOLERANCE

    async def measure(self, caller: Caller) -> None:
        """Take a look at Redis's clock; txredisapi's errors as they come."""
        asked = self.clock.seconds()
        seconds, microseconds = await caller.call("TIME")
        self.note(asked, self.clock.seconds(), int(seconds) + int(microseconds) / 1e6)

    def note(self, asked: float, answered: float, said: float) -> None:
        """Redis said its time, in epoch seconds, between these two moments of `clock`.

        An estimate that this agrees with is kept: the longer an answer took, the less it says.
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
        """Say it once when this host's clock is off, and once when it is right again."""
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
