"""Behind a TCP load balancer: the PROXY header names the peer of a connection (``haproxy:tcp:8888``)."""

from tests.support import temporary_path, wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import DaemonCase, Lock, run_twistd
from tests.support.proxy_headers import INET, LOCAL, PROXY, binary, v1, v2
from tests.support.reporter import report, stream_events

HOST, PORT = "198.51.100.7", 50112
NO_ONE = (b"", binary(LOCAL, 0), b"PROXY UNKNOWN\r\n")


class BalancerCase(DaemonCase):
    """A server and a daemon behind a balancer that the tests simulate."""

    proxied = True

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def connect(self, header: bytes = b"") -> Lock:
        lock = self.daemon.lock()
        self.addCleanup(lock.close)
        lock.send(header)
        return lock

    def peers(self, device: str) -> set[str]:
        """Return the peers in the events of a device."""
        return {one["peer"] for one in stream_events(self.client.redis) if one["device"] == device}

    def session(self, device: str, field: str = "peer") -> str:
        return (self.client.redis.call("HGET", f"jt709c:session:{device}", field) or b"").decode()

    def malformed(self) -> list[dict[str, str]]:
        found = []
        for _, flat in self.client.redis.call("XRANGE", "jt709c:malformed", "-", "+"):
            texts = [item.decode() for item in flat]
            found.append(dict(zip(texts[::2], texts[1::2], strict=True)))
        return found

    def value(self, name: str) -> float:
        return self.daemon.metrics().get(name, 0.0)


class AddressTests(BalancerCase):
    """The address of a lock and the end of its connection."""

    options = ("--max-connections-per-address=2",)

    def test_peer(self) -> None:
        """Both versions, IPv4 and IPv6, headers in one piece and byte by byte: events and session have it."""
        cases = (
            (v1(HOST, PORT), f"{HOST}:{PORT}"),
            (v2("198.51.100.8", 1), "198.51.100.8:1"),
            (v1("2001:db8:0:0::7", 7), "[2001:db8::7]:7"),
            (v2("2001:db8:1::9", 65535, b"\x04\x00\x01x"), "[2001:db8:1::9]:65535"),
        )
        for header, peer in cases:
            for pieces in ([header], [header[at : at + 1] for at in range(len(header))]):
                device = new_device()
                with self.daemon.lock() as lock:
                    for piece in pieces:
                        lock.send(piece)
                    lock.ask(report(1, device))
                    self.assertEqual(self.session(device), peer)
                    self.assertEqual(self.peers(device), {peer})

    def test_with_the_first_frame(self) -> None:
        """Header and frames may come in one segment, as from balancers that wait for the first bytes."""
        device = new_device()
        self.connect(v2("198.51.100.9", PORT) + report(1, device)).answers()
        self.assertEqual(self.peers(device), {f"198.51.100.9:{PORT}"})

    def test_counted_by_address(self) -> None:
        """Connections are limited by the address behind the balancer, not by the balancer's own."""
        before = self.value('jt709c_dropped_total{reason="max_per_address"}')
        first, second = (self.connect(v2("192.0.2.1", port)) for port in (1, 2))
        for lock in (first, second):
            lock.ask(report(1, new_device()))
        self.assertTrue(self.connect(v2("192.0.2.1", 3)).closed_within())
        self.assertEqual(self.value('jt709c_dropped_total{reason="max_per_address"}'), before + 1)
        for number in range(2, 6):
            self.connect(v2(f"192.0.2.{number}", 1)).ask(report(1, new_device()))
        first.close()
        again = wait_until(lambda: self.try_again("192.0.2.1"), message="the place did not become free")
        again.close()

    def try_again(self, host: str) -> Lock | None:
        lock = self.connect(v2(host, 4))
        try:
            lock.ask(report(1, new_device()))
        except AssertionError:
            return None
        return lock

    def test_health_checks(self) -> None:
        """A balancer's health check without bytes causes no line, event or counter."""
        before = {name: value for name, value in self.daemon.metrics().items() if "malformed" in name}
        lines, kept = self.daemon.log().count("malformed"), self.malformed()
        for said in NO_ONE * 5:
            self.connect(said).close()
        wait_until(lambda: self.value("jt709c_links") == 0, message="a health check is still open")
        after = {name: value for name, value in self.daemon.metrics().items() if "malformed" in name}
        self.assertEqual((after, self.malformed()), (before, kept))
        self.assertEqual(self.daemon.log().count("malformed"), lines)
        self.assertNotIn("Traceback", self.daemon.log())

    def test_speaks_for_itself(self) -> None:
        """A lock behind a header without an address has the balancer's."""
        for header in NO_ONE[1:]:
            device = new_device()
            with self.daemon.lock() as lock:
                here = "{}:{}".format(*lock.socket.getsockname())
                lock.send(header)
                lock.ask(report(1, device))
                self.assertEqual(self.peers(device), {here})

    def test_no_header(self) -> None:
        """A lock without a header is disconnected, and the stored bytes show no password."""
        sentence = b"(8000400055,P52,2,427819)"
        for said, kept in ((report(1), report(1)[:5]), (sentence, sentence[:5])):
            lock = self.connect(said)
            here = "{}:{}".format(*lock.socket.getsockname())
            self.assertTrue(lock.closed_within())
            found = wait_until(lambda: [one for one in self.malformed() if one["peer"] == here])  # noqa: B023
            self.assertEqual([(one["reason"], one["raw"]) for one in found], [("proxy_header", kept.hex())])
            self.assertIn(f"malformed (proxy_header) from {here}", self.daemon.log())
        self.assertNotIn(b"427819".hex(), self.daemon.log())

    def test_malformed_header(self) -> None:
        """A malformed header closes the connection, counts once, and no frame behind it is processed."""
        count = self.value('jt709c_malformed_total{reason="proxy_header"}')
        dropped = self.value('jt709c_dropped_total{reason="proxy_header"}')
        device = new_device()
        bad = (b"PROXY TCP4 198.51.100.7 x 1 2\r\n", binary(PROXY, INET, b"\x00" * 4), b"PROXY " + b"x" * 200)
        for header in bad:
            self.assertTrue(self.connect(header + report(1, device)).closed_within())
        self.assertEqual(self.value('jt709c_malformed_total{reason="proxy_header"}'), count + 3)
        self.assertEqual(self.value('jt709c_dropped_total{reason="proxy_header"}'), dropped + 3)
        self.assertEqual(self.peers(device), set())
        self.assertNotIn("Traceback", self.daemon.log())

    def test_command(self) -> None:
        """A command reaches a lock behind a balancer, and the gateway gets the answer."""
        device = new_device()
        lock = FakeLock(device).connect(self.daemon, known=False)
        self.addCleanup(lock.close)
        lock.send(v2("198.51.100.20", PORT))
        lock.report()
        command = self.client.unlock(device)
        lock.say_yes(lock.next_unlock())
        lock.open()
        self.client.wait(command, "confirmed")


