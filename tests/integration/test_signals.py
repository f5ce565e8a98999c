"""Promise: only stop signals end the gateway, and a repeated stop is no error.

SIGHUP reopens the log and rereads files; SIGUSR1 and SIGUSR2 do nothing.
"""

import os
import signal
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import shared_server, wait_until
from tests.support.daemon import Daemon
from tests.support.reporter import report
from tests.support.web import user_line


class SignalCase(SynchronousTestCase):
    def start(self, *options: str, twistd: tuple[str, ...] = ()) -> Daemon:
        daemon = Daemon(*options, redis=shared_server().url, udp=False)
        self.addCleanup(daemon.discard)
        if twistd:
            arguments = daemon.arguments()
            place = arguments.index("jt709c-gateway")
            arguments[place:place] = list(twistd)
            daemon.arguments = lambda: arguments  # type: ignore[method-assign]
        return daemon

    def served(self, daemon: Daemon) -> None:
        with daemon.lock() as lock:
            lock.ask(report(int(time.monotonic() * 100) & 0xFFFF))

    def said(self, daemon: Daemon, text: str, count: int = 1) -> None:
        wait_until(lambda: daemon.log().count(text) >= count, message=f"{text!r} is not in {daemon.log()}")


class StayingTests(SignalCase):
    def test_others_end_nothing(self) -> None:
        """SIGHUP, SIGUSR1 and SIGUSR2, one and several: it goes on, and shuts down gracefully afterwards."""
        daemon = self.start().start()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2) * 3:
            os.kill(daemon.pid, number)
        self.said(daemon, "SIGHUP: reopening")
        self.served(daemon)
        self.assertEqual(daemon.stop(), 0)
        self.assertNotIn("Traceback", daemon.log())

    def test_workers_too(self) -> None:
        """The supervisor and each worker; SIGHUP is passed on."""
        daemon = self.start("--workers", "2").start()
        pids = daemon.wait_workers(2)
        os.kill(daemon.pid, signal.SIGHUP)
        self.said(daemon, "SIGHUP: reopening", 3)
        for pid in (daemon.pid, *pids.values()):
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
                os.kill(pid, number)
        self.served(daemon)
        self.assertEqual(daemon.wait_workers(2), pids)
        self.assertEqual(daemon.stop(), 0)

    def test_a_second_stop_is_no_error(self) -> None:
        """However often it is stopped again, it shuts down once, gracefully, without a traceback."""
        for options in ((), ("--workers", "2")):
            for first in (signal.SIGINT, signal.SIGTERM):
                daemon = self.start("--shutdown-timeout=1", *options).start()
                if options:
                    daemon.wait_workers(2)
                os.kill(daemon.pid, signal.SIGSTOP)
                for number in (first, signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    os.kill(daemon.pid, number)
                os.kill(daemon.pid, signal.SIGCONT)
                self.said(daemon, "shutting down")
                while daemon.running:
                    try:
                        os.kill(daemon.pid, first)
                    except ProcessLookupError:
                        break
                    time.sleep(0.01)
                self.assertIn(daemon.wait(), (-signal.SIGINT, -signal.SIGTERM))
                self.assertIn("Server Shut Down.", daemon.log())
                self.assertNotIn("Traceback", daemon.log())
                self.assertNotIn("ReactorNotRunning", daemon.log())


class ReadingAgainTests(SignalCase):
    def test_the_log_is_reopened(self) -> None:
        """After logrotate has moved the log away, SIGHUP starts a new one with the same name."""
        daemon = self.start()
        log = daemon.directory / "gateway.log"
        arguments = daemon.arguments()
        arguments[arguments.index("jt709c-gateway") : 0] = []
        place = arguments.index("jt709c-gateway")
        arguments[place:place] = [f"--logfile={log}"]
        daemon.arguments = lambda: arguments  # type: ignore[method-assign]
        daemon._bound = lambda: log.exists() and "listening for locks on" in log.read_text()  # type: ignore[method-assign]
        daemon.start()
        moved = log.rename(log.with_name("gateway.log.1"))
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(log.exists)
        os.kill(daemon.pid, signal.SIGHUP)
        wait_until(lambda: "SIGHUP" in log.read_text())
        self.assertEqual(moved.read_text().count("SIGHUP"), 1)
        # A log that can't be reopened does not stop the logging.
        log.rename(log.with_name("gateway.log.2"))
        log.mkdir()
        os.kill(daemon.pid, signal.SIGHUP)
        second = log.with_name("gateway.log.2")
        wait_until(lambda: "cannot reopen the log" in second.read_text())
        self.served(daemon)
        self.assertEqual(daemon._process and daemon._process.poll(), None)
        self.assertNotIn("Traceback", second.read_text() + moved.read_text())

    def test_the_files_of_devices_and_users_are_read(self) -> None:
        """The files are read at once, and their errors are logged again at each SIGHUP."""
        for options in ((), ("--workers", "2")):
            scratch = self.start()
            devices, users = scratch.directory / "devices", scratch.directory / "users"
            devices.write_text("794308010679\n")
            users.write_text(user_line("ann", "right"))
            daemon = self.start("--devices", str(devices), "--web-users", str(users), *options).start()
            count = 1
            if options:
                daemon.wait_workers(2)
                count = 2
            self.replace(devices, "794308010679\n794308010680\n")
            self.replace(users, user_line("ann", "right") + user_line("bob", "right"))
            os.kill(daemon.pid, signal.SIGHUP)
            self.said(daemon, "read again, 2 locks are admitted", count)
            self.said(daemon, "read again, 2 users")
            self.replace(devices, "nonsense\n")
            self.replace(users, "nonsense\n")
            for time_asked in (1, 2):
                before = daemon.log().count("The users read before stay")
                os.kill(daemon.pid, signal.SIGHUP)
                self.said(daemon, "The users read before stay", before + 1)
                self.said(daemon, "The 2 locks read before stay admitted", time_asked * count)
            self.served(daemon)

    def replace(self, path: Path, text: str) -> None:
        """Write a new version and rename it into place."""
        beside = path.with_name(path.name + ".new")
        beside.write_text(text)
        beside.rename(path)
