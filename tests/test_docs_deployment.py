"""What the docs tell an operator to install: the systemd unit, and balancers in front of a real gateway."""

import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.daemon import Daemon, Lock
from tests.docs_support import missing, needed
from tests.orders_support import new_device
from tests.reporting import report, stream_events
from tests.support import LOOPBACK, ValkeyServer, free_port, temporary_path, wait_until

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "etc" / "jt709c-gateway.service"
EXAMPLES = ROOT / "docs" / "examples"
#: Where Debian keeps what nginx doesn't have built in.
NGINX_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
#: Tenths of the ten points of exposure that `systemd-analyze security` may count; version 252 counts 15, and
#: each version has something else to say.
EXPOSURE = 20


class UnitTests(SynchronousTestCase):
    """etc/jt709c-gateway.service."""

    def setUp(self) -> None:
        self.analyze = needed("systemd-analyze")
        directory = Path(temporary_path(self))
        directory.mkdir()
        self.path = directory / UNIT.name

    def verify(self, text: str) -> str:
        """What systemd has to say of a unit whose program is there."""
        program = "/opt/jt709c-gateway/bin/twistd"
        self.assertEqual(text.count(program), 1)
        self.path.write_text(text.replace(program, shutil.which("true") or ""))
        found = subprocess.run(
            [self.analyze, "verify", "--man=no", str(self.path)], capture_output=True, text=True, check=False
        )
        return found.stdout + found.stderr + (f"exit status {found.returncode}" if found.returncode else "")

    def test_verify(self) -> None:
        """systemd finds nothing wrong in it."""
        self.assertEqual(self.verify(UNIT.read_text()), "")

    def test_verify_sees_mistakes(self) -> None:
        """It would find a key that it doesn't know, and a group of system calls that isn't one."""
        for right, wrong in (("KillMode=", "KillMod="), ("@system-service", "@system-servant")):
            self.assertIn(wrong.rstrip("="), self.verify(UNIT.read_text().replace(right, wrong)))

    def test_security(self) -> None:
        """Its exposure, as systemd counts it, doesn't grow."""
        self.verify(UNIT.read_text())
        found = subprocess.run(
            [self.analyze, "security", "--offline=true", f"--threshold={EXPOSURE}", str(self.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(found.returncode, 0, found.stdout[-200:] + found.stderr)

    def test_time_to_stop(self) -> None:
        """systemd waits longer for the end than the gateway may take for it."""
        (line,) = (line for line in UNIT.read_text().splitlines() if line.startswith("TimeoutStopSec="))
        self.assertTrue(int(line.partition("=")[2]) >= 10 + 5 + 10)


class BalancerTests(SynchronousTestCase):
    """Real balancers, with the files of the docs, before a gateway that listens with ``haproxy:tcp:…``."""

    def setUp(self) -> None:
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()
        self.front = free_port()

    def configuration(self, name: str, gateway: int, frontend: str, room: str) -> str:
        """A file of the docs with ports and addresses of this test, one gateway, and fewer connections."""
        text = (EXAMPLES / name).read_text()
        for shown, here in (
            ("10.0.0.11:8888", f"{LOOPBACK}:{gateway}"),
            ("10.0.0.12:8888", f"{LOOPBACK}:{free_port()}"),
            (
                frontend,
                frontend.replace(":8888", f"{LOOPBACK}:{self.front}").replace(" 8888", f" {self.front}"),
            ),
            (room, f"{room.split()[0]} 1000"),
        ):
            self.assertIn(shown, text)
            text = text.replace(shown, here)
        path = self.directory / name
        path.write_text(text)
        return str(path)

    def check(self, start: list[str]) -> None:
        """A lock by way of the balancer is answered, and its events name its own address."""
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
        """A connection through the balancer on which a report was answered."""
        try:
            lock = Lock(self.front, 2.0)
        except OSError:
            return None
        try:
            lock.ask(report(1, device))
        except (AssertionError, OSError):
            lock.close()
            return None
        return lock

    def start_gateway(self) -> int:
        self.server = ValkeyServer().start()
        self.addCleanup(self.server.discard)
        self.daemon = Daemon(redis=self.server.url, proxied=True).start()
        self.addCleanup(self.daemon.discard)
        return self.daemon.tcp_port

    def test_haproxy(self) -> None:
        """HAProxy, which sends version 2, and LOCAL headers to see whether the gateway is there."""
        program = needed("haproxy")
        path = self.configuration("haproxy.cfg", self.start_gateway(), "bind :8888", "maxconn 60000")
        found = subprocess.run([program, "-c", "-f", path], capture_output=True, text=True, check=False)
        self.assertEqual((found.returncode, found.stderr.count("WARNING")), (0, 0), found.stderr)
        self.check([program, "-db", "-f", path])

    def test_nginx(self) -> None:
        """nginx, which sends version 1."""
        program = needed("nginx")
        path = self.configuration(
            "nginx.conf", self.start_gateway(), "listen 8888", "worker_connections 65536"
        )
        module = f"load_module {NGINX_MODULE};" if NGINX_MODULE.exists() else ""
        more = f"{module} daemon off; pid {self.directory}/pid; error_log {self.directory}/errors;"
        command = [program, "-c", path, "-g", more]
        found = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
        if 'unknown directive "stream"' in found.stderr:
            missing("nginx with its module for streams")
        self.assertEqual(found.returncode, 0, found.stderr)
        self.check(command)
