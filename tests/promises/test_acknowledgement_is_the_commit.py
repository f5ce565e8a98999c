"""Promise 1: the acknowledgement is the commit."""

import os
import signal
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.daemon import Daemon, gone
from tests.support.partitioned import store
from tests.support.reporter import Reporter, answered, published, report, stream_events

DEVICE = "794308010679"
#: Seconds to wait for an answer that must not come; with Redis it takes milliseconds.
SILENCE = 1.0


class AcknowledgementIsTheCommitTests(SynchronousTestCase):
    def start(self, *options: str) -> None:
        self.server = store("--appendonly", "yes", "--appendfsync", "always").start()
        self.addCleanup(self.server.discard)
        self.daemon = Daemon(*options, redis=self.server.url)
        self.addCleanup(self.daemon.discard)
        self.daemon.start()

    def published(self) -> dict[tuple[str, int], int]:
        with self.server.client() as client:
            return dict(published(client))

    def once(self, *serials: int) -> dict[tuple[str, int], int]:
        return {(DEVICE, serial): 1 for serial in serials}

    def test_redis_hangs(self) -> None:
        """While Redis hangs nothing is answered; afterwards everything is, and each event is in the stream
        once."""
        self.start()
        with self.daemon.lock() as lock, self.daemon.datagrams() as udp:
            lock.ask(report(1))
            self.server.pause()
            lock.send(report(2), report(3))
            lock.send(report(4))
            udp.send(report(1, "794308010680"))
            self.assertEqual(lock.answers_within(SILENCE), [])
            udp.settimeout(0.05)
            self.assertRaises(TimeoutError, udp.recv, 100)
            self.server.resume()
            self.assertEqual([answered(one) for one in lock.answers(3)], [2, 3, 4])
            udp.settimeout(10)
            self.assertEqual(answered(udp.recv(100)), 1)
        self.assertEqual(self.published(), {**self.once(1, 2, 3, 4), ("794308010680", 1): 1})

    def test_redis_hangs_for_long(self) -> None:
        """When Redis hangs for longer than the timeout, the call is repeated; each event is in the stream
        once."""
        self.start("--redis-timeout", "0.5")
        with self.daemon.lock() as lock:
            lock.ask(report(1))
            self.server.pause()
            lock.send(report(2))
            lock.send(report(3))
            self.assertEqual(lock.answers_within(SILENCE), [])
            wait_until(lambda: "no reply from Redis" in self.daemon.log())
            self.server.resume()
            self.assertEqual([answered(one) for one in lock.answers(2)], [2, 3])
        self.assertEqual(self.published(), self.once(1, 2, 3))

    def test_redis_killed(self) -> None:
        """While Redis is down nothing is answered; reports repeated after its return are in the stream
        once."""
        self.start()
        with self.daemon.lock() as lock:
            lock.ask(report(1))
            self.server.kill()
            lock.send(report(2), report(3))
            self.assertEqual(lock.answers_within(SILENCE), [])
            lock.send(report(2), report(3))
            self.server.start()
            self.assertEqual(sorted(answered(one) for one in lock.answers(4)), [2, 2, 3, 3])
            self.assertEqual([answered(one) for one in lock.ask(report(1), report(2))], [1, 2])
        self.assertEqual(self.published(), self.once(1, 2, 3))

    def test_redis_killed_under_load(self) -> None:
        """Redis dies under load: every answered report is in its stream once, and none is missing."""
        self.start()
        self.check_load(lambda: (self.server.kill(), self.server.start()))

    def test_gateway_killed_under_load(self) -> None:
        """The gateway dies under load: every answered report is in the stream once, and none is missing."""
        self.start()
        sent, expected = self.check_load(lambda: (self.daemon.kill(), self.daemon.start()))
        # Otherwise no lock repeated a report and the test shows nothing.
        self.assertTrue(sent > expected)

    def check_load(self, disturb: Callable[[], object]) -> tuple[int, int]:
        count = 1200
        reporters = [Reporter(self.daemon, f"79430801{number:04d}", count) for number in range(4)]
        for reporter in reporters:
            reporter.start()
        for share in (0.2, 0.5):
            goal = share * count * len(reporters)
            wait_until(lambda goal=goal: sum(one.answers for one in reporters) >= goal)
            disturb()
        for reporter in reporters:
            reporter.join(60)
            self.assertIsNone(reporter.error)
            self.assertEqual(reporter.answered, set(range(1, count + 1)))
        expected = {(one.device, serial): 1 for one in reporters for serial in range(1, count + 1)}
        self.assertEqual(self.published(), expected)
        self.assertNotIn("Traceback", self.daemon.log())
        return sum(one.sent for one in reporters), len(expected)


class EmbeddedServerTests(SynchronousTestCase):
    """The embedded server keeps the same promise."""

    def test_kill(self) -> None:
        """A killed gateway takes its server along; the next start has all answered reports."""
        daemon = Daemon().start()
        self.addCleanup(daemon.discard)
        server = daemon.embedded_pid()
        with daemon.lock() as lock:
            self.assertEqual(len(lock.ask(*[report(serial) for serial in range(1, 51)])), 50)
        daemon.kill()
        gone(server)
        daemon.start()
        with daemon.embedded_client() as client:
            self.assertEqual(published(client), {(DEVICE, serial): 1 for serial in range(1, 51)})
        # Repeat the same reports, as from a lock that did not get the answers.
        with daemon.lock() as lock:
            self.assertEqual(len(lock.ask(*[report(serial) for serial in range(1, 51)])), 50)

    def test_kill_under_load(self) -> None:
        """Killed under load and started again: every answered report is in the stream, once."""
        daemon = Daemon().start()
        self.addCleanup(daemon.discard)
        reporters = [Reporter(daemon, f"79430801{number:04d}", 300) for number in range(3)]
        for reporter in reporters:
            reporter.start()
        wait_until(lambda: sum(one.answers for one in reporters) > 200)
        daemon.kill()
        daemon.start()
        for reporter in reporters:
            reporter.join(60)
            self.assertEqual(len(reporter.answered), 300)
        with daemon.embedded_client() as client:
            expected = {(one.device, serial): 1 for one in reporters for serial in range(1, 301)}
            self.assertEqual(published(client), expected)

    def test_server_killed(self) -> None:
        """The server alone is killed: it is restarted, and waiting reports are committed and answered."""
        daemon = Daemon().start()
        self.addCleanup(daemon.discard)
        with daemon.lock() as lock:
            lock.ask(report(1))
            os.kill(daemon.embedded_pid(), signal.SIGKILL)
            self.assertEqual([answered(one) for one in lock.ask(report(2), report(3))], [2, 3])
        with daemon.embedded_client() as client:
            kinds = [(event["kind"], event["data"].get("state")) for event in stream_events(client)]
        self.assertEqual(kinds.count(("location", None)), 3)
        self.assertEqual(kinds.count(("session", "online")), 1)
