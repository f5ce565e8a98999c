"""`jt709c doctor`: what it concludes, and what it sees of a real gateway."""

import socket
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.diagnosis import Device, Facts, Finding, PartitionFacts, diagnose
from tests.support import LOOPBACK, ValkeyServer, free_port, wait_until
from tests.support.acl import GuardedServer
from tests.support.cli import run
from tests.support.daemon import Daemon
from tests.support.reporter import report

_DEVICE = "794308010679"
_WELL = Facts(
    prefix="jt709c",
    address="127.0.0.1:8888",
    refused=None,
    gateways=["gw1"],
    other_prefixes=(),
    metrics={("jt709c_links", ""): 1.0, ("jt709c_sessions", ""): 1.0},
    connected=True,
    malformed={},
    peers=(),
    devices=1,
    device=Device(_DEVICE, silent=3.0, session="gw1 over tcp from 203.0.113.7:50112"),
)


class DiagnosisTests(SynchronousTestCase):
    """Each line of docs/real-lock.rst, "My lock does not appear"."""

    def problem(self, **different: Any) -> Finding:
        """The one problem of otherwise good facts."""
        (found,) = [one for one in diagnose(evolve(_WELL, **different)) if one.is_problem]
        return found

    def test_partitions(self) -> None:
        """Another number, one that is away, and clocks that differ; a single one is not mentioned."""
        well = PartitionFacts(4, {}, {}, {0: 0.2, 1: -0.3})
        for different, text in (
            ({"other_counts": {0: 6, 1: 6}}, "are in 6 partitions, not 4"),
            ({"away": {3: "refused"}}, "can't be reached: 3: refused"),
            ({"clocks": {0: 1.0, 1: -1.5}}, "of partition 0 is 2.5 s ahead of that of 1"),
        ):
            self.assertIn(text, self.problem(partitions=evolve(well, **different)).text)
        self.assertEqual(
            diagnose(evolve(_WELL, partitions=well))[0], Finding("all of 4 partitions can be reached")
        )
        self.assertEqual(
            diagnose(evolve(_WELL, partitions=PartitionFacts(1, {}, {}, {0: 3.0}))), diagnose(_WELL)
        )
        self.assertIn("--partitions", self.problem(gateways=[], is_divided=True).advice or "")

    def device(self, **different: Any) -> Finding:
        return self.problem(device=Device(_DEVICE, **different))

    def test_all_is_well(self) -> None:
        findings = diagnose(_WELL)
        self.assertEqual([one for one in findings if one.is_problem], [])
        self.assertIn("is connected: gw1 over tcp", findings[-1].text)

    def test_no_gateway(self) -> None:
        self.assertIn("start it", self.problem(gateways=[]).advice or "")
        advice = self.problem(gateways=[], other_prefixes=["{jt709c}"]).advice
        self.assertEqual(advice, "gateways use {jt709c} here: call doctor with --prefix")
        self.assertFalse(any(one.is_problem for one in diagnose(evolve(_WELL, gateways=None))))

    def test_nothing_listens(self) -> None:
        self.assertIn("Connection refused", self.problem(refused="Connection refused").text)

    def test_a_gateway_without_redis(self) -> None:
        found = self.problem(connected=False)
        self.assertEqual(found.text, "the gateway at --http is not connected to Redis")
        self.assertFalse(any(one.is_problem for one in diagnose(evolve(_WELL, connected=None))))

    def test_connections_without_frames(self) -> None:
        metrics = {("jt709c_links", ""): 5.0, ("jt709c_sessions", ""): 1.0}
        self.assertIn("4 connections without a lock now", self.problem(metrics=metrics).text)
        ended = {("jt709c_dropped_total", "no_frame"): 3.0}
        self.assertIn("3 ended without any frame", self.problem(metrics=ended).text)

    def test_unreadable_input(self) -> None:
        found = self.problem(malformed={"garbage": 2}, peers=["203.0.113.7"])
        self.assertIn("garbage 2; from 203.0.113.7", found.text)
        self.assertEqual(
            found.advice, "jt709c malformed has the bytes; jt709c explain shows where one breaks"
        )
        found = self.problem(malformed={"proxy_header": 1}, peers=["203.0.113.7"])
        self.assertIn("without haproxy:", found.advice or "")

    def test_not_admitted(self) -> None:
        self.assertIn("SADD jt709c:allowed ID", self.problem(malformed={"not_admitted": 1}).advice or "")
        for different in ({"turned_away": True}, {"allowed": False}):
            self.assertIn(f"SADD jt709c:allowed {_DEVICE}", self.device(**different).advice or "")

    def test_limits(self) -> None:
        metrics = {("jt709c_dropped_total", "max_per_address"): 7.0}
        found = self.problem(metrics=metrics)
        self.assertEqual(found.text, "7 times turned away at a limit (max_per_address)")
        self.assertIn("--max-connections-per-address", found.advice or "")

    def test_never_heard(self) -> None:
        self.assertIn("tcpdump -i any -n -A port 8888", self.device().advice or "")
        never = Device(_DEVICE)
        advice = self.problem(address="127.0.0.1:18890", device=never).advice or ""
        self.assertTrue(advice.endswith("port 18890"), advice)
        self.assertIn("860000010679 ends in the same digits", self.device(similar=["860000010679"]).text)

    def test_silent_or_with_a_wrong_clock(self) -> None:
        self.assertIn("60 minutes ago", self.device(silent=3600.0).text)
        self.assertIn("off by +28800 s", self.device(silent=3.0, clock_skew=28800.0).text)
        self.assertIn("--utc8", self.device(silent=3.0, clock_skew=28800.0).advice or "")


