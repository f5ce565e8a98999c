"""Promise 1 with --durability: answered reports survive the loss of the primary."""

import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ValkeyServer, wait_until
from tests.support.commands import CommandClient, FakeLock, check_edges, new_device
from tests.support.daemon import Daemon
from tests.support.failover import FailOver, cut_replication, replicated
from tests.support.reporter import Reporter, answered, published, report

DEVICE = "794308010679"
COUNT = 1000
#: Seconds to wait for an answer that must not come; usually it takes milliseconds.
SILENCE = 1.0


class FailOverCase(SynchronousTestCase):
    def start(self, durability: str, *options: str) -> None:
        self.servers = FailOver(self)
        self.gateway(self.servers.sentinel.url, durability, *options)

    def gateway(self, redis: str, durability: str, *options: str) -> None:
        options = ("--durability", durability, "--gateway", "gw1", *options)
        self.daemon = Daemon(*options, redis=redis, udp=False).start()
        self.addCleanup(self.daemon.discard)


class ReportTests(FailOverCase):
    def load(self) -> list[Reporter]:
        """Start locks that report."""
        reporters = [Reporter(self.daemon, f"79430801{number:04d}", COUNT) for number in range(4)]
        for reporter in reporters:
            reporter.start()
        self.until_answered(reporters, 0.2)
        return reporters

    def until_answered(self, reporters: list[Reporter], share: float) -> None:
        goal = share * COUNT * len(reporters)
        wait_until(lambda: sum(one.answers for one in reporters) >= goal)

    def missing(self, reporters: list[Reporter]) -> set[tuple[str, int]]:
        """Return answered reports that are not in the promoted server's stream. No report is there twice."""
        for reporter in reporters:
            reporter.join(60)
            self.assertIsNone(reporter.error)
            # Unanswered reports were accepted when they were repeated.
            self.assertEqual(reporter.answered, set(range(1, COUNT + 1)))
        with self.servers.replica.client() as client:
            found = published(client)
        self.assertEqual({one: times for one, times in found.items() if times > 1}, {})
        return {(one.device, serial) for one in reporters for serial in one.answered} - found.keys()

    def test_replicas(self) -> None:
        """The primary is killed under load: the promoted replica has every answered report, once."""
        self.start("replicas:1")
        reporters = self.load()
        self.servers.kill()
        # Without a replica no further report is answered.
        self.assertLess(sum(len(one.answered) for one in reporters), COUNT * len(reporters))
        self.servers.add_replica()
        self.assertEqual(self.missing(reporters), set())
        self.assertNotIn("Traceback", self.daemon.log())

    def test_server(self) -> None:
        """By default answered reports that the primary had not replicated are lost: this test finds them."""
        self.start("server")
        reporters = self.load()
        cut_replication(self.servers.primary)
        self.until_answered(reporters, 0.5)
        self.servers.kill()
        self.assertTrue(self.missing(reporters))

    def test_replica_away(self) -> None:
        """Without a replica nothing is answered; afterwards everything is, and each event is there once."""
        primary, replica = replicated(self)
        self.gateway(primary.url, "replicas:1", "--durability-timeout", "0.3")
        with self.daemon.lock() as lock:
            lock.ask(report(1))
            cut_replication(primary)
            lock.send(report(2), report(3))
            self.assertEqual(lock.answers_within(SILENCE), [])
            failed = self.daemon.metrics()['jt709c_commit_waits_failed_total{reason="replicas"}']
            self.assertTrue(2 <= failed <= 4, failed)
            self.assertEqual(self.daemon.log().count("0 of 1 replicas had it within 0.3 s"), 1)
            # The lock repeats its reports; being known already is no reason for an answer.
            lock.send(report(2))
            self.assertEqual(lock.answers_within(0.5), [])
            cut_replication(primary, cut=False)
            self.assertEqual([answered(one) for one in lock.answers(3)], [2, 3, 2])
        with replica.client() as client:
            self.assertEqual(published(client), {(DEVICE, serial): 1 for serial in (1, 2, 3)})


