"""The real daemon and the jt709c commands over TLS, with certificates, a password file and a user."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import defer, threads
from twisted.trial.unittest import TestCase

from tests.support import free_port, wait_until
from tests.support.acl import COMMANDER, GATEWAY, READER, GuardedServer, password_of
from tests.support.certificates import Authority, TlsFront
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.reporter import report

COMMAND = [sys.executable, "-m", "jt709c_gateway.cli.main"]


class DaemonTlsTests(TestCase):
    """A server that requires a certificate and a password. Blocking calls run in a thread, beside the TLS
    here."""

    timeout = 90

    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.discard)
        self.ca = Authority(self)
        self.good = self.ca.issue("localhost")
        self.front = TlsFront(self, self.server.port, self.good, self.ca)
        self.certificate, self.key = self.ca.issue("gateway").write(self.ca.directory)

    def password_file(self, user: str) -> Path:
        path = self.ca.directory / f"password-of-{user}"
        path.write_text(password_of(user) + "\n")
        return path

    def url(self, user: str, host: str = "localhost") -> str:
        return f"rediss://{user}@{host}:{self.front.tls_port}"

    def daemon(self, *options: str, **more: Any) -> Daemon:
        redis = more.pop("redis", self.url(GATEWAY))
        files = ["--redis-ca", self.ca.file, "--redis-cert", self.certificate, "--redis-key", self.key]
        daemon = Daemon(*files, *options, redis=redis, udp=False, **more)
        self.addCleanup(daemon.discard)
        return daemon

    def run_in_thread(self, scenario: Any) -> "defer.Deferred[Any]":
        return threads.deferToThread(scenario)

    async def test_report(self) -> None:
        """It starts, is ready, and commits a report; the password stands in no log."""
        daemon = self.daemon("--redis-password-file", str(self.password_file(GATEWAY)))

        def run() -> None:
            daemon.start()
            with daemon.lock() as lock, self.server.client() as admin:
                lock.ask(report(1))
                self.assertEqual(admin.call("XLEN", "jt709c:events"), 2)
            self.assertIn(f"connected to Redis at rediss://{GATEWAY}:***@localhost", daemon.log())
            self.assertNotIn(password_of(GATEWAY), daemon.log())
            self.assertEqual(daemon.stop(), 0)

        await self.run_in_thread(run)

    async def test_password_from_environment(self) -> None:
        """The same with the password from the environment."""
        environment = {"JT709C_REDIS_PASSWORD": password_of(GATEWAY)}
        daemon = self.daemon(environment=environment)

        def run() -> None:
            daemon.start()
            self.assertNotIn(password_of(GATEWAY), daemon.log())

        await self.run_in_thread(run)

    async def test_mended(self) -> None:
        """One fault after the other, each logged once for all connections; after the last repair it
        commits."""
        path = self.password_file(GATEWAY)
        path.write_text("wr0ng-password\n")
        self.front.issued = Authority(self, "Another CA").issue("localhost")
        daemon = self.daemon("--redis-password-file", str(path))

        def says(text: str) -> None:
            wait_until(lambda: daemon.log().count(text) == 1, message=f"{text!r} is not said")

        def run() -> None:
            daemon.start(ready=False)
            with daemon.lock() as lock:
                lock.send(report(1))
                says("the server's certificate is signed by no authority that we trust (--redis-ca)")
                self.front.issued = self.ca.issue("elsewhere.example")
                says("the server's certificate is not for localhost but for elsewhere.example")
                self.assertEqual(self.front.received, [])
                self.front.issued = self.good
                says("AUTH refused: WRONGPASS")
                self.assertEqual(daemon.get("/readyz")[0], 503)
                path.write_text(password_of(GATEWAY) + "\n")
                daemon.wait_ready()
                lock.answers()
            log = daemon.log()
            self.assertEqual(log.count("cannot connect to Redis"), 3, log)
            self.assertNotIn("wr0ng-password", log)
            self.assertNotIn(password_of(GATEWAY), log)
            self.assertNotIn("Traceback", log)

        await self.run_in_thread(run)

    async def test_commands(self) -> None:
        """jt709c watch and send over the same TLS: by options and by the environment."""
        daemon = self.daemon("--redis-password-file", str(self.password_file(GATEWAY)))
        lock = FakeLock(new_device())
        self.addCleanup(lock.close)

        def run() -> None:
            daemon.start()
            lock.connect(daemon)
            environment = {
                **os.environ,
                "JT709C_REDIS": self.url(READER),
                "JT709C_REDIS_CA": self.ca.file,
                "JT709C_REDIS_CERT": self.certificate,
                "JT709C_REDIS_KEY": self.key,
                "JT709C_REDIS_PASSWORD_FILE": str(self.password_file(READER)),
            }
            watch = subprocess.Popen(
                [*COMMAND, "watch", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            try:
                self.assertIn("watching", watch.stderr.readline())
                lock.report()
                self.assertEqual(json.loads(watch.stdout.readline())["device"], lock.device)
            finally:
                watch.kill()
                watch.communicate()
            sent = self.send(lock.device)
            self.assertEqual(sent.returncode, 0, sent.stderr)
            lock.next_command()

        await self.run_in_thread(run)

    def send(self, device: str, *more: str) -> "subprocess.CompletedProcess[str]":
        options = {
            "--redis": self.url(COMMANDER),
            "--redis-ca": self.ca.file,
            "--redis-cert": self.certificate,
            "--redis-key": self.key,
            "--redis-password-file": str(self.password_file(COMMANDER)),
        }
        given = [part for pair in options.items() for part in pair]
        return subprocess.run(
            [*COMMAND, "send", "locate", device, *given, *more],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    async def test_mistakes_of_commands(self) -> None:
        """An error in certificates or in the password file is one line, and ends the command."""

        def run() -> None:
            device, missing = new_device(), str(self.ca.directory / "missing")
            other = Authority(self, "Another CA").file
            for options, said in (
                (("--redis-ca", other), "is signed by no authority that we trust (--redis-ca)"),
                (("--redis-ca", missing), f"cannot read {missing}: No such file"),
                (("--redis-key", self.ca.directory / "x.key"), "cannot read"),
                (
                    ("--redis-password-file", missing),
                    f"--redis-password-file '{missing}': expected a text file",
                ),
                (
                    ("--redis", f"redis://localhost:{free_port()}"),
                    "certificates are only used with rediss://",
                ),
            ):
                result = self.send(device, *map(str, options))
                self.assertEqual((result.returncode, result.stdout), (2, ""), said)
                self.assertIn(said, result.stderr)
                self.assertEqual(result.stderr.count("\n"), 1, result.stderr)

        await self.run_in_thread(run)

    async def test_sentinel_needs_its_own_scheme(self) -> None:
        """Certificates with redis+sentinel:// are refused at the start; the error names the right scheme."""
        daemon = self.daemon(redis="redis+sentinel://localhost/fleet")
        error = self.assertRaises(AssertionError, daemon.start, False)
        self.assertIn("goes with an address that begins with rediss://, rediss+sentinel:// or", str(error))
