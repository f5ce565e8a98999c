"""Two processes under one name, as an orchestrator starts them: the later goes on, the earlier ends."""

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.partitioned import store


class OneProcessForANameTests(SynchronousTestCase):
    """Daemons on one server, started one after the other as gw1."""

    def setUp(self) -> None:
        self.server = store().start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)

    def start(self, *options: str) -> Daemon:
        """Start a daemon of the name."""
        daemon = Daemon("--gateway", "gw1", *options, redis=self.server.url, udp=False).start()
        self.addCleanup(daemon.discard)
        return daemon

    def test_earlier_ends(self) -> None:
        """It closes its connections, logs why and exits with 1; the later one settles its command."""
        first = self.start("--gateway-ttl", "2")
        self.lock.connect(first)
        command = self.client.unlock(self.lock.device, timeout=60)
        self.lock.next_unlock()
        self.client.wait(command, "sent")
        second = self.start("--gateway-ttl", "2")
        assert self.lock.connection is not None
        self.assertTrue(self.lock.connection.closed_within())
        self.assertEqual(first.wait(), 1)
        self.assertIn("started later as gateway gw1", first.log())
        self.assertNotIn("Traceback", first.log())
        self.client.wait(command, "uncertain")
        again = FakeLock(self.lock.device).connect(second)
        self.addCleanup(again.close)
        other = self.client.unlock(self.lock.device)
        again.say_yes(again.next_unlock())
        again.open()
        self.client.wait(other, "confirmed")
        self.assertEqual(len(again.commands), 1)
        self.assertEqual(self.client.states(command), ["queued", "sent", "uncertain"])

    def test_runs_are_numbered(self) -> None:
        """Each start has a new, higher run number, also when Redis has lost its data."""
        numbers = []
        for _ in range(2):
            daemon = self.start("--gateway-ttl", "2")
            wait_until(lambda: self.client.redis.call("EXISTS", self.client.key("gateway", "gw1")))
            numbers.append(int(self.client.redis.call("GET", self.client.key("epoch"))))
            self.client.redis.call("FLUSHALL")
            wait_until(lambda: self.client.redis.call("EXISTS", self.client.key("epoch")))
            daemon.stop()
        self.assertLess(numbers[0], numbers[1])

    def test_timeout_is_kept_below_the_ttl(self) -> None:
        """The log says that --redis-timeout was lowered below the ttl."""
        daemon = self.start("--gateway-ttl", "3", "--redis-timeout", "30")
        self.assertIn(
            "--redis-timeout 30 is not well below --gateway-ttl 3; 2 s is used instead", daemon.log()
        )
