"""``--workers``: several processes on one host share the ports, and a supervisor restarts them."""

import json
import os
import re
import signal
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ValkeyServer, free_port, process_alive, temporary_path, wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon, DaemonCase, gone, run_twistd
from tests.support.reporter import DatagramReporter, Reporter, published, report, stream_events

NAMES = {"gw-1", "gw-2"}
REFUSED = "something is missing"


class ServingTests(DaemonCase):
    """Two workers and one Redis, the same ones in each test."""

    options = ("--workers", "2", "--gateway", "gw")

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.daemon.wait_workers(2)

    def setUp(self) -> None:
        self.client = self.server.client()
        self.addCleanup(self.client.close)

    def holder(self, device: str) -> str:
        """Return the gateway that has a lock's session."""
        name = self.client.call("HGET", f"jt709c:session:{device}", "gateway")
        return (name or b"").decode()

    def end_worker(self, name: str, number: int) -> None:
        """Send a signal that ends a worker, and wait until its successor can commit."""
        before = self.daemon.worker_pids()[name]
        os.kill(before, number)
        wait_until(lambda: self.daemon.worker_pids()[name] != before, message="the worker did not come back")
        self.daemon.wait_workers(2)

    def value(self, name: str, worker: str) -> float:
        return self.daemon.metrics().get(f'{name}{{worker="{worker}"}}', 0.0)

    def known(self) -> int:
        """Return the number of locks in Redis."""
        found: int = self.client.call("ZCARD", "jt709c:devices")
        return found

    def test_spread(self) -> None:
        """Both workers get connections and addresses; each has its own name, also in events."""
        devices = [new_device() for _ in range(48)]
        with ExitStack() as stack:
            for number, device in enumerate(devices):
                lock = self.daemon.lock() if number % 2 else self.daemon.datagram_lock()
                stack.enter_context(lock).ask(report(1, device))
            for kind in (devices[::2], devices[1::2]):
                self.assertEqual({self.holder(device) for device in kind}, NAMES)
            counts = Counter(self.holder(device) for device in devices)
            for name in NAMES:
                self.assertTrue(self.value("jt709c_sessions", name) >= counts[name])
        said = {one["device"]: one["gateway"] for one in stream_events(self.client)}
        self.assertEqual({said[device] for device in devices}, NAMES)
        self.assertEqual({self.client.call("EXISTS", f"jt709c:gateway:{name}") for name in NAMES}, {1})

    def test_metrics(self) -> None:
        """One page shows all workers: each family once, each sample with its worker."""
        status, text = self.daemon.get("/metrics")
        self.assertEqual(status, 200)
        names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        self.assertEqual(len(names), len(set(names)))
        for family in text_string_to_metric_families(text):
            labels = Counter(sample.labels.get("worker") for sample in family.samples)
            self.assertTrue(set(labels) <= NAMES, family.name)
        for name in NAMES:
            self.assertEqual(self.value("jt709c_worker_up", name), 1)
            self.assertEqual(self.value("jt709c_redis_up", name), 1)
            # Each counts the whole fleet.
            wait_until(lambda name=name: self.value("jt709c_fleet_locks", name) == self.known())

    def test_killed_under_load(self) -> None:
        """A worker is killed under load, twice: every report is answered, and in the stream once."""
        count = 500
        kinds = (Reporter, DatagramReporter)
        reporters = [kinds[number % 2](self.daemon, new_device(), count) for number in range(8)]
        restarts = self.value("jt709c_worker_restarts_total", "gw-1")
        for reporter in reporters:
            reporter.start()
        for share in (0.2, 0.5):
            goal = share * count * len(reporters)
            wait_until(lambda goal=goal: sum(one.answers for one in reporters) >= goal)
            self.end_worker("gw-1", signal.SIGKILL)
        for reporter in reporters:
            reporter.join(60)
            self.assertIsNone(reporter.error)
            self.assertEqual(reporter.answered, set(range(1, count + 1)))
        # Otherwise no lock repeated a report and the test shows nothing.
        self.assertTrue(sum(one.sent for one in reporters) > count * len(reporters))
        found = published(self.client)
        for one in reporters:
            self.assertEqual({found[one.device, serial] for serial in range(1, count + 1)}, {1})
        self.assertEqual(self.value("jt709c_worker_restarts_total", "gw-1"), restarts + 2)
        self.assertIn("worker gw-1 ended (signal 9); restarting it", self.daemon.log())
        self.assertNotIn("Traceback", self.daemon.log())

    def test_served_meanwhile(self) -> None:
        """While a worker is gone, the locks of the other are served."""
        pids = self.daemon.worker_pids()
        device = new_device()
        with self.daemon.lock() as lock:
            lock.ask(report(1, device))
            (other,) = NAMES - {self.holder(device)}
            os.kill(pids[other], signal.SIGKILL)
            gone(pids[other])
            self.assertEqual(len(lock.ask(*[report(serial, device) for serial in range(2, 30)])), 28)
        wait_until(lambda: self.daemon.worker_pids()[other] != pids[other])
        self.daemon.wait_workers(2)

    def test_new_address(self) -> None:
        """A lock whose address changes is served by any worker; its repeated reports count once."""
        device = new_device()
        holders = set()
        serial = 0
        while holders != NAMES:
            serial += 1
            self.assertTrue(serial < 60)
            with self.daemon.datagram_lock() as lock:
                lock.ask(report(serial, device), report(max(1, serial - 1), device))
                holders.add(self.holder(device))
        found = published(self.client)
        self.assertEqual({found[device, one] for one in range(1, serial + 1)}, {1})

    def test_ended_in_good_order(self) -> None:
        """SIGTERM to one worker: its locks go offline, and a new worker replaces it."""
        device = new_device()
        with self.daemon.lock() as lock:
            lock.ask(report(1, device))
            self.end_worker(self.holder(device), signal.SIGTERM)
            self.assertTrue(lock.closed_within())
        said = [one["data"] for one in stream_events(self.client) if one["device"] == device]
        self.assertEqual((said[-1]["state"], said[-1]["reason"]), ("offline", "shutdown"))

    def test_command_left_behind(self) -> None:
        """A command written by a killed worker is uncertain and not repeated; later commands find the lock at
        any worker."""
        client = CommandClient(self.server)
        self.addCleanup(client.close)
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        command = client.unlock(lock.device)
        lock.next_unlock()
        client.wait(command, "sent")
        self.end_worker(self.holder(lock.device), signal.SIGKILL)
        self.assertIn("gateway died after writing", client.wait(command, "uncertain")["reason"])
        for _ in range(4):
            lock.connect(self.daemon)
            lock.beat()
            self.assertEqual(lock.unlocks(), [])
            command = client.unlock(lock.device)
            lock.say_yes(lock.next_unlock())
            lock.open()
            client.wait(command, "confirmed")
        self.assertEqual(len(lock.commands), 5)

    def test_hangs(self) -> None:
        """A hanging worker does not delay the pages, which show that it is down."""
        pid = self.daemon.worker_pids()["gw-2"]
        os.kill(pid, signal.SIGSTOP)
        try:
            metrics = self.daemon.metrics()
            up = [metrics[f'jt709c_worker_up{{worker="{name}"}}'] for name in sorted(NAMES)]
            self.assertEqual(up, [1, 0])
            status, text = self.daemon.get("/readyz")
            self.assertEqual(status, 200)
            self.assertEqual(
                {name: one["ready"] for name, one in json.loads(text)["workers"].items()},
                {"gw-1": True, "gw-2": False},
            )
        finally:
            os.kill(pid, signal.SIGCONT)
        self.daemon.wait_workers(2)
        self.assertEqual(self.value("jt709c_worker_up", "gw-2"), 1)

    def test_logs(self) -> None:
        """Log lines of workers are in the one log, with the worker's name."""
        with self.daemon.lock() as lock:
            lock.send(b"\x7e\x02\x00\x7e")
            wait_until(lambda: re.search(r"\[gw-[12] jt709c_gateway\S+#info\] malformed", self.daemon.log()))


