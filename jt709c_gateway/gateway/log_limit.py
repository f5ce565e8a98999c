"""Limits log lines about bad input per minute, so that they do not fill a disk."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.util.clock import Clock

MOST_LINES: Final = 20
_SECONDS: Final = 60.0


@define
class LogLimiter:
    """Allows at most `most` log lines per minute, and logs how many were suppressed.

    `things` describes the lines in the log, in the plural.
    """

    log = Logger()

    clock: Clock
    things: str
    most: int = MOST_LINES
    _began: float | None = field(default=None, init=False)
    _lines: int = field(default=0, init=False)
    _suppressed: int = field(default=0, init=False)

    def may_log(self) -> bool:
        """Whether another line may be logged."""
        self.log_suppressed()
        if self._began is None:
            self._began = self.clock.seconds()
        if self._lines < self.most:
            self._lines += 1
            return True
        self._suppressed += 1
        return False

    def log_suppressed(self, *, now: bool = False) -> None:
        """Log the number of suppressed lines when their minute is over, or `now`."""
        if self._began is None or not (now or self.clock.seconds() - self._began >= _SECONDS):
            return
        suppressed, self._suppressed, self._lines, self._began = self._suppressed, 0, 0, None
        if suppressed:
            self.log.warn(
                "{count} more {things} in the last minute were left out of the log",
                count=suppressed,
                things=self.things,
            )
