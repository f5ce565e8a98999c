"""The parts that ``--workers`` is made of: shared ports, the channel, logs, metrics of all on a page."""

import io
import json
import socket
import sys
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from twisted.internet import defer, reactor, task
from twisted.internet.protocol import Factory
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.transport.listeners import Inherited, ListenError
from jt709c_gateway.transport.shared_ports import SharedPort
from jt709c_gateway.util.child_process import ChildProcess
from jt709c_gateway.workers import main as worker_main
from jt709c_gateway.workers.ipc import Report, StatusClient, StatusReporter
from jt709c_gateway.workers.metrics import WorkersCollector
from jt709c_gateway.workers.worker_process import WorkerProcess
from tests.support import LOOPBACK


class SharedPortTests(SynchronousTestCase):
    def port(self, made: SharedPort, count: int = 2) -> SharedPort:
        made.bind(range(count))
        self.addCleanup(made.close_all)
        return made

    def tcp(self, number: int = 0) -> SharedPort:
        return SharedPort.tcp(f"tcp:{number}:interface={LOOPBACK}:backlog=9")

    def arrived(self, port: SharedPort, number: int) -> bool:
        """Whether a connection waits at this socket; it is taken."""
        try:
            port.open(number).accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def connect(self, port: SharedPort, count: int) -> None:
        for _ in range(count):
            self.addCleanup(socket.create_connection((LOOPBACK, port.address.port), 5).close)

    def test_any_port(self) -> None:
        """Port 0 is one free port for all sockets."""
        for made in (self.tcp(), SharedPort.udp(0, LOOPBACK)):
            port = self.port(made, 3)
            numbers = {port.open(number).getsockname()[1] for number in range(3)}
            self.assertEqual(numbers, {port.address.port})
            self.assertEqual(len({port.open(number).fileno() for number in range(3)}), 3)
            self.assertEqual(port.address.host, LOOPBACK)

    def test_taken(self) -> None:
        """Neither who shares a port nor who has it alone leaves it to another."""
        first = self.port(self.tcp())
        again = self.tcp(first.address.port)
        self.assertIn("in use", str(self.assertRaises(ListenError, again.bind, range(2))))
        udp = self.port(SharedPort.udp(0, LOOPBACK))
        other = SharedPort.udp(udp.address.port, LOOPBACK)
        error = self.assertRaises(ListenError, other.bind, range(2))
        self.assertIn(f"--udp {udp.address.port}:interface={LOOPBACK}", str(error))
        udp.close_all()
        self.port(other)

    def test_nobodys_address(self) -> None:
        """An interface that this host doesn't have."""
        for interface in ("192.0.2.1", "2001:db8::1"):
            error = self.assertRaises(ListenError, SharedPort.udp(0, interface).bind, range(2))
            self.assertIn(interface, str(error))

    def test_closed_and_opened(self) -> None:
        """What comes while a socket is closed goes to the others; opened again it gets its share."""
        port = self.port(self.tcp(), 2)
        port.close(0)
        self.connect(port, 5)
        self.assertEqual([self.arrived(port, 1) for _ in range(5)], [True] * 5)
        self.assertFalse(self.arrived(port, 0))
        arrived = set()
        for _ in range(60):
            self.connect(port, 1)
            arrived |= {number for number in range(2) if self.arrived(port, number)}
        self.assertEqual(arrived, {0, 1})

    def test_endpoints(self) -> None:
        """A shared port is where the endpoint says."""
        self.assertEqual(SharedPort.tcp("tcp:8888").family, socket.AF_INET)
        self.assertEqual(SharedPort.tcp("tcp6:8888").family, socket.AF_INET6)
        self.assertEqual(SharedPort.tcp(r"tcp:8888:interface=\:\:1").family, socket.AF_INET6)
        self.assertEqual(SharedPort.udp(8888, "::").family, socket.AF_INET6)

    def test_inherited_is_wrong(self) -> None:
        """A descriptor that is no such socket is an error, and no service without a port."""
        service = Inherited(-1, socket.AF_INET, socket.SOCK_STREAM).stream_service(reactor, Factory())
        self.assertRaises(ListenError, service.startService)
        datagrams = Inherited(-1, socket.AF_INET, socket.SOCK_DGRAM).datagram_service(reactor, object())  # type: ignore[arg-type]
        self.assertRaises(ListenError, datagrams.startService)


class ChannelTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.started: list[bool] = []
        self.reports = 0
        self.questions, self.reporter = (
            StatusClient(lambda: self.started.append(True)),
            StatusReporter(self.report),
        )
        self.ours, self.theirs = StringTransport(), StringTransport()

    def connect(self) -> None:
        self.questions.makeConnection(self.ours)
        self.reporter.makeConnection(self.theirs)

    def report(self) -> Report:
        self.reports += 1
        return Report({"ready": True}, f"report {self.reports}")

    def carry(self) -> None:
        """Bring over what each has written."""
        for source, target in ((self.ours, self.reporter), (self.theirs, self.questions)):
            data = source.value()
            source.clear()
            for index in range(len(data)):
                target.dataReceived(data[index : index + 1])

    def test_started(self) -> None:
        """The first report says that the worker is up, and answers no question."""
        self.connect()
        asked = self.questions.ask()
        self.reporter.report()
        data = self.theirs.value()
        self.theirs.clear()
        self.questions.dataReceived(data)
        self.assertEqual(self.started, [True])
        self.assertNoResult(asked)
        self.carry()
        self.assertEqual(self.successResultOf(asked), Report({"ready": True}, "report 2"))
        self.assertEqual(self.started, [True])

    def test_asked_once(self) -> None:
        """Who asks while an answer is awaited shares it; who gave up keeps nobody from it."""
        self.connect()
        self.reporter.report()
        self.carry()
        clock = task.Clock()
        gave_up = self.questions.ask().addTimeout(1, clock)
        clock.advance(1)
        self.failureResultOf(gave_up, defer.TimeoutError)
        asked = [self.questions.ask() for _ in range(3)]
        self.assertEqual(self.ours.value(), b"0:,")
        self.carry()
        self.assertEqual([self.successResultOf(one).metrics for one in asked], ["report 2"] * 3)
        self.questions.ask()
        self.assertEqual(self.ours.value(), b"0:,")

    def test_worker_ends(self) -> None:
        """There is no report from a worker that isn't connected yet, nor from one that ends."""
        self.assertIsNone(self.successResultOf(self.questions.ask()))
        self.connect()
        asked = self.questions.ask()
        self.questions.connectionLost(Failure(ConnectionError()))
        self.assertIsNone(self.successResultOf(asked))


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)
        self.process = WorkerProcess("gw-1", lambda: None)

    def said(self) -> list[tuple[str, str, str]]:
        return [(one["log_level"].name, one["log_namespace"], formatEvent(one)) for one in self.events]

    def test_events(self) -> None:
        """Each line of a worker's log is an event of ours, of the same level, however it comes."""
        lines = [["warn", "a.B", "one {brace}\ntwo"], ["info", "", "three"]]
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        for index in range(len(data)):
            self.process.childDataReceived(1, data[index : index + 1])
        self.assertEqual(self.said(), [("warn", "gw-1 a.B", "one {brace}\ntwo"), ("info", "gw-1", "three")])

    def test_anything_else(self) -> None:
        """What isn't of that form is said all the same; the last that Python says is the reason of an end."""
        for line in (b"plain", b'"text"', b"[1, 2]", b'["loud", "a", "b"]', b"7", b"\xff"):
            self.process.childDataReceived(1, line + b"\n")
        self.process.childDataReceived(2, b"Fatal: first\n\nFatal: la")
        self.process.childDataReceived(2, b"st")
        self.process.processEnded(Failure(Exception()))
        self.assertEqual(len(self.events), 9)
        self.assertEqual({one["log_level"] for one in self.events}, {LogLevel.error})
        self.assertEqual(self.process.last_stderr_line, "Fatal: last")

    def test_endless_line(self) -> None:
        """A line without end is not kept for ever."""
        for _ in range(64):
            self.process.childDataReceived(2, b"x" * 8192)
        self.assertTrue(len(self.events) >= 3)