class AddressTests(SynchronousTestCase):
    def test_keeps_its_worker(self) -> None:
        """Datagrams of one address go to one worker, and after its end to its successor, including those in
        between."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon("--workers", "2", "--gateway", "gw", redis=server.url, tcp=False).start()
        self.addCleanup(daemon.discard)
        pids = daemon.wait_workers(2)
        devices = [new_device() for _ in range(16)]
        with ExitStack() as stack, server.client() as client:
            locks = [stack.enter_context(daemon.datagram_lock(20)) for _ in devices]
            for device, lock in zip(devices, locks, strict=True):
                lock.ask(*[report(serial, device) for serial in range(1, 5)])
            os.kill(pids["gw-1"], signal.SIGKILL)
            gone(pids["gw-1"])
            for device, lock in zip(devices, locks, strict=True):
                lock.send(report(5, device))
            for lock in locks:
                lock.answers(1)
            events = stream_events(client)
        self.assertNotEqual(daemon.worker_pids()["gw-1"], pids["gw-1"])
        said = {device: {one["gateway"] for one in events if one["device"] == device} for device in devices}
        self.assertEqual({len(names) for names in said.values()}, {1})
        self.assertEqual(set.union(*said.values()), NAMES)


class EndTests(SynchronousTestCase):
    def start(self, *options: str) -> Daemon:
        daemon = Daemon("--workers", "2", "--gateway", "gw", *options)
        self.addCleanup(daemon.discard)
        daemon.start()
        daemon.wait_workers(2)
        self.pids = [*daemon.worker_pids().values(), daemon.embedded_pid()]
        self.assertEqual(len(set(self.pids)), 3)
        return daemon

    def test_terminate(self) -> None:
        """SIGTERM ends everything gracefully: locks go offline, the embedded server stops last."""
        daemon = self.start()
        with ExitStack() as stack:
            locks = [stack.enter_context(daemon.lock()) for _ in range(12)]
            for number, lock in enumerate(locks):
                lock.ask(report(1, f"7943080100{number:02d}"))
            for lock in locks:
                lock.send(*[report(serial, f"7943080100{locks.index(lock):02d}") for serial in range(2, 10)])
                lock.answers(1)
            self.assertEqual(daemon.stop(), 0)
            for lock in locks:
                self.assertEqual(len(lock.answers(7)), 7)
                self.assertTrue(lock.closed_within())
        self.assertFalse(any(process_alive(pid) for pid in self.pids))
        self.assertNotIn("Traceback", daemon.log())
        daemon.start()
        with daemon.embedded_client() as client:
            sessions = [one for one in stream_events(client) if one["kind"] == "session"]
        states = Counter((one["data"]["state"], one["data"]["reason"]) for one in sessions)
        self.assertEqual(states, {("online", "connected"): 12, ("offline", "shutdown"): 12})
        self.assertEqual({one["gateway"] for one in sessions}, NAMES)
        self.assertEqual(daemon.stop(), 0)

    def test_terminate_early(self) -> None:
        """Stopped while its workers are starting, it leaves none behind."""
        daemon = Daemon("--workers", "2", http=False)
        self.addCleanup(daemon.discard)
        daemon.start(ready=False)
        wait_until(lambda: "embedded Valkey" in daemon.log())
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")
        pids = [
            int(pid)
            for pid in wait_until(
                lambda: len(children.read_text().split()) == 3 and children.read_text()
            ).split()
        ]
        self.assertEqual(daemon.stop(), 0)
        self.assertFalse(any(process_alive(pid) for pid in pids))
        self.assertNotIn("Traceback", daemon.log())

    def test_supervisor_killed(self) -> None:
        """When the supervisor is killed, all end with it; the next start finds the ports free."""
        daemon = self.start()
        daemon.kill()
        for pid in self.pids:
            gone(pid)
        daemon.start()
        self.assertEqual(set(daemon.wait_workers(2)), NAMES)
        self.assertEqual(daemon.stop(), 0)


class StartTests(SynchronousTestCase):
    """Errors at the start."""

    def setUp(self) -> None:
        self.directory = Path(temporary_path(self))
        self.directory.mkdir()

    def refused(self, *arguments: str, prelude: str = "pass") -> str:
        done = run_twistd(
            "-n",
            "--pidfile=",
            "jt709c-gateway",
            "--workers=2",
            *arguments,
            directory=self.directory,
            prelude=prelude,
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        return done.stderr

    def test_taken_ports(self) -> None:
        """A taken port, over TCP, UDP, or for metrics."""
        for kind, option, right in (
            (socket.SOCK_STREAM, "--listen=tcp:{}:interface=127.0.0.1", "--listen tcp:{}"),
            (socket.SOCK_DGRAM, "--udp={}:interface=127.0.0.1", "--udp {}:interface=127.0.0.1: "),
            (socket.SOCK_STREAM, "--http=tcp:{}:interface=127.0.0.1", "--http tcp:{}"),
        ):
            with socket.socket(socket.AF_INET, kind) as holder:
                holder.bind((LOOPBACK, 0))
                if kind == socket.SOCK_STREAM:
                    holder.listen()
                port = holder.getsockname()[1]
                none = [] if "--listen" in option else ["--no-tcp"]
                none += [] if "--udp" in option else ["--no-udp"]
                said = self.refused(option.format(port), *none)
                self.assertIn(right.format(port), said)
                self.assertIn("in use", said)

    def test_port_of_other_workers(self) -> None:
        """A port shared by the workers of another gateway."""
        daemon = Daemon("--workers", "2", redis=f"redis://{LOOPBACK}:{free_port()}", http=False)
        self.addCleanup(daemon.discard)
        daemon.start(ready=False)
        self.assertIn(
            "in use", self.refused(f"--listen=tcp:{daemon.tcp_port}:interface={LOOPBACK}", "--no-udp")
        )
        self.assertIn("in use", self.refused(f"--udp={daemon.udp_port}:interface={LOOPBACK}", "--no-tcp"))

    def test_option(self) -> None:
        """An invalid option, for one process and for many."""
        self.assertIn("--idle-timeout 'soon'", self.refused("--idle-timeout=soon"))

    def test_redis(self) -> None:
        """Invalid certificates, and a data directory that can't be made."""
        junk = self.directory / "junk.pem"
        junk.write_text("no certificate")
        ports = ("--no-tcp", "--no-udp")
        self.assertIn("junk.pem", self.refused(*ports, "--redis=rediss://h", f"--redis-ca={junk}"))
        self.assertIn("junk.pem", self.refused(*ports, "--redis=embedded", f"--data-dir={junk}"))

    def test_worker_cannot_start(self) -> None:
        """A worker that ends before it was ever up stops the gateway, which says why in one line."""
        prelude = "import sys; from jt709c_gateway.workers import worker_process as process; "
        prelude += f"process.COMMAND = (sys.executable, '-c', 'import sys; sys.exit(\"{REFUSED}\")')"
        done = run_twistd(
            "-n",
            "--pidfile=",
            "jt709c-gateway",
            "--workers=3",
            "--gateway=gw",
            "--redis=embedded",
            f"--listen=tcp:0:interface={LOOPBACK}",
            "--no-udp",
            directory=self.directory,
            prelude=prelude,
        )
        (line,) = done.stderr.splitlines()
        self.assertRegex(line, rf"^jt709c-gateway: worker gw-[123] did not start: exit status 1: {REFUSED}$")
        self.assertNotIn("restarting it", done.stdout)
        self.assertNotIn("Traceback", done.stdout)
        self.assertIn("Server Shut Down", done.stdout)
