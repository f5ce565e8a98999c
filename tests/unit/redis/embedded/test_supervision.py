"""Promise: the embedded server comes back, whatever kept it from starting; or the gateway ends and says why.

A gateway that goes on without its server serves no lock, and systemd starts again only what has ended.
"""

import errno
import os
import resource
import signal
from collections.abc import Callable
from typing import Any
from unittest import mock

from twisted.internet import reactor, task
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.redis.embedded import server as embedded
from jt709c_gateway.redis.embedded.server import EmbeddedServer, EmbeddedServerError
from jt709c_gateway.util.file_descriptors import DescriptorReserve, room_for_connections
from tests.support import RedisClient, temporary_path, wait_until
from tests.support.daemon import Daemon, Lock
from tests.support.reporter import report

_FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))"


class SupervisionTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.gone: list[str] = []
        self.server = EmbeddedServer(reactor, temporary_path(self), gone=self.gone.append)
        self.addCleanup(self.server.stopService)

    def observe(self, event: dict[str, Any]) -> None:
        if event.get("log_namespace", "").startswith("jt709c_gateway.redis.embedded.server"):
            self.lines.append(formatEvent(event))

    async def until(self, predicate: Callable[[], object]) -> None:
        while not predicate():
            await task.deferLater(reactor, 0.01, lambda: None)

    async def kill(self) -> None:
        """Have the server die."""
        os.kill(self.server.pid, signal.SIGKILL)
        await self.until(lambda: any("ended (signal 9)" in line for line in self.lines))

    async def check_comes_back(self, owner: Any, name: str, *problems: BaseException) -> None:
        """Have these come out of this method, one after the other, when it is started again."""
        address = await self.server.start()
        real, left = getattr(owner, name), list(problems)

        def fails(*arguments: Any, **options: Any) -> Any:
            if left:
                raise left.pop(0)
            return real(*arguments, **options)

        with (
            mock.patch.object(owner, name, fails),
            mock.patch.object(embedded, "retry_delay", lambda _: 0.01),
        ):
            await self.kill()
            await self.until(lambda: any("is back at" in line for line in self.lines))
        self.assertEqual(left, [])
        with RedisClient(address.port, password=address.password) as client:
            self.assertEqual(client.call("PING"), b"PONG")
        self.assertEqual(self.gone, [])

    async def test_comes_back_when_no_process_could_be_started(self) -> None:
        """No descriptors, no memory, no processes: once each, or several times, and then it is there."""
        numbers = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)
        problems = [OSError(number, os.strerror(number)) for number in numbers]
        await self.check_comes_back(reactor, "spawnProcess", *problems, MemoryError())
        self.assertTrue(any("cannot start a process" in line for line in self.lines), self.lines)

    async def test_comes_back_when_its_files_could_not_be_written(self) -> None:
        """The same when it is the configuration or the log that can't be opened."""
        for name in ("tidy", "write_config", "open_log"):
            self.lines.clear()
            full, want = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EMFILE, "Too many")
            await self.check_comes_back(self.server._directory, name, full, want)

    async def test_comes_back_after_an_error_nobody_thought_of(self) -> None:
        """An exception of any kind ends an attempt, and not the attempts."""
        await self.check_comes_back(
            self.server, "_spawn", RuntimeError("oops"), KeyError("x"), RecursionError()
        )

    async def test_given_up_when_this_process_cannot_start_it(self) -> None:
        """When this process can't start any for a while, whoever can end it is told; one line, no more."""
        await self.server.start()
        problem = OSError(errno.ENOMEM, "Cannot allocate memory")
        with (
            mock.patch.object(reactor, "spawnProcess", mock.Mock(side_effect=problem)),
            mock.patch.object(embedded, "_HOPELESS", 0.3),
        ):
            await self.kill()
            await self.until(lambda: self.gone)
        (reason,) = self.gone
        self.assertIn("can't be started again", reason)
        self.assertIn("Cannot allocate memory", reason)
        self.assertNotIn("\n", reason)
        # It can be started again, by whoever wants to try.
        await self.server.start()

    async def test_goes_on_trying_while_the_server_refuses(self) -> None:
        """A full disk is no reason to end: it is waited for, as long as that takes."""
        await self.server.start()
        refused = EmbeddedServerError("embedded Valkey did not start: exit status 1")
        with (
            mock.patch.object(self.server, "_bring_up", mock.Mock(side_effect=refused)) as tried,
            mock.patch.object(embedded, "_HOPELESS", 0.0),
            mock.patch.object(embedded, "retry_delay", lambda _: 0.01),
        ):
            await self.kill()
            await self.until(lambda: tried.call_count > 20)
        await self.until(lambda: any("is back at" in line for line in self.lines))
        self.assertEqual(self.gone, [])

    async def test_its_log_goes_on_being_bounded(self) -> None:
        """A log that once can't be moved aside is looked at again."""
        with mock.patch.object(self.server._directory, "bound_log", side_effect=OSError(5, "I/O error")):
            self.server._bound_log()
        self.assertIn("I/O error", self.lines[-1])


