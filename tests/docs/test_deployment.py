"""The files of the docs for operators: the systemd unit, and balancers in front of a real gateway."""

import re
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ROOT, ValkeyServer, free_port, temporary_path, wait_until
from tests.support.certificates import Authority
from tests.support.commands import new_device
from tests.support.daemon import Daemon, Lock
from tests.support.docs_tools import missing, needed
from tests.support.reporter import report, stream_events

UNIT = ROOT / "etc" / "jt709c-gateway.service"
EXAMPLES = ROOT / "docs" / "examples"
#: Debian's directory of nginx modules.
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
#: Tenths of the ten points of exposure that `systemd-analyze security` may count. Version 252 counts 15, and
#: other versions differ.
EXPOSURE = 20


class UnitTests(SynchronousTestCase):
    """etc/jt709c-gateway.service."""

    def setUp(self) -> None:
        self.analyze = needed("systemd-analyze")
        directory = Path(temporary_path(self))
        directory.mkdir()
        self.path = directory / UNIT.name

    def verify(self, text: str) -> str:
        """Return systemd's messages about a unit whose program exists."""
        program = "/opt/jt709c-gateway/bin/twistd"
        self.assertEqual(text.count(program), 1)
        self.path.write_text(text.replace(program, shutil.which("true") or ""))
        found = subprocess.run(
            [self.analyze, "verify", "--man=no", str(self.path)], capture_output=True, text=True, check=False
        )
        return found.stdout + found.stderr + (f"exit status {found.returncode}" if found.returncode else "")

    def test_verify(self) -> None:
        """systemd finds no error in it."""
        self.assertEqual(self.verify(UNIT.read_text()), "")

    def test_verify_sees_mistakes(self) -> None:
        """systemd would find an unknown key and an unknown group of system calls."""
        for right, wrong in (("KillMode=", "KillMod="), ("@system-service", "@system-servant")):
            self.assertIn(wrong.rstrip("="), self.verify(UNIT.read_text().replace(right, wrong)))

    def test_security(self) -> None:
        """Its exposure, as systemd counts it, does not grow."""
        self.verify(UNIT.read_text())
        found = subprocess.run(
            [self.analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", str(self.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(found.returncode, 0, found.stdout[-200:] + found.stderr)

    def test_time_to_stop(self) -> None:
        """systemd waits longer for the end than the gateway's shutdown may take."""
        (line,) = (line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec="))
        self.assertTrue(int(line.partition("=")[2]) >= 10 + 5 + 10)


class TlsLock(Lock):
    """A lock that speaks TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(port, 2.0)

    def _connected(self, port: int, timeout: float, source: str | None) -> socket.socket:
        plain = super()._connected(port, timeout, source)
        return self._context.wrap_socket(plain, server_hostname=LOOPBACK)


class BalancerTests(SynchronousTestCase):
    """Real balancers, with the files of the docs, before a gateway that listens with ``haproxy:tcp:…``."""

    def setUp(self) -> None:
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()
        self.front = free_port()
        #: Where the balancer ends TLS.
        self.tls: ssl.SSLContext | None = None

    def configuration(self, name: str, gateway: int, frontend: str, room: str) -> str:
        """Return a file of the docs with ports and addresses of this test, one gateway, and fewer
        connections."""
        text = (EXAMPLES / name).read_text()
        for shown, here in (
            ("10.0.0.11:8888", f"{LOOPBACK}:{gateway}"),
            ("10.0.0.12:8888", f"{LOOPBACK}:{free_port()}"),
            (
                frontend,
                re.sub(
                    ":888[89]", f"{LOOPBACK}:{self.front}", re.sub(" 888[89]", f" {self.front}", frontend)
                ),
            ),
            (room, f"{room.split()[0]} 1000"),
        ):
            self.assertIn(shown, text)
            text = text.replace(shown, here)
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def check(self, start: list[str]) -> None:
        """Check that a report through the balancer is answered and its events name the lock's address."""
        log = (self.directory / "log").open("wb")
        self.addCleanup(log.close)
        balancer = subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.addCleanup(balancer.wait)
        self.addCleanup(balancer.terminate)
        device = new_device()
        lock = wait_until(lambda: self.served(device), message="the balancer doesn't serve")
        self.addCleanup(lock.close)
        peer = "{}:{}".format(*lock.socket.getsockname())
        with self.server.client() as client:
            events = [one for one in stream_events(client) if one["device"] == device]
        self.assertEqual({one["peer"] for one in events if one["kind"] == "location"}, {peer})
        self.assertNotIn("malformed", self.daemon.log())
        self.assertNotIn("Traceback", self.daemon.log())

    def served(self, device: str) -> Lock | None:
        """Return a connection through the balancer on which a report was answered."""
        try:
            lock = Lock(self.front, 2.0) if self.tls is None else TlsLock(self.front, self.tls)
        except OSError:
            return None
        try:
            lock.ask(report(1, device))
        except (AssertionError, OSError):
            lock.close()
            return None
        return lock

    def certificate(self) -> tuple[str, str]:
        """Make a certificate for the balancer, which locks trust, and its key."""
        authority = Authority(self)
        self.tls = ssl.create_default_context(cafile=authority.file)
        return authority.issue(LOOPBACK).write(self.directory)

    def replace_in(self, path: str, *changes: tuple[str, str]) -> None:
        text = Path(path).read_text()
        for shown, here in changes:
            self.assertIn(shown, text)
            text = text.replace(shown, here)
        Path(path).write_text(text)

    def start_gateway(self) -> int:
        self.server = ValkeyServer().start()
        self.addCleanup(self.server.discard)
        self.daemon = Daemon(redis=self.server.url, proxied=True).start()
        self.addCleanup(self.daemon.discard)
        return self.daemon.tcp_port

    def test_haproxy(self) -> None:
        """HAProxy, which sends version 2, and LOCAL headers in its health checks."""
        program = needed("haproxy")
        path = self.configuration("haproxy.cfg", self.start_gateway(), "bind :8888", "maxconn 60000")
        found = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True, check=False)
        self.assertEqual((found.returncode, found.stderr.count("WARNING")), (0, 0), found.stderr)
        self.check([program, "-db", "-f", path])

    def test_haproxy_with_tls(self) -> None:
        """HAProxy, which ends TLS: the event names the lock's own address."""
        program = needed("haproxy")
        path = self.configuration("haproxy-tls.cfg", self.start_gateway(), "bind :8889", "maxconn 60000")
        certificate, key = self.certificate()
        both = self.directory / "both.pem"
        both.write_bytes(Path(certificate).read_bytes() + Path(key).read_bytes())
        self.replace_in(path, ("/etc/haproxy/locks.pem", str(both)))
        self.check([program, "-db", "-f", path])

    def test_nginx(self) -> None:
        """nginx, which sends version 1."""
        self.check_nginx("nginx.conf", "listen 8888")

    def test_nginx_with_tls(self) -> None:
        """nginx, which ends TLS."""
        certificate, key = self.certificate()
        self.check_nginx(
            "nginx-tls.conf",
            "listen 8889",
            ("/etc/nginx/locks.pem", certificate),
            ("/etc/nginx/locks.key", key),
        )

    def check_nginx(self, name: str, frontend: str, *changes: tuple[str, str]) -> None:
        program = needed("nginx")
        path = self.configuration(name, self.start_gateway(), frontend, "worker_connections 65536")
        self.replace_in(path, *changes)
        module = f"load_module {NGINX_MODULE};" if NGINX_MODULE.exists() else ""
        more = f"{module} daemon off; pid {self.directory}/pid; error_log {self.directory}/errors;"
        command = [program, "-c", path, "-g", more]
        found = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        if 'unknown directive "stream"' in found.stderr:
            missing("nginx with its module for streams")
        self.assertEqual(found.returncode, 0, found.stderr)
        self.check(command)
