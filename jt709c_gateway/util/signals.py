"""Signals of a running gateway: SIGHUP rereads files, SIGUSR1 and SIGUSR2 don't end it, a second stop is
ignored.

The defaults of twistd and the reactor remain: SIGTERM and SIGINT stop the gateway gracefully, and SIGUSR1
rotates a ``--logfile``.
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
    """Calls `reread` in the reactor's thread for each SIGHUP, from its start on."""

    log = Logger()

    def __init__(self, reactor: Any, reread: Callable[[], object]) -> None:
        self._reactor = reactor
        self._reread = reread
        self._stopping = False

    def startService(self) -> None:
        """Install the handlers; those that stop the reactor after its own ones."""
        super().startService()  # type: ignore[no-untyped-call]
        signal.signal(signal.SIGHUP, self._hung_up)
        for number in _UNUSED:
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.SIG_IGN)
        self._reactor.callWhenRunning(self._guard_stops)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._shutting_down)

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._reread_files)

    def _reread_files(self) -> None:
        if self._stopping:
            return
        self.log.info("SIGHUP: reopening the log and rereading files")
        reopen_logs()
        try:
            self._reread()
        except Exception:
            self.log.failure("rereading files failed")

    def _shutting_down(self) -> None:
        self._stopping = True

    def _guard_stops(self) -> None:
        for number in _STOPS:
            before = signal.getsignal(number)
            if callable(before):
                signal.signal(number, self._once(before))

    def _once(self, stop: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        def asked(number: int, frame: FrameType | None) -> None:
            # The reactor raises on a second stop.
            if self._stopping:
                self._reactor.callFromThread(self._log_stopping, signal.Signals(number).name)
                return
            self._stopping = True
            stop(number, frame)

        return asked

    def _log_stopping(self, name: str) -> None:
        self.log.info("{name}: already stopping; SIGKILL ends the process at once", name=name)


def reopen_logs() -> None:
    """Reopen the files of ``twistd --logfile`` by name, after they were renamed.

    If a file can't be opened, that is logged, and the open one stays in use.
    """
    # Twistd's log file has no public accessor.
    for observer in list(getattr(globalLogPublisher, "_observers", ())):
        file = getattr(observer, "_outFile", None)
        if isinstance(file, BaseLogFile):
            try:
                # A closed file can't be used again.
                os.close(os.open(file.path, os.O_RDWR | os.O_CREAT, 0o666))
                file.reopen()  # type: ignore[no-untyped-call]
            except OSError as error:
                Signals.log.error(
                    "cannot reopen the log {path}: {reason}; continuing with the open file",
                    path=file.path,
                    reason=error.strerror,
                )