class DaemonTests(SynchronousTestCase):
    def start(self, prelude: str, *options: str) -> Daemon:
        daemon = Daemon(*options, prelude=prelude)
        self.addCleanup(daemon.discard)
        return daemon.start()

    def test_comes_back_while_strangers_hold_all_connections(self) -> None:
        """Connections up to the limit of open files leave enough for the server, and for the way to it."""
        daemon = self.start(_FEW_FILES)
        self.assertIn("256 open files are allowed, so that at most 192 locks", daemon.log())
        held: list[Lock] = []
        self.addCleanup(lambda: [one.close() for one in held])
        for _ in range(330):
            held.append(daemon.lock())
        wait_until(lambda: daemon.metrics().get('jt709c_dropped_total{reason="max_connections"}', 0) >= 100)
        os.kill(daemon.embedded_pid(), signal.SIGKILL)
        wait_until(lambda: "embedded Valkey is back" in daemon.log())
        wait_until(lambda: daemon.get("/readyz")[0] == 200)
        held.pop(0).close()
        wait_until(lambda: self.answered(daemon))

    def answered(self, daemon: Daemon) -> bool:
        with daemon.lock() as lock:
            try:
                return bool(lock.ask(report(1), timeout=2.0))
            except AssertionError:
                return False

    def test_ends_with_a_clear_line_when_it_cannot(self) -> None:
        """With no descriptor to be had, the process ends with status 1 and says why; workers end with it."""
        for options in ((), ("--workers", "2")):
            prelude = "import jt709c_gateway.redis.embedded.server as e; e._HOPELESS = 1.0"
            daemon = self.start(prelude, *options)
            server = daemon.embedded_pid()
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (3, 3))
            os.kill(server, signal.SIGKILL)
            self.assertEqual(daemon.wait(), 1)
            self.assertRegex(daemon.log(), "stopping: embedded Valkey can't be started again for .* s: ")
            self.assertIn("Too many open files", daemon.log())
            self.assertNotIn("Traceback", daemon.log())


class DescriptorTests(SynchronousTestCase):
    def test_reserve_is_there_when_all_others_are_taken(self) -> None:
        """With every descriptor taken, `released` still gets some; they are reserved again."""
        reserve = DescriptorReserve(4)
        reserve.fill()
        self.addCleanup(reserve.release)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        top = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, hard))
        taken: list[int] = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            with reserve.released():
                mine = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
                for one in mine:
                    os.close(one)
            self.assertRaises(OSError, os.open, os.devnull, os.O_RDONLY)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for one in taken:
                os.close(one)

    def test_room_for_connections(self) -> None:
        """The soft limit is raised when the hard one allows that; else fewer connections are taken."""
        for soft, hard, wanted, raised, room in (
            (1024, 524288, 50_000, 50_064, 50_000),
            (1024, 4096, 50_000, 4096, 4032),
            (256, 256, 50_000, 256, 192),
            (100_000, 100_000, 50_000, None, 50_000),
            (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 50_000, None, 50_000),
            (1024, resource.RLIM_INFINITY, 50_000, 50_064, 50_000),
            (40, 40, 50_000, 40, 1),
        ):
            with (
                mock.patch.object(resource, "getrlimit", lambda _, limits=(soft, hard): limits),
                mock.patch.object(resource, "setrlimit") as changed,
            ):
                self.assertEqual(room_for_connections(wanted), room)
            expected = [] if raised is None else [mock.call(resource.RLIMIT_NOFILE, (raised, hard))]
            self.assertEqual(changed.call_args_list, expected)
