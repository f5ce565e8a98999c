"""Counts connections that could not be accepted, and logs the count once a minute."""

import re
from collections import Counter
from typing import Any, Final

from twisted.logger import LogEvent, Logger

#: Seconds between two lines.
PERIOD: Final = 60.0
#: What Twisted logs for each connection that it closes since the process has no descriptor left for it, and
#: for each attempt to accept that fails in another way; its remaining lines frame these.
_CLOSED: Final = "EMFILE recovery"
_FAILED: Final = re.compile(r"Could not accept")
_ADVICE: Final = {"EMFILE": "; raise LimitNOFILE in the unit (ulimit -n)"}


class AcceptErrors:
    """Replaces Twisted's log lines about failed accepts, several for each connection, by a line a minute.

    It is the observer of a listening port's own logger (`logger`). The first failure is logged at once.
    """

    log = Logger()

    def __init__(self, clock: Any, where: str) -> None:
        self._clock = clock
        self._where = where
        self._failures: Counter[str] = Counter()
        self._timer: Any = None

    @property
    def logger(self) -> Logger:
        """The logger for a `twisted.internet.tcp.Port`."""
        return Logger(observer=self.observe)  # type: ignore[arg-type]

    def observe(self, event: LogEvent) -> None:
        """Count a line of Twisted's."""
        text = str(event.get("log_format") or "")
        if text.startswith(_CLOSED):
            self._failures["EMFILE"] += 1
        elif _FAILED.match(text):
            self._failures[str(event.get("acceptError"))] += 1
        if self._failures and self._timer is None:
            self._report()

    def stop(self) -> None:
        """Log the remaining errors and cancel the timer."""
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._log_counts()

    def _report(self) -> None:
        self._timer = self._clock.callLater(PERIOD, self._period_over) if self._log_counts() else None

    def _period_over(self) -> None:
        self._timer = None
        self._report()

    def _log_counts(self) -> bool:
        failures, self._failures = self._failures, Counter()
        for reason, count in failures.items():
            self.log.warn(
                "connections that could not be accepted at {where}: {count} ({reason}){advice}",
                count=count,
                where=self._where,
                reason=reason,
                advice=_ADVICE.get(reason, ""),
            )
        return bool(failures)
