"""The page over several partitions with sharded publish/subscribe, on a cluster, and with several workers."""

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.web.event_feeds import LOOKED_AT, MAX_READ
from tests.support import wait_until
from tests.support.acl import GATEWAY, GuardedServer, denials
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.partitioned import PartitionedCluster
from tests.support.web import Api, Listener


class ShardedTests(SynchronousTestCase):
    """Live events with sharded publish/subscribe, which has no patterns."""

    def setUp(self) -> None:
        # The rights with braces, as the head of the ACL file says.
        self.server = GuardedServer(prefix="jt709c:{*}").start()
        self.addCleanup(self.server.discard)
        options = ("--partitions", "4", "--pubsub", "sharded")
        self.daemon = Daemon(*options, redis=self.server.gateway_url, udp=False).start()
        self.addCleanup(self.daemon.discard)
        self.api = Api(self.daemon)
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.addCleanup(self.check_rights)
        self.keys = Partitions("jt709c", 4, sharded=True).keys

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def listen(self, *query: tuple[str, object]) -> Listener:
        listener = self.api.listen(*query)
        self.addCleanup(listener.close)
        return listener

    def check_rights(self) -> None:
        # A gateway looks for a store of one partition, which it need not be allowed to.
        denied = [one for one in denials(self.redis, GATEWAY) if "'jt709c:{" in one or "b'key'" not in one]
        self.assertEqual(denied, [])

    def follows(self) -> bool:
        """Whether the streams are followed: all have been looked at some times."""
        used = self.redis.call("INFO", "commandstats").decode()
        return any(int(count) >= 24 for count in re.findall(r"cmdstat_xrevrange:calls=(\d+)", used))

    def test_of_all(self) -> None:
        """Events of all locks come from the streams of the partitions; only the wanted kinds."""
        listener = self.listen(("kind", "lock"), ("kind", "session"))
        wait_until(self.follows)
        locks = [self.lock() for _ in range(6)]
        for lock in locks:
            lock.open()
        found = []
        while len(found) < 12:
            event = listener.next("event")
            found.append((event["device"], event["kind"]))
        wanted = {(lock.device, kind) for lock in locks for kind in ("session", "lock")}
        self.assertEqual((set(found), self.redis.call("PUBSUB", "SHARDCHANNELS")), (wanted, []))
        # A stream that begins anew.
        self.redis.call("DEL", *[keys.events for keys in self.keys])
        for lock in locks:
            lock.open()
        self.assertEqual({listener.next("event")["device"] for _ in locks}, {lock.device for lock in locks})

    def test_of_one(self) -> None:
        """Those of one lock are subscribed to in its partition, all of them."""
        one, other = self.lock(), self.lock()
        listener = self.listen(("device", one.device))
        wait_until(lambda: len(self.redis.call("PUBSUB", "SHARDCHANNELS")) == 13)
        other.report()
        one.report()
        event = listener.next("event")
        self.assertEqual((event["device"], event["kind"]), (one.device, "location"))
        listener.close()
        wait_until(lambda: not self.redis.call("PUBSUB", "SHARDCHANNELS"))

    def test_too_many(self) -> None:
        """Of too many events the newest come, and the others are counted."""
        listener = self.listen(("kind", "lock"))
        wait_until(self.follows)
        count = LOOKED_AT - 100
        script = "for n = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'kind', 'lock', 'event', ARGV[n]) end"
        events = [json.dumps({"id": str(number)}) for number in range(count)]
        self.redis.call("EVAL", script, 1, self.keys[2].events, *events)
        first = int(listener.next("event")["id"])
        found = [first] + [int(listener.next("event")["id"]) for _ in range(count - 1 - first)]
        self.assertEqual(found, list(range(count - MAX_READ // 4, count)))
        self.assertEqual(listener.next("skipped"), {"count": count - MAX_READ // 4, "reason": "rate"})


class WorkersTests(SynchronousTestCase):
    def test_workers(self) -> None:
        """The supervisor of several workers shows what these have stored in all partitions."""
        daemon = Daemon("--workers", "2", "--partitions", "4", udp=False)
        self.addCleanup(daemon.discard)
        daemon.start(ready=False)
        daemon.wait_workers(2)
        locks = [FakeLock(new_device()).connect(daemon) for _ in range(8)]
        for lock in locks:
            self.addCleanup(lock.close)
        self.assertGreater(len({Partitions("jt709c", 4).number(lock.device) for lock in locks}), 1)
        api = Api(daemon)
        found = api.get("/devices").json
        self.assertEqual(
            [one["device"] for one in found["devices"]], [lock.device for lock in reversed(locks)]
        )
        self.assertNotIn("partitions_away", found)


class ClusterTests(SynchronousTestCase):
    """Four partitions on a Redis Cluster of three primaries, with either kind of publish/subscribe."""

    def begin(self, pubsub: str) -> Api:
        self.cluster = PartitionedCluster(replicas=False, sharded=pubsub == "sharded").start()
        self.addCleanup(self.cluster.discard)
        options = ("--partitions", "4", "--pubsub", pubsub)
        self.daemon = Daemon(*options, redis=self.cluster.url, udp=False).start()
        self.addCleanup(self.daemon.discard)
        return Api(self.daemon)

    def lock(self, partition: int) -> FakeLock:
        names = iter(new_device, "")
        device = next(name for name in names if self.cluster.layout.number(name) == partition)
        lock = FakeLock(device).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def hears(self, api: Api, lock: FakeLock, *query: tuple[str, object]) -> None:
        """Check that a listener hears what a lock does."""

        def heard() -> bool:
            with api.listen(("kind", "lock"), *query) as listener:
                listener.socket.settimeout(2)
                lock.open()
                try:
                    return bool(listener.next("event")["device"] == lock.device)
                except TimeoutError:
                    # It was not subscribed yet.
                    return False

        wait_until(heard, message="nothing is heard")

    def check(self, pubsub: str) -> None:
        api = self.begin(pubsub)
        locks = [self.lock(number) for number in range(4)]
        for lock in locks:
            self.hears(api, lock)
            self.hears(api, lock, ("device", lock.device))
        found = api.get("/devices").json
        self.assertEqual({one["device"] for one in found["devices"]}, {lock.device for lock in locks})
        self.assertNotIn("partitions_away", found)
        # Partitions 1 and 2 are on one primary (`PartitionedCluster`).
        self.cluster.node_of(1).kill()
        wait_until(lambda: api.get("/devices").json.get("partitions_away") == [1, 2])
        self.assertEqual(api.get("/devices").json["total"], 2)
        for lock in (locks[0], locks[3]):
            self.hears(api, lock)
            self.hears(api, lock, ("device", lock.device))
        for word in ("CROSSSLOT", "Traceback"):
            self.assertNotIn(word, self.daemon.log())

    def test_classic(self) -> None:
        """Any node hears all events; a primary that has gone takes its partitions only."""
        self.check("classic")

    def test_sharded(self) -> None:
        """Each partition is heard at its own node; a primary that has gone takes its partitions only."""
        self.check("sharded")
