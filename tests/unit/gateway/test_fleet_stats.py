"""What /metrics says of the whole fleet: gateways on clocks that the test moves, over a real server."""

import json
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.logger import capturedLogs, formatEvent, globalLogPublisher

from jt709c_gateway.gateway.fleet_stats import EVERY, FleetStats
from jt709c_gateway.gateway.metrics import GatewayCollector
from tests.support import shared_server
from tests.support.acl import GATEWAY, log_in, password_of, rules_of
from tests.support.command_bench import START, BenchTestCase, Node


class SurveyTests(BenchTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.survey = self.begin(self.node)

    def begin(self, node: Node) -> FleetStats:
        """Have a gateway count the fleet as the daemon does."""
        survey = FleetStats(node.clock, node.dispatcher.context)
        survey.startService()
        self.addCleanup(survey.stopService)
        node.run()
        return survey

    def values(self, survey: FleetStats, node: Node) -> dict[str, float]:
        """What its /metrics says of the fleet, by name without prefix, and label."""
        registry = CollectorRegistry()
        registry.register(GatewayCollector(node.gateway, lambda: True, lambda: survey.fleet))
        return {
            "/".join([sample.name.removeprefix("jt709c_fleet_"), *sample.labels.values()]): sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name.startswith("jt709c_fleet_")
        }

    def counted(self) -> dict[str, float]:
        """The same after the next round."""
        self.node.pass_time(EVERY)
        return self.values(self.survey, self.node)

    def command(self, device: str, **more: Any) -> None:
        text = json.dumps({"device": device, "command": "unlock", "params": {"password": "888888"}, **more})
        self.client.redis.call("RPUSH", self.client.key("commands"), text)

    def test_empty(self) -> None:
        """Of a fleet that is not there yet: zeros, and no age where no command waits."""
        names = ["locks", "locks_seen/1h", "locks_seen/1d", "locks_seen/7d"]
        names += ["let_go_total/devices", "let_go_total/histories"]
        names += ["commands/untaken", "commands/waiting", "commands/under_way"]
        self.assertEqual(self.values(self.survey, self.node), dict.fromkeys(names, 0.0))

    def test_locks(self) -> None:
        """Locks known, and those heard within an hour, a day, a week."""
        for device, ago in (("1", 60), ("2", 3590), ("3", 3700), ("4", 90_000), ("5", 700_000)):
            self.client.redis.call("ZADD", self.client.key("devices"), START - ago, device)
        self.survey.on_redis_ready()
        self.node.run()
        found = self.values(self.survey, self.node)
        self.assertEqual(
            [found[name] for name in ("locks", "locks_seen/1h", "locks_seen/1d", "locks_seen/7d")],
            [5, 2, 3, 4],
        )

    def test_limits(self) -> None:
        """What goes at a limit of the whole fleet is counted and logged: once, and not again at once."""
        key = self.client.key("let_go")
        with capturedLogs() as captured:
            for histories in (7, 10, 20, 30):
                self.client.redis.call("HSET", key, "devices", 5, "histories", histories)
                found = self.counted()
            self.node.pass_time(600)
        self.assertEqual((found["let_go_total/devices"], found["let_go_total/histories"]), (5, 30))
        self.assertEqual(
            [formatEvent(one) for one in captured],
            [
                "--devices-max is reached: 5 locks' last states had to go, 5 so far",
                "--histories-max is reached: 7 locks' audit trails had to go, 7 so far",
                "--histories-max is reached: 23 locks' audit trails had to go, 30 so far",
            ],
        )

    def test_commands(self) -> None:
        """A command waits, is under way, and has ended; the oldest that waits has an age."""
        self.command("99", ttl=900)
        self.node.pass_time(10)
        self.command(self.device, ttl=600)
        self.node.pass_time(20)
        found = self.counted()
        self.assertEqual((found["commands/waiting"], found["commands/under_way"]), (2, 0))
        self.assertTrue(30 <= found["oldest_command_seconds"] <= 60, found)
        self.come()
        self.node.run()
        found = self.counted()
        self.assertEqual((found["commands/waiting"], found["commands/under_way"]), (1, 1))
        self.node.pass_time(900)
        found = self.counted()
        self.assertEqual((found["commands/waiting"], found["commands/under_way"]), (0, 0))
        self.assertNotIn("oldest_command_seconds", found)

    def test_oldest(self) -> None:
        """The oldest is not the one whose ttl ends first; one in a gateway's hands isn't it either."""
        self.come()
        self.command(self.device, ttl=3600, timeout=300)
        self.node.pass_time(5)
        self.command("98", ttl=3000)
        self.node.pass_time(100)
        self.command("99", ttl=60)
        found = self.counted()
        self.assertEqual((found["commands/waiting"], found["commands/under_way"]), (2, 1))
        self.assertTrue(100 <= found["oldest_command_seconds"] <= 125, found)

    def test_untaken(self) -> None:
        """Commands that no gateway has taken yet."""
        self.node.background_tasks.stop_intake()
        self.node.run()
        for number in range(3):
            self.command(str(number + 1))
        self.assertEqual(self.counted()["commands/untaken"], 3)

    def test_another_gateway(self) -> None:
        """All gateways say the same, also of commands in each other's hands."""
        self.come()
        self.command(self.device)
        self.node.pass_time(1)
        other = self.make("gw2", now=self.node.clock.seconds())
        found = self.values(self.begin(other), other)
        self.assertEqual(found["commands/under_way"], 1)

    def test_redis_away(self) -> None:
        """While Redis is away nothing is said; when it is back it is at once."""
        self.assertIn("locks", self.counted())
        self.node.wire.connected = False
        self.assertEqual(self.counted(), {})
        self.node.wire.connected = True
        self.survey.on_redis_ready()
        self.node.run()
        self.assertIn("locks", self.values(self.survey, self.node))

    def test_missing_right(self) -> None:
        """A user without the right to count, such as one of an older ACL, is told of once."""
        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        user = "older"
        self.client.redis.call("ACL", "SETUSER", user, *rules_of(GATEWAY, self.prefix), "-zcount")
        self.addCleanup(self.client.redis.call, "ACL", "DELUSER", user)
        with log_in(shared_server().client(), user, password_of(GATEWAY)) as client:
            self.node.wire.client = client
            self.assertEqual(self.counted(), {})
            self.assertEqual(self.counted(), {})
            self.assertEqual(len([line for line in lines if "to count the fleet" in line]), 1, lines)
            self.client.redis.call("ACL", "SETUSER", user, "+zcount")
            self.assertIn("locks", self.counted())

    def test_broken_record(self) -> None:
        """A record that isn't one ends no loop: it is logged, and counting goes on without it."""
        self.command("99")
        self.node.pass_time(1)
        (key,) = self.client.redis.call("KEYS", self.client.key("command", "*"))
        self.client.redis.call("HSET", key, "created_at", "yesterday")
        self.assertEqual(self.counted(), {})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.client.redis.call("DEL", key)
        self.assertEqual(self.counted()["commands/waiting"], 1)
