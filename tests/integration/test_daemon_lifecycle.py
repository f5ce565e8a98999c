"""Starting and stopping the daemon."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.config.options import OPTIONS
from tests.support import (
    LOOPBACK,
    ValkeyServer,
    free_port,
    key_prefix,
    process_alive,
    shared_server,
    wait_until,
)
from tests.support.daemon import Daemon, gone, run_twistd, twistd_command, twistd_environment
from tests.support.reporter import answered, report, stream_events


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


class StopTests(SynchronousTestCase):
    def start(self, *options: str) -> Daemon:
        self.prefix = key_prefix()
        daemon = Daemon("--prefix", self.prefix, *options, redis=shared_server().url)
        self.addCleanup(daemon.discard)
        return daemon.start()

    def check_left(self, daemon: Daemon) -> None:
        """Check that its three locks went offline, and that it left nothing else in Redis."""
        with shared_server().client() as client:
            sessions = [one for one in stream_events(client, self.prefix) if one["kind"] == "session"]
            keys = {key.decode() for key in client.call("KEYS", f"{self.prefix}:*")}
        ends = [one for one in sessions if one["data"]["state"] == "offline"]
        offline = {(one["device"], one["data"]["reason"]) for one in ends}
        self.assertEqual(offline, {(f"79430801000{number}", "shutdown") for number in range(3)})
        self.assertEqual([key for key in keys if ":session:" in key or ":gateway:" in key], [])
        self.assertNotIn("Traceback", daemon.log())

    def test_terminate(self) -> None:
        """SIGTERM: answers are sent, every lock goes offline, connections are closed, exit status 0."""
        daemon = self.start()
        locks = [daemon.lock() for _ in range(2)]
        for number, lock in enumerate(locks):
            lock.ask(report(1, f"79430801000{number}"))
        with daemon.datagrams() as datagrams:
            datagrams.send(report(1, "794308010002"))
            datagrams.recv(100)
        for number, lock in enumerate(locks):
            lock.send(*[report(serial, f"79430801000{number}") for serial in range(2, 30)])
            self.assertEqual(answered(lock.answers(1)[0]), 2)
        self.assertEqual(daemon.stop(), 0)
        for lock in locks:
            self.assertEqual(len(lock.answers(27)), 27)
            self.assertTrue(lock.closed_within())
            lock.close()
        self.check_left(daemon)

    def test_interrupt(self) -> None:
        """Ctrl-C ends it as well."""
        daemon = self.start()
        locks = [daemon.lock() for _ in range(3)]
        for number, lock in enumerate(locks):
            lock.ask(report(1, f"79430801000{number}"))
        os.kill(daemon.pid, signal.SIGINT)
        wait_until(lambda: not daemon.running)
        self.check_left(daemon)
        for lock in locks:
            lock.close()

    def test_redis_away(self) -> None:
        """Without Redis it stops all the same, soon, and answers nothing uncommitted."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon(redis=server.url).start()
        self.addCleanup(daemon.discard)
        with daemon.lock() as lock:
            lock.ask(report(1))
            server.kill()
            lock.send(report(2))
            wait_until(lambda: daemon.metrics()["jt709c_unacked"] == 1)
            asked = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.assertTrue(time.monotonic() - asked < 5)
            self.assertEqual(lock.answers_within(0.5), [])
        self.assertIn("were not committed", daemon.log())
        self.assertNotIn("Traceback", daemon.log())

    def test_redis_hangs(self) -> None:
        """With a hanging Redis it waits for --shutdown-timeout, and stops."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon("--shutdown-timeout", "1", redis=server.url).start()
        self.addCleanup(daemon.discard)
        with daemon.lock() as lock:
            lock.ask(report(1))
            server.pause()
            lock.send(report(2))
            wait_until(lambda: daemon.metrics()["jt709c_unacked"] == 1)
            asked = time.monotonic()
            self.assertEqual(daemon.stop(), 0)
            self.assertTrue(time.monotonic() - asked < 8, time.monotonic() - asked)
            self.assertEqual(lock.answers_within(0.2), [])
        server.resume()
        self.assertNotIn("Traceback", daemon.log())

    def test_never_connected(self) -> None:
        """A gateway that never had Redis accepts connections, is not ready, and can be stopped."""
        daemon = Daemon(redis=f"redis://{LOOPBACK}:{free_port()}")
        self.addCleanup(daemon.discard)
        daemon.start(ready=False)
        self.assertEqual(daemon.get("/readyz")[0], 503)
        with daemon.lock() as lock:
            lock.send(report(1))
            self.assertEqual(lock.answers_within(0.3), [])
        self.assertEqual(daemon.stop(), 0)
        self.assertNotIn("Traceback", daemon.log())

    def test_redis_comes_later(self) -> None:
        """Reports from before Redis was there are committed and answered when it comes."""
        server = ValkeyServer()
        self.addCleanup(server.discard)
        daemon = Daemon(redis=server.url)
        self.addCleanup(daemon.discard)
        daemon.start(ready=False)
        with daemon.lock() as lock:
            lock.send(report(1))
            wait_until(lambda: daemon.metrics()["jt709c_unacked"] == 2)
            server.start()
            self.assertEqual(answered(lock.answers(1)[0]), 1)
        self.assertEqual(daemon.stop(), 0)


class EmbeddedTests(SynchronousTestCase):
    def test_terminate(self) -> None:
        """SIGTERM: offline is committed before the embedded server stops, and it stops."""
        daemon = Daemon().start()
        self.addCleanup(daemon.discard)
        server = daemon.embedded_pid()
        with daemon.lock() as lock:
            lock.ask(report(1))
            self.assertEqual(daemon.stop(), 0)
        self.assertFalse(process_alive(server))
        self.assertNotIn("Traceback", daemon.log())
        daemon.start()
        with daemon.embedded_client() as client:
            states = [one["data"]["state"] for one in stream_events(client) if one["kind"] == "session"]
        self.assertEqual(states, ["online", "offline"])
        self.assertEqual(daemon.stop(), 0)

    def test_terminate_early(self) -> None:
        """Stopped before its server is ready it ends, and leaves no server behind."""
        daemon = Daemon()
        self.addCleanup(daemon.discard)
        daemon.start(ready=False)
        # Before the reactor runs, a signal ends the process at once.
        self.assertIn(daemon.stop(), (0, -signal.SIGTERM))
        self.assertNotIn("Traceback", daemon.log())
        name = str(daemon.directory).encode()
        # The kernel kills the server when its parent has ended: it may be seen for a moment longer.
        wait_until(
            lambda: not any(name in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")),
            message="the embedded server goes on",
        )


class BackgroundTests(SynchronousTestCase):
    """Started by twistd without -n: in the background, with a pid file and a log file."""

    def setUp(self) -> None:
        self.daemon = Daemon()
        self.addCleanup(self.daemon.discard)
        self.directory = self.daemon.directory
        self.pid_file = self.directory / "gateway.pid"
        self.log_file = self.directory / "gateway.log"

    def run_in_background(self, *options: str) -> "subprocess.CompletedProcess[bytes]":
        command = [f"--pidfile={self.pid_file}", f"--logfile={self.log_file}", "jt709c-gateway"]
        # The background process keeps these open: a pipe would never end.
        with (self.directory / "stderr").open("wb") as stderr:
            return subprocess.run(
                twistd_command(*command, *options),
                cwd=self.directory,
                env=twistd_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                timeout=30,
                check=False,
            )

    def options(self, port: int) -> list[str]:
        return ["--redis", "embedded", "--listen", f"tcp:{port}:interface={LOOPBACK}", "--no-udp"]

    def test_start_and_stop(self) -> None:
        """It starts, its embedded server is its own, and both end with SIGTERM; the pid file is removed."""
        port = free_port()
        done = self.run_in_background(*self.options(port))
        self.assertEqual(done.returncode, 0, (self.directory / "stderr").read_text())
        pid = int(self.pid_file.read_text())

        def end() -> None:
            if process_alive(pid):
                os.kill(pid, signal.SIGKILL)

        self.addCleanup(end)
        self.daemon.tcp_port = port
        with self.daemon.lock(timeout=20) as lock:
            lock.ask(report(1))
        os.kill(pid, signal.SIGTERM)
        gone(pid)
        self.assertFalse(self.pid_file.exists())
        log = self.log_file.read_text()
        self.assertIn("embedded Valkey", log)
        self.assertNotIn("Traceback", log)

    def test_cannot_start(self) -> None:
        """An error at the start is one line too, and leaves no pid file."""
        port = free_port()
        with socket.socket() as holder:
            holder.bind((LOOPBACK, port))
            holder.listen()
            done = self.run_in_background(*self.options(port))
        self.assertNotEqual(done.returncode, 0)
        said = (self.directory / "stderr").read_text()
        self.assertIn(f"tcp:{port}:interface={LOOPBACK}", said)
        self.assertNotIn("Traceback", said)
        self.assertFalse(self.pid_file.exists())


class HelpTests(SynchronousTestCase):
    def test_listed(self) -> None:
        """twistd knows the gateway and lists it; its own help names every option once."""
        daemon = Daemon()
        self.addCleanup(daemon.discard)
        listed = run_twistd("--help", directory=daemon.directory)
        self.assertEqual(listed.returncode, 0)
        self.assertIn("jt709c-gateway", listed.stdout)
        helped = run_twistd("jt709c-gateway", "--help", directory=daemon.directory)
        self.assertEqual(helped.returncode, 0)
        words = helped.stdout.split()
        for option in OPTIONS:
            self.assertTrue(
                any(word.rstrip(",=").startswith(f"--{option.name}") for word in words), option.name
            )
