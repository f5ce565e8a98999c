"""How long records may wait for company before they are sent to Redis."""

from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.util.clock import Clock

#: Records that make a call worth its cost, so that none of them waits any longer.
ENOUGH: Final = 12


@define(eq=False)
class CommitWindow:
    """Decides whether the queued records are sent now or wait for others.

    A call to Redis costs much more than a record in it. So a record that may wait does so until `length`
    seconds after the oldest queued one came, `ENOUGH` records are there, or an urgent one comes.
    """

    clock: Clock
    #: In seconds; 0 for no waiting.
    length: float = 0.0
    #: When the queued records must be sent; None for now.
    _due: float | None = field(default=None, init=False)
    _timer: Any = field(default=None, init=False, repr=False)

    def joined(self, queued: int, may_wait: bool) -> None:
        """Take a record into account that has come; `queued` counts the records with it."""
        if not may_wait or not self.length or queued >= ENOUGH:
            self._due = None
        elif queued == 1:
            self._due = self.clock.seconds() + self.length

    def holds(self, send: Callable[[], None]) -> bool:
        """Whether the queued records still wait; if so, `send` is called when their window ends."""
        if self._due is not None and self._timer is None:
            left = self._due - self.clock.seconds()
            if left > 0:
                self._timer = self.clock.callLater(left, self._end, send)
            else:
                self._due = None
        if self._due is None:
            self.close()
        return self._due is not None

    def close(self) -> None:
        """Let no queued record wait any longer: they are being sent, or will be with the next call."""
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, send: Callable[[], None]) -> None:
        self._timer = self._due = None
        send()
