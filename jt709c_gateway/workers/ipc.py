"""Status queries from the supervisor to a worker, over an inherited socket.

The worker sends a report when it has started; then one for each query. Both are netstrings; a query is empty,
a report is JSON: ``{"readiness": {"ready": true, …}, "metrics": "# HELP …"}``.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from twisted.internet import defer
from twisted.protocols.basic import NetstringReceiver
from twisted.python.failure import Failure

#: Maximum size of a report in bytes: a worker's metrics have about 10 KiB.
_MAX_REPORT: Final = 1 << 20


@frozen
class Report:
    """A worker's status: its readiness, and its metrics in Prometheus's text format."""

    readiness: dict[str, Any]
    metrics: str


class StatusReporter(NetstringReceiver):
    """The worker's end."""

    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def report(self) -> None:
        """Send a report."""
        report = self._report()
        text = json.dumps({"readiness": report.readiness, "metrics": report.metrics})
        self.sendString(text.encode())  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """Answer a query with a report."""
        self.report()


class StatusClient(NetstringReceiver):
    """The supervisor's end. `started` is called with the first report."""

    MAX_LENGTH = _MAX_REPORT

    def __init__(self, started: Callable[[], None]) -> None:
        self._started: Callable[[], None] | None = started
        self._asked = False
        self._waiting: list[defer.Deferred[Report | None]] = []

    def ask(self) -> "defer.Deferred[Report | None]":
        """Return a Deferred of the next report, or of None if the worker ends first; it may be cancelled."""
        if not self.connected:
            return defer.succeed(None)
        waiting: defer.Deferred[Report | None] = defer.Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        # A worker that doesn't answer gets no further queries.
        if not self._asked:
            self._asked = True
            self.sendString(b"")  # type: ignore[no-untyped-call]
        return waiting

    def stringReceived(self, string: bytes) -> None:
        """Process a report."""
        report = Report(**json.loads(string))
        if self._started is not None:
            started, self._started = self._started, None
            started()
            return
        self._asked = False
        self._answer(report)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Fail the pending query: the worker has ended."""
        self._answer(None)

    def _answer(self, report: Report | None) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            one.callback(report)
