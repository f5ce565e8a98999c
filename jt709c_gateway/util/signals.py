"""Signals of a running gateway: SIGHUP has files read again, SIGUSR1 and SIGUSR2 are nobody's, and a stop is
asked for once.

What twistd and the reactor do by themselves stays: SIGTERM and SIGINT stop the gateway in good order, and
SIGUSR1 rotates a ``--logfile``.
"""

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from twisted.application.service import Service
from twisted.logger import Logger, globalLogPublisher
from twisted.python.logfile import BaseLogFile

_STOPS: Final = (signal.SIGINT, signal.SIGTERM)
_UNUSED: Final = (signal.SIGUSR1, signal.SIGUSR2)


class Signals(Service):
    """Has `reread` called in the reactor's thread for each SIGHUP, from its start on."""

    log = Logger()

    def __init__(self, reactor: Any, reread: Callable[[], object]) -> None:
        self._reactor = reactor
        self._reread = reread
        self._stopping = False

    def startService(self) -> None:
        """Take the signals over, those that stop the reactor when it has done so itself."""
        super().startService()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGHUP, self._hung_up)
        for number in _UNUSED:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)
        self._reactor.callWhenRunning(self._guard_stops)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._shutting_down)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._read_again)

    def _read_again(self) -> None:
        if self._stopping:
            return
        self.log.info("SIGHUP: reopening the log, and reading again what is read again while running")
        reopen_logs()
        try:
            self._reread()
        except Exception:
            self.log.failure("reading files again failed")

    def _shutting_down(self) -> None:
        self._stopping = True

    def _guard_stops(self) -> None:
        for number in _STOPS:
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, self._once(before))

    def _once(self, stop: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        def asked(number: int, frame: FrameType | None) -> None:
            # The reactor, asked a second time, would complain.
            if self._stopping:
                self._reactor.callFromThread(self._say_stopping, signal.Signals(number).name)
                return
            self._stopping = True
            stop(number, frame)

        return asked

    def _say_stopping(self, name: str) -> None:
        self.log.info("{name}: stopping already; SIGKILL would end it at once", name=name)


def reopen_logs() -> None:
    """Open the files of ``twistd --logfile`` by their names again, after somebody has moved them aside.

    A file that can't be opened is said, and the one before goes on.
    """
    # There is no public way to what twistd has begun to log to.
    for observer in list(getattr(globalLogPublisher, "_observers", ())):
        file = getattr(observer, "_outFile", None)
        if isinstance(file, BaseLogFile):
            try:
                # A file that was closed can't be gone back to.
                os.close(os.open(file.path, os.O_RDWR | os.O_CREAT, 0o666))
                file.reopen()  # type: ignore[no-untyped-call]
            except OSError as error:
                Signals.log.error(
                    "cannot open the log {path} again: {reason}; writing on into the one that is open",
                    path=file.path,
                    reason=error.strerror,
                )
