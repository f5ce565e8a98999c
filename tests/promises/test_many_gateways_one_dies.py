"""Several gateways on one Redis: when one dies, the others take over its sessions and commands."""

from tests.support.command_bench import GATEWAY_TTL
from tests.support.fleet_bench import FleetTestCase


class DyingTests(FleetTestCase):
    """Sessions of a gateway that has died."""

    def test_offline_is_told_by_who_adopts(self) -> None:
        """A lock of a dead gateway goes offline once, though two gateways adopt."""
        self.nodes.append(self.make("gw3").start())
        self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, *self.nodes[1:])
        self.die(self.node)
        self.pass_time(GATEWAY_TTL)
        told = self.session_events()
        self.assertEqual([one["data"]["state"] for one in told], ["online", "offline"])
        self.assertEqual(told[1]["data"]["reason"], "gateway died")
        self.assertIn(told[1]["gateway"], ("gw2", "gw3"))
        self.assertIsNone(self.holder())
        self.assertEqual(self.client.redis.call("EXISTS", self.client.key("sessions", "gw1")), 0)

    def test_elsewhere_by_then(self) -> None:
        """A lock that moved to another gateway before its own was found dead is not offline."""
        self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, self.other)
        self.come(self.other)
        self.other.run()
        self.die(self.node)
        self.pass_time(GATEWAY_TTL)
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "replaced")])
        self.assertEqual(self.holder(), "gw2")

    def test_hash_has_expired(self) -> None:
        """A lock also goes offline when its session has expired meanwhile."""
        self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, self.other)
        self.client.redis.call("DEL", self.client.key("session", self.device))
        self.die(self.node)
        self.pass_time(GATEWAY_TTL)
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "offline")])

    def test_many(self) -> None:
        """All of many locks go offline."""
        for number in range(1000):
            self.lock.device = str(794308030001 + number)
            self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, self.other)
        self.die(self.node)
        self.pass_time(GATEWAY_TTL)
        gone = [
            one["device"] for one in self.client.events("session") if one["data"]["reason"] == "gateway died"
        ]
        self.assertEqual((len(gone), len(set(gone))), (1000, 1000))

    def test_restarted_under_its_name(self) -> None:
        """A gateway that restarts after a crash marks its old sessions offline, not those opened since."""
        self.come()
        first = self.device
        self.lock.device = "794308010002"
        self.come()
        self.node.run()
        self.die(self.node)
        again = self.make("gw1")
        self.come(again)
        again.wire.connected = True
        again.committer.resume()
        again.run()
        self.nodes.append(again.start())
        self.pass_time()
        told = {
            device: [one["data"]["state"] for one in self.client.events("session", device)]
            for device in (first, "794308010002")
        }
        self.assertEqual(told, {first: ["online", "offline"], "794308010002": ["online", "replaced"]})

    def test_taken_for_dead(self) -> None:
        """A gateway that was considered dead marks its locks online again."""
        link = self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, self.other)
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        self.pass_time(GATEWAY_TTL, self.other)
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "offline")])
        self.node.clock.advance(2 * GATEWAY_TTL)
        self.pass_time(1)
        self.assertEqual(self.changes()[2:], [("gw1", "online")])
        self.assertEqual(self.holder(), "gw1")
        link.connection.closed("closed")
        self.pass_time()
        self.assertEqual(self.changes()[3:], [("gw1", "offline")])

    def test_taken_for_dead_and_moved(self) -> None:
        """A gateway that returns and finds that a lock has moved closes its session."""
        link = self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, self.other)
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        self.pass_time(GATEWAY_TTL, self.other)
        self.come(self.other)
        self.other.run()
        self.node.clock.advance(2 * GATEWAY_TTL)
        self.pass_time(1)
        self.assertEqual(link.closed, ["replaced"])
        self.assertEqual(self.changes()[2:], [("gw2", "online")])
        self.assertEqual(self.holder(), "gw2")

    def test_ends_while_taken_for_dead(self) -> None:
        """A lock that leaves while its gateway is considered dead goes offline once."""
        link = self.come()
        self.node.run()
        self.pass_time(GATEWAY_TTL, self.other)
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        self.pass_time(GATEWAY_TTL, self.other)
        link.connection.closed("closed")
        self.pass_time()
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "offline")])

    def test_outage_without_loss(self) -> None:
        """After an outage of Redis without data loss no session event is published."""
        self.come()
        self.node.run()
        self.node.wire.lose()
        self.node.blocking.lose()
        self.node.pass_time(2 * GATEWAY_TTL)
        self.node.connected()
        self.pass_time(1)
        self.assertEqual(self.changes(), [("gw1", "online")])

    def test_redis_has_forgotten(self) -> None:
        """A session that Redis has lost is written again when its lock reports, with an event."""
        link = self.come()
        self.node.run()
        self.client.redis.call(
            "DEL", self.client.key("session", self.device), self.client.key("sessions", "gw1")
        )
        self.pass_time(61)
        self.report(self.node, link)
        self.pass_time()
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw1", "online")])
        self.assertEqual(self.holder(), "gw1")
