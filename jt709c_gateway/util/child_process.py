"""A child process, from its parent's view."""

from contextlib import suppress
from typing import Any

from twisted.internet import defer, error
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure


class ChildProcess(ProcessProtocol):
    """A child process: its pid, its signals and its end."""

    def __init__(self) -> None:
        self.pid: int | None = None
        #: Description of its end; None while it runs.
        self.exit: str | None = None
        self._waiting: list[defer.Deferred[str]] = []

    def connectionMade(self) -> None:
        """Note that the process runs."""
        transport: Any = self.transport
        self.pid = transport.pid

    def signal(self, name: str) -> None:
        """Send TERM, KILL or HUP, unless the process has just ended."""
        transport: Any = self.transport
        with suppress(error.ProcessExitedAlready):
            transport.signalProcess(name)

    def when_ended(self) -> "defer.Deferred[str]":
        """Return a Deferred of the description of its end."""
        if self.exit is not None:
            return defer.succeed(self.exit)
        result: defer.Deferred[str] = defer.Deferred()
        self._waiting.append(result)
        return result

    async def end(self, reactor: Any, timeout: float) -> bool:
        """Send TERM, and KILL after `timeout` seconds; return whether TERM was enough."""
        if self.exit is None:
            self.signal("TERM")
            try:
                await self.when_ended().addTimeout(timeout, reactor)
            except defer.TimeoutError:
                self.signal("KILL")
                await self.when_ended()
                return False
        return True

    def processEnded(self, reason: Failure) -> None:
        """Note that the process has ended and its output was read."""
        number = getattr(reason.value, "signal", None)
        status = getattr(reason.value, "exitCode", None)
        self.exit = f"signal {number}" if number else f"exit status {status}"
        for result in self._waiting:
            result.callback(self.exit)
