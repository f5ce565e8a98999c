"""Runs one worker process and restarts it when it ends."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import evolve
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.redis.connection import retry_delay
from jt709c_gateway.transport.listeners import ListenError
from jt709c_gateway.transport.shared_ports import SharedPort
from jt709c_gateway.workers.ipc import Report
from jt709c_gateway.workers.worker_process import WorkerProcess

#: Seconds after which a worker counts as stable.
_STEADY: Final = 60.0
#: Timeout of a status query, in seconds.
_REPORT_TIMEOUT: Final = 2.0


class Worker:
    """A gateway with its own name in its own process, on its sockets of the shared ports.

    `failed` is called with the reason if the worker ends before it was ever up: another start would fail,
    too. Later it is restarted, at once and on the same sockets. If it ends quickly again, its sockets are
    closed until the next start, so that its locks go to the other workers.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        number: int,
        name: str,
        ports: Sequence[SharedPort],
        failed: Callable[[str], None],
        stop_timeout: float,
    ) -> None:
        self.name = name
        #: Number of restarts.
        self.restarts = 0
        #: The answer to the last query; None without an answer.
        self.report: Report | None = None
        self._reactor = reactor
        self._number = number
        self._ports = ports
        self._failed = failed
        self._stop_timeout = stop_timeout
        self._life: defer.Deferred[None] | None = None
        self._process: WorkerProcess | None = None
        self._was_up = False

    def start(self, settings: Settings, profiles: ProfileRegistry) -> None:
        """Start the worker, and keep it running."""
        settings = evolve(settings, gateway=self.name)
        self._life = defer.Deferred.fromCoroutine(self._live(settings, profiles))
        self._life.addErrback(self._ended)

    def stop(self) -> "defer.Deferred[Any]":
        """Stop the worker gracefully; return a Deferred of its end, at the latest after `stop_timeout`."""
        life = self._life
        if life is None:
            return defer.succeed(None)
        life.cancel()
        return life

    def reread(self) -> None:
        """Make the worker reread its files; a starting one reads them anyway."""
        if self._process is not None and self._process.is_up:
            self._process.signal("HUP")

    async def ask(self) -> None:
        """Query the worker's status."""
        process = self._process
        self.report = None if process is None else await process.ask(self._reactor, _REPORT_TIMEOUT)

    def _ended(self, failure: Any) -> None:
        if not failure.check(defer.CancelledError):
            self.log.failure("the supervision of worker {name} failed", failure, name=self.name)
            self._failed(f"worker {self.name}: {failure.getErrorMessage()}")

    async def _live(self, settings: Settings, profiles: ProfileRegistry) -> None:
        quick_ends = 0
        try:
            while True:
                began = self._reactor.seconds()
                reason = await self._run(settings, profiles)
                if not self._was_up:
                    self._failed(f"worker {self.name} did not start: {reason}")
                    return
                quick_ends = 0 if self._reactor.seconds() - began >= _STEADY else quick_ends + 1
                self.log.error("worker {name} ended ({reason}); restarting it", name=self.name, reason=reason)
                if quick_ends > 1:
                    for port in self._ports:
                        port.close(self._number)
                if quick_ends:
                    await task.deferLater(self._reactor, retry_delay(quick_ends), lambda: None)
                self.restarts += 1
        finally:
            await self._end_process()

    async def _run(self, settings: Settings, profiles: ProfileRegistry) -> str:
        """Run the process until it ends; return the reason."""
        process = WorkerProcess(self.name, self._up)
        try:
            sockets = [(port.open(self._number), port.proxied) for port in self._ports]
            process.spawn(self._reactor, settings, profiles, sockets)
        except (OSError, ListenError) as error:
            return str(error)
        self._process = process
        reason = await process.when_ended()
        self._process = None
        return f"{reason}: {process.last_stderr_line}" if process.last_stderr_line else reason

    def _up(self) -> None:
        self._was_up = True
        if self._process is not None:
            self._process.is_up = True
            self.log.info("worker {name} is up (pid {pid})", name=self.name, pid=self._process.pid)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None and not await process.end(self._reactor, self._stop_timeout):
            self.log.warn(
                "worker {name} did not end within {limit:g} s; killed it",
                name=self.name,
                limit=self._stop_timeout,
            )
