"""A Redis Cluster that moves the keys of our slot, one by one: a report is written once, then answered."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, RedisClient, RedisError, wait_until
from tests.support.committer import Script, Teller
from tests.support.redis_groups import ClusterNode
from tests.unit.redis.test_commit_script import DEVICE, FENCE, LOW_BATTERY, report

PREFIX = "{moving}"
SLOTS = 16384


class ReshardingTests(SynchronousTestCase):
    def node(self) -> tuple[ClusterNode, RedisClient]:
        """A node of a cluster of its own."""
        server = ClusterNode().start()
        self.addCleanup(server.discard)
        client = server.client()
        self.addCleanup(client.close)
        return server, client

    def setUp(self) -> None:
        _, self.source = self.node()
        self.target_server, self.target = self.node()
        self.source.call("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
        self.source.call("CLUSTER", "MEET", LOOPBACK, self.target_server.port, self.target_server.bus_port)
        for client in (self.source, self.target):
            wait_until(lambda client=client: b"cluster_state:ok" in client.call("CLUSTER", "INFO"))
            wait_until(lambda client=client: b"cluster_known_nodes:2" in client.call("CLUSTER", "INFO"))
        self.script = Script(self.source, PREFIX)
        self.keys = self.script.keys
        self.teller = Teller()

    def begin(self) -> None:
        """The slot is to be moved."""
        slot = self.source.call("CLUSTER", "KEYSLOT", self.keys.events)
        ids = [client.call("CLUSTER", "MYID") for client in (self.source, self.target)]
        self.target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        self.source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])

    def refused(self, records: list[tuple[Any, ...]]) -> bool:
        """Whether all records are refused."""
        try:
            reply = self.script.commit(records)
        except RedisError as error:
            self.assertRegex(str(error), "ASK|TRYAGAIN|non local key")
            return True
        return isinstance(reply, list) and len(reply) == 1 + 2 * len(records)

    def test_nothing_twice(self) -> None:
        """With any one of its keys moved a report is refused as a whole, or written as a whole."""
        number = 1
        self.script.commit(self.teller.contents(report(number, alarm_bits=FENCE)))
        expected = 1
        hindered = set()
        for name in [one.decode() for one in self.source.call("KEYS", f"{PREFIX}*")]:
            number += 1
            # A position that begins an alarm and ends another writes the most.
            bits = (FENCE, LOW_BATTERY)[number % 2]
            records = self.teller.contents(report(number, alarm_bits=bits))
            self.begin()
            self.source.call("MIGRATE", LOOPBACK, self.target_server.port, name, 0, 5000)
            for _ in range(3):
                if self.refused(records):
                    hindered.add(name.removeprefix(PREFIX))
            self.back(name)
            self.assertFalse(self.refused(records), name)
            expected += 1
            located = [one["serial"] for one in self.script.events("location")]
            self.assertEqual(sorted(located), list(range(1, expected + 1)), name)
        self.assertLessEqual({":events", f":device:{DEVICE}", f":recent:{DEVICE}"}, hindered)

    def back(self, name: str) -> None:
        """The slot is not moved any more, and the key comes back."""
        slot = self.source.call("CLUSTER", "KEYSLOT", name)
        self.target.call("ASKING")
        kept = self.target.call("DUMP", name)
        self.target.call("ASKING")
        self.target.call("DEL", name)
        for client in (self.source, self.target):
            client.call("CLUSTER", "SETSLOT", slot, "STABLE")
        self.source.call("RESTORE", name, 0, kept)
