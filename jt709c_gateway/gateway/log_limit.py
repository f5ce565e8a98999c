"""Lines about other people's mistakes, so many a minute: a line for each would fill a disk."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.util.clock import Clock

MOST_LINES: Final = 20
_SECONDS: Final = 60.0


@define
class LogLimiter:
    """Lets at most `most` lines about one thing into the log in a minute, and tells how many it left out.

    `things` says in the log what they are about, in the plural.
    """

    log = Logger()

    clock: Clock
    things: str
    most: int = MOST_LINES
    _began: float | None = field(default=None, init=False)
    _lines: int = field(default=0, init=False)
    _suppressed: int = field(default=0, init=False)

    def may_log(self) -> bool:
        """Whether one more line may go into the log."""
        self.log_suppressed()
        if self._began is None:
            self._began = self.clock.seconds()
        if self._lines < self.most:
            self._lines += 1
            return True
        self._suppressed += 1
        return False

    def log_suppressed(self, *, now: bool = False) -> None:
        """Say how many lines were left out when their minute is over, or `now`."""
        if self._began is None or not (now or self.clock.seconds() - self._began >= _SECONDS):
            return
        suppressed, self._suppressed, self._lines, self._began = self._suppressed, 0, 0, None
        if suppressed:
            self.log.warn(
                "{count} more {things} in the last minute were left out of the log",
                count=suppressed,
                things=self.things,
            )