class PolicyTests(BalancerCase):
    """Admission and idle timeout behind a balancer."""

    options = ("--admit=redis", "--idle-timeout=2", "--first-frame-timeout=1")

    def test_no_frame(self) -> None:
        """A connection without a whole header, or with nothing else, is closed like one without a frame."""
        before = self.value('jt709c_dropped_total{reason="no_frame"}')
        beginnings = (b"", v1(HOST, PORT)[:20], v2(HOST, PORT)[:20], v1(HOST, PORT))
        for said, lock in [(said, self.connect(said)) for said in beginnings]:
            self.assertTrue(lock.closed_within(), said)
        self.assertEqual(self.value('jt709c_dropped_total{reason="no_frame"}'), before + len(beginnings))

    def test_not_admitted(self) -> None:
        """The log line about a rejected lock names its own address."""
        device = new_device()
        self.assertTrue(self.connect(v1(HOST, PORT) + report(1, device)).closed_within())
        self.assertIn(f"lock {device} at {HOST}:{PORT} is not admitted", self.daemon.log())
        wait_until(lambda: [one["peer"] for one in self.malformed()] == [f"{HOST}:{PORT}"])

    def test_idle(self) -> None:
        """A silent lock is offline after --idle-timeout, and its last event names its own address."""
        device = new_device()
        self.client.redis.call("SADD", "jt709c:allowed", device)
        lock = self.connect(v2(HOST, PORT))
        lock.ask(report(1, device))
        self.assertTrue(lock.closed_within())
        told = wait_until(lambda: self.client.events("session", device)[1:])
        self.assertEqual(
            [(one["data"]["state"], one["peer"]) for one in told], [("offline", f"{HOST}:{PORT}")]
        )


class WorkersTests(BalancerCase):
    """The same with several processes on the port."""

    options = ("--workers=2", "--gateway=gw", "--max-connections-per-address=2")

    def test_workers(self) -> None:
        """Every worker reads the header of its connections."""
        self.daemon.wait_workers(2)
        holders = set()
        for number in range(24):
            device = new_device()
            self.connect(v2(f"198.51.100.{number}", 7)).ask(report(1, device))
            self.assertEqual(self.peers(device), {f"198.51.100.{number}:7"})
            holders.add(self.session(device, "gateway"))
        self.assertEqual(holders, {"gw-1", "gw-2"})

    def test_not_shared(self) -> None:
        """An endpoint that workers can't share is refused at the start, behind a balancer as well."""
        path = temporary_path(self)
        for endpoint in (f"haproxy:unix:{path}", f"unix:{path}"):
            found = run_twistd(
                "-n", "--pidfile=", "jt709c-gateway", "--workers=2", "--listen", endpoint, directory="."
            )
            self.assertEqual(found.returncode, 1)
            self.assertIn(
                f"--listen {endpoint!r}: expected an endpoint that 2 workers can share", found.stderr
            )