class DoctorTests(SynchronousTestCase):
    """The subcommand."""

    daemon: Daemon
    server: ValkeyServer

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ValkeyServer().start()
        cls.addClassCleanup(cls.server.discard)
        cls.daemon = Daemon("--gateway", "gw1", "--admit", "redis", redis=cls.server.url).start()
        cls.addClassCleanup(cls.daemon.discard)
        with cls.server.client() as client:
            client.call("SADD", "jt709c:allowed", _DEVICE)
        with cls.daemon.lock() as lock:
            lock.ask(report(1))

    def setUp(self) -> None:
        super().setUp()
        with self.server.client() as client:
            client.call("DEL", "jt709c:malformed")

    def doctor(self, *arguments: str) -> tuple[int, str]:
        where = ["--redis", self.server.url, "--tcp", f"{LOOPBACK}:{self.daemon.tcp_port}"]
        ended = run("doctor", *where, "--http", f"http://{LOOPBACK}:{self.daemon.http_port}", *arguments)
        self.assertEqual(ended.stderr, "")
        return ended.returncode, ended.stdout

    def test_a_lock_that_is_there(self) -> None:
        status, said = self.doctor(_DEVICE)
        self.assertEqual(status, 0, said)
        self.assertIn("gateways that live under the prefix jt709c: gw1\n", said)
        self.assertIn(f"something listens on {LOOPBACK}:{self.daemon.tcp_port}\n", said)
        self.assertRegex(said, rf"{_DEVICE} (is connected|was heard \d+ s ago)")

    def test_a_lock_that_is_not_admitted(self) -> None:
        other = "794308010999"
        with self.daemon.lock() as lock:
            lock.send(report(1, other))
            lock.closed_within()
        with self.server.client() as client:
            wait_until(lambda: client.call("XLEN", "jt709c:malformed"))
        status, said = self.doctor(other)
        self.assertEqual(status, 1)
        self.assertIn(f"! {other} was never heard: its frames come, and it is not admitted\n", said)

    def test_another_prefix(self) -> None:
        status, said = self.doctor("--prefix", "locks")
        self.assertEqual(status, 1)
        self.assertIn("gateways use jt709c here: call doctor with --prefix", said)

    def test_nothing_listens(self) -> None:
        status, said = self.doctor("--tcp", f"{LOOPBACK}:{free_port()}")
        self.assertEqual(status, 1)
        self.assertIn("Connection refused", said)

    def test_another_redis_than_that_of_the_gateway(self) -> None:
        """The gateway's Redis is away, and doctor reads another one, or none."""
        gone = f"redis://{LOOPBACK}:{free_port()}"
        apart = Daemon("--gateway", "gw2", redis=gone).start(ready=False)
        self.addCleanup(apart.discard)
        said_of_it = "! the gateway at --http is not connected to Redis\n"
        where = ["--tcp", f"{LOOPBACK}:{apart.tcp_port}", "--http", f"http://{LOOPBACK}:{apart.http_port}"]
        ended = run("doctor", "--redis", self.server.url, *where)
        self.assertEqual(ended.returncode, 1)
        self.assertIn(said_of_it, ended.stdout)
        ended = run("doctor", "--redis", gone, *where)
        self.assertEqual(ended.returncode, 2)
        self.assertIn(f"something listens on {LOOPBACK}:{apart.tcp_port}\n", ended.stdout)
        self.assertIn(said_of_it, ended.stdout)
        self.assertIn("(--redis or JT709C_REDIS; for an embedded one, embedded:DIR)", ended.stderr)

    def test_connections_without_frames(self) -> None:
        with socket.create_connection((LOOPBACK, self.daemon.tcp_port)):
            wait_until(
                lambda: self.daemon.metrics()["jt709c_links"] > self.daemon.metrics()["jt709c_sessions"]
            )
            _, said = self.doctor()
        self.assertIn("connections without a lock now", said)

    def test_without_metrics(self) -> None:
        _, said = self.doctor("--http", f"http://{LOOPBACK}:{free_port()}")
        self.assertIn("/metrics were not looked at", said)
        self.assertEqual(run("doctor", "--http", "8089").returncode, 2)


class RightsTests(SynchronousTestCase):
    """With the user of docs/security.rst for readers."""

    def test_a_reader_sees_what_it_may(self) -> None:
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        ended = run("doctor", _DEVICE, "--redis", server.url_of("jt709c-reader"))
        self.assertEqual(ended.stderr, "")
        self.assertIn("may not see which gateways live", ended.stdout)
        self.assertIn(f"! {_DEVICE} was never heard", ended.stdout)