class _Worker:
    restarts = 3

    def __init__(self, name: str, report: Report | None) -> None:
        self.name = name
        self.report = report


class MetricsTests(SynchronousTestCase):
    def text(self, frames: int) -> str:
        registry = CollectorRegistry()
        Counter("frames", 'Frames: "all".', ["kind"], registry=registry).labels('a"b\\').inc(frames)
        Histogram("seconds", "How long.", buckets=(1,), registry=registry).observe(frames)
        return generate_latest(registry).decode()

    def test_together(self) -> None:
        """Samples keep name, labels and value and get their worker's name; each family is there once."""
        workers = [
            _Worker("gw-1", Report({}, self.text(2))),
            _Worker("gw-2", Report({}, self.text(5))),
            _Worker("gw-3", None),
        ]
        registry = CollectorRegistry()
        registry.register(WorkersCollector(workers))  # type: ignore[arg-type]
        lines = generate_latest(registry).decode().splitlines()
        for line in (
            'frames_total{kind="a\\"b\\\\",worker="gw-1"} 2.0',
            'frames_total{kind="a\\"b\\\\",worker="gw-2"} 5.0',
            'seconds_bucket{le="1.0",worker="gw-2"} 0.0',
            'seconds_bucket{le="+Inf",worker="gw-2"} 1.0',
            'seconds_sum{worker="gw-1"} 2.0',
            "# TYPE frames_total counter",
            "# TYPE seconds histogram",
            'jt709c_worker_up{worker="gw-1"} 1.0',
            'jt709c_worker_up{worker="gw-3"} 0.0',
            'jt709c_worker_restarts_total{worker="gw-3"} 3.0',
        ):
            self.assertEqual(lines.count(line), 1, line)


class ChildTests(TestCase):
    def start(self, script: str) -> tuple[ChildProcess, "defer.Deferred[None]"]:
        """A process that runs this, and what fires with its first output."""
        ready: defer.Deferred[None] = defer.Deferred()
        child = ChildProcess()
        child.outReceived = lambda _: ready.callback(None)  # type: ignore[method-assign]
        reactor.spawnProcess(child, sys.executable, [sys.executable, "-c", script])  # type: ignore[attr-defined]
        return child, ready

    async def test_ends(self) -> None:
        """A child that ends when it is asked to, and one that has ended."""
        child, ready = self.start("import time; print(1, flush=True); time.sleep(60)")
        await ready
        self.assertTrue(await child.end(reactor, 10))
        self.assertEqual(child.exit, "signal 15")
        self.assertTrue(await child.end(reactor, 10))
        self.assertEqual(await child.when_ended(), "signal 15")

    async def test_insists(self) -> None:
        """A child that doesn't is killed after the time it was given."""
        script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        child, ready = self.start(script + "print(1, flush=True); time.sleep(60)")
        await ready
        self.assertFalse(await child.end(reactor, 0.1))
        self.assertEqual(child.exit, "signal 9")

    async def test_status(self) -> None:
        """A child that ends by itself."""
        child, _ = self.start("import sys; sys.exit(7)")
        self.assertEqual(await child.when_ended(), "exit status 7")


class WorkerLogTests(SynchronousTestCase):
    """What a worker writes for its supervisor's log."""

    def test_leaves_out_twisteds_ports(self) -> None:
        """Twisted's lines about ports are left out, as in the program; other lines are written."""
        file = io.StringIO()
        log = worker_main._Log(file)
        for namespace, text in (
            ("log_legacy", "TCP for locks starting on 8888"),
            ("twisted.internet.udp", "(UDP Port 8888 Closed)"),
            ("log_legacy", "Main loop terminated."),
            ("log_legacy", "Received SIGTERM, shutting down."),
            ("jt709c_gateway.x", "TCP for locks starting on 8888"),
        ):
            log({"log_format": text, "log_namespace": namespace, "log_level": LogLevel.info})
        written = [json.loads(line)[1:] for line in file.getvalue().splitlines()]
        self.assertEqual(
            written,
            [
                ["", "Received SIGTERM, shutting down."],
                ["jt709c_gateway.x", "TCP for locks starting on 8888"],
            ],
        )
