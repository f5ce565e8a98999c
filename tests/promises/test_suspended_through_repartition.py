"""A gateway that is suspended while its fleet is divided in another way harms nothing when it goes on."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitions import Partitions
from tests.support import RedisClient, ValkeyServer, wait_until
from tests.support.cli import run
from tests.support.commands import FakeLock
from tests.support.daemon import Daemon
from tests.support.partitioned import PartitionedClient, device_in, over

_TTL = "2"


class SuspendedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ValkeyServer("--appendonly", "yes", "--appendfsync", "always").start()
        self.addCleanup(self.server.discard)

    def gateway(self, partitions: int) -> Daemon:
        options = ("--gateway", "gw1", "--partitions", str(partitions), "--gateway-ttl", _TTL)
        daemon = Daemon(*options, redis=self.server.url, udp=False)
        self.addCleanup(daemon.discard)
        return daemon.start()

    def lock(self, layout: Partitions, number: int) -> FakeLock:
        lock = FakeLock(device_in(layout, number))
        self.addCleanup(lock.close)
        return lock

    def client(self, partitions: int) -> RedisClient | PartitionedClient:
        client = self.server.client() if partitions == 1 else over(self.server.client, partitions)()
        self.addCleanup(client.close)
        return client

    def everything(self) -> dict[bytes, bytes]:
        """All keys and their contents."""
        with self.server.client() as client:
            return {key: client.call("DUMP", key) for key in sorted(client.call("KEYS", "*"))}

    def suspended(self, before: int, after: int, number: int) -> None:
        """Suspend a gateway with a lock of this partition through a move, and have it go on."""
        lock = self.lock(Partitions("jt709c", before), number)
        daemon = self.gateway(before)
        lock.connect(daemon)
        client = self.client(before)
        daemon.pause()
        # What it finds when it goes on.
        lock.send(lock.location())
        wait_until(lambda: not client.call("EXISTS", "jt709c:gateway:gw1"))
        options = ("--redis", self.server.url, "--from", str(before), "--to", str(after))
        moved = run("repartition", *options)
        self.assertEqual(moved.returncode, 0, moved.stderr)
        wanted = self.everything()
        daemon.resume()
        self.assertEqual(daemon.wait(), 1)
        # Any of its partitions may be the first to find that.
        self.assertRegex(daemon.last_log(), f"stopping: .*(are in|were moved to) {after} partitions")
        self.assertEqual(self.everything(), wanted)
        assert lock.connection is not None
        lock.connection.closed_within()
        self.assertEqual(lock.connection.taken(), [])

    def test_reports_from_single(self) -> None:
        """Its report is not written to keys that were moved, and it ends."""
        self.suspended(1, 3, 0)

    def test_reports_of_a_partition_that_is_no_more(self) -> None:
        """The same, where the partition of the lock has gone."""
        self.suspended(4, 3, 3)