class CommandTests(FailOverCase):
    """A command is written once, whichever server has its record."""

    def claimed_unreplicated(self) -> str:
        """Return the id of a command that both servers have, claimed on the primary only."""
        self.client = CommandClient(self.servers.primary)
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)
        command = self.client.unlock(self.lock.device)
        self.client.wait(command, "waiting")
        cut_replication(self.servers.primary)
        self.lock.connect(self.daemon, known=False)
        # No report is answered, so the lock can't report its position in the usual way.
        self.lock.send(self.lock.location())
        under_way = self.client.key("commands", "underway", "gw1")
        wait_until(lambda: self.client.redis.call("HEXISTS", under_way, command))
        return command

    def fail_over(self) -> None:
        self.client.close()
        self.servers.kill()
        self.client = CommandClient(self.servers.replica)
        self.addCleanup(self.client.close)

    def test_replicas(self) -> None:
        """A command whose record is not replicated is not written; after the fail-over it is written once."""
        self.start("replicas:1", "--durability-timeout", "0.3")
        command = self.claimed_unreplicated()
        self.assertEqual(self.lock.connection.answers_within(SILENCE), [])
        self.fail_over()
        self.assertEqual(self.lock.connection.answers_within(0.3), [])
        self.servers.add_replica()
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 1, self.lock.commands)
        check_edges(self.client.states(command))
        self.client.wait_for_none_under_way()
        self.assertNotIn("Traceback", self.daemon.log())

    def test_server(self) -> None:
        """By default the promoted replica does not know that it was written, and it is written again."""
        self.start("server")
        command = self.claimed_unreplicated()
        self.lock.next_unlock()
        # If it were still on its way, the promoted replica would get it, and the command would be uncertain.
        self.client.wait(command, "sent")
        self.fail_over()
        self.lock.next_unlock()

    def test_late(self) -> None:
        """A command whose record is not durable within its timeout fails, and nothing is written."""
        primary, _ = replicated(self)
        self.gateway(primary.url, "replicas:1", "--durability-timeout", "0.3")
        client = CommandClient(primary)
        self.addCleanup(client.close)
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        cut_replication(primary)
        command = client.unlock(lock.device, timeout=1)
        self.assertEqual(lock.connection.answers_within(1.5), [])
        cut_replication(primary, cut=False)
        self.assertIn("could not be recorded", client.wait(command, "failed")["reason"])
        lock.beat()
        self.assertEqual(lock.commands, [])


class DiskTests(SynchronousTestCase):
    def start(self, appendfsync: str, *options: str) -> None:
        self.server = ValkeyServer("--appendonly", "yes", "--appendfsync", appendfsync).start()
        self.addCleanup(self.server.discard)
        self.daemon = Daemon("--durability", "fsync", *options, redis=self.server.url).start()
        self.addCleanup(self.daemon.discard)

    def test_every_second(self) -> None:
        """With a server that syncs every second reports are answered, and the log warns."""
        self.start("everysec")
        with self.daemon.lock() as lock:
            lock.ask(report(1))
            started = time.monotonic()
            for first in range(2, 602, 60):
                lock.send(*[report(serial) for serial in range(first, first + 60)])
            self.assertEqual(len(lock.answers(600, timeout=30)), 600)
            self.assertLess(time.monotonic() - started, 15)
        self.assertIn("appendfsync everysec", self.daemon.log())
        self.server.kill()
        self.server.start()
        with self.server.client() as client:
            self.assertEqual(published(client), {(DEVICE, serial): 1 for serial in range(1, 602)})

    def test_never(self) -> None:
        """With a server that leaves syncing to the system nothing is answered, and the log says why."""
        self.start("no", "--durability-timeout", "0.3")
        with self.daemon.lock() as lock:
            lock.send(report(1))
            self.assertEqual(lock.answers_within(SILENCE), [])
            self.assertIn("the server has not synced it within 0.3 s", self.daemon.log())
            with self.server.client() as client:
                client.call("CONFIG", "SET", "appendfsync", "always")
            self.assertEqual([answered(one) for one in lock.answers()], [1])

    def test_no_file(self) -> None:
        """For a server without an append-only file the log says so."""
        self.start("always")
        with self.server.client() as client:
            client.call("CONFIG", "SET", "appendonly", "no")
        with self.daemon.lock() as lock:
            lock.send(report(1))
            self.assertEqual(lock.answers_within(0.5), [])
        self.assertIn("appendonly is disabled", self.daemon.log())
        self.assertNotIn("appendfsync everysec", self.daemon.log())
