"""Commands with conditions are written only where, and when, these hold (docs/commands.rst)."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from jt709c_gateway.protocol.jt808_messages import encode_stored
from jt709c_gateway.util.timestamps import iso
from tests.support.command_bench import START, Node
from tests.support.command_bench import BenchTestCase as Bench
from tests.support.committer import FakeLink
from tests.vectors import location

INSIDE: Final = {"latitude": 51.5, "longitude": -0.12}
#: 1,240 m to the north of the center: 1,040 m outside.
OUTSIDE: Final = {"latitude": 51.511152, "longitude": -0.12}
DEPOT: Final = {"circle": {"center": [51.5, -0.12], "radius_m": 200}}
AWAY: Final = {"circle": {"center": [48.0, 2.0], "radius_m": 200}}


class ConditionCase(Bench):
    """A lock that reports where it is, and commands with conditions for it."""

    def at(self, link: FakeLink, place: dict[str, float], node: Node | None = None, **more: Any) -> None:
        """The lock reports this place, now or at another time."""
        node = node or self.node
        more.setdefault("at", START + node.clock.seconds())
        node.feed(link, self.lock.location(**place, **more))
        node.run()

    def connect(self, place: dict[str, float] | None = INSIDE, node: Node | None = None) -> FakeLink:
        """The lock connects, and reports its place, or only a heartbeat."""
        node = node or self.node
        link = node.link()
        if place is None:
            node.feed(link, self.lock.frame(0x0002))
        else:
            self.at(link, place, node)
        node.run()
        return link

    def give(self, **conditions: Any) -> str:
        """Push an unlock command with these conditions, and let the gateway take it."""
        command = self.client.unlock(self.device, **conditions)
        self.node.run()
        return command

    def set_area(self, name: str, area: object) -> None:
        """Define a named area, by its text when it is no object."""
        self.client.redis.call(
            "SET", self.client.key("area", name), area if isinstance(area, str) else json.dumps(area)
        )

    def assert_ended(self, command: str, state: str, reason: str, link: FakeLink) -> None:
        """It ended like this, and nothing was written to the lock."""
        record = self.client.record(command)
        self.assertEqual((record["state"], record["reason"]), (state, reason))
        self.assertEqual(self.written(link), [])

    def assert_waits(self, command: str, reason: str, link: FakeLink) -> None:
        """It waits for this, in the lock's queue, and nothing was written."""
        self.assert_ended(command, "waiting", reason, link)
        self.assertEqual(self.client.under_way(), [])


class PlaceTests(ConditionCase):
    """`only_within`, in a command itself."""

    def test_inside(self) -> None:
        """The command is written; record and events have its conditions."""
        link = self.connect()
        command = self.give(only_within=DEPOT)
        self.assertEqual(self.client.state(command), "sent")
        self.assertEqual(len(self.written(link)), 1)
        expected = {"only_within": DEPOT, "position_max_age": 120.0, "when_not_allowed": "reject"}
        self.assertEqual(json.loads(self.client.record(command)["conditions"]), expected)
        self.assertEqual(self.client.events("command")[0]["data"]["conditions"], expected)

    def test_outside(self) -> None:
        """The reason has the distance."""
        link = self.connect(OUTSIDE)
        self.assert_ended(self.give(only_within=DEPOT), "rejected", "1,040 m outside of the area", link)

    def test_outside_of_a_polygon(self) -> None:
        corners = [[51.49, -0.13], [51.49, -0.11], [51.505, -0.11], [51.505, -0.13]]
        link = self.connect(OUTSIDE)
        command = self.give(only_within={"polygon": corners})
        self.assert_ended(command, "rejected", "684 m outside of the area", link)

    def test_waits_for_the_place(self) -> None:
        """With `wait` it is written as soon as a report is inside, and announced once while it waits."""
        link = self.connect(OUTSIDE)
        command = self.give(only_within=DEPOT, when_not_allowed="wait")
        for _ in range(3):
            self.node.pass_time(10)
            self.at(link, OUTSIDE)
        self.assert_waits(command, "waits until inside of the area", link)
        self.at(link, INSIDE)
        self.assertEqual(len(self.written(link)), 1)
        self.assertEqual(self.client.states(command), ["queued", "waiting", "sent"])

    def test_others_overtake_it(self) -> None:
        """A command that waits for its conditions blocks no other; those that wait keep their order."""
        link = self.connect(OUTSIDE)
        first = self.give(only_within=DEPOT, when_not_allowed="wait")
        second = self.give(only_within=DEPOT, when_not_allowed="wait")
        third = self.give()
        self.assertEqual(
            [self.client.state(one) for one in (first, second, third)], ["waiting", "waiting", "sent"]
        )
        self.say(self.node, link, 3, "ELOCK", "1", "0", "2")
        self.node.run()
        self.at(link, OUTSIDE)
        self.at(link, INSIDE)
        self.assertEqual([self.client.state(one) for one in (first, second)], ["sent", "waiting"])

    def test_cancelled_while_it_waits(self) -> None:
        link = self.connect(OUTSIDE)
        command = self.give(only_within=DEPOT, when_not_allowed="wait")
        self.client.command(self.device, "cancel", {"id": command})
        self.node.run()
        self.at(link, INSIDE)
        self.assert_ended(command, "cancelled", "taken back", link)
        self.assertEqual(self.node.dispatcher.executors, {})

    def test_moves_while_it_is_recorded(self) -> None:
        """A report that arrives after the first check, and before the bytes, counts."""
        link = self.connect()
        self.client.unlock(self.device, only_within=DEPOT, id="moves")
        self.steps_until("command_claim")
        self.node.step()
        self.steps_until("commit")
        self.assertIn("moves", str(self.node.wire.pending[0][0]))
        self.node.feed(link, self.lock.location(**OUTSIDE, at=START + self.node.clock.seconds()))
        self.node.run()
        self.assert_ended("moves", "rejected", "1,040 m outside of the area", link)
        self.node.run()
        self.assertEqual(self.client.under_way(), [])


class PositionTests(ConditionCase):
    """Which positions are live."""

    def test_none_yet(self) -> None:
        """It waits for the first report."""
        link = self.connect(None)
        command = self.give(only_within=DEPOT)
        self.assert_waits(command, "no live position within 120 s", link)
        self.at(link, INSIDE)
        self.assertEqual(self.client.state(command), "sent")

    def test_too_old(self) -> None:
        """It ends as expired, and says what it waited for."""
        link = self.connect()
        self.node.pass_time(31)
        command = self.give(only_within=DEPOT, position_max_age=30, ttl=5)
        self.assert_waits(command, "no live position within 30 s", link)
        self.node.pass_time(7)
        self.assert_ended(command, "expired", "not sent within 5 s: no live position within 30 s", link)

    def test_not_live(self) -> None:
        """Reports from the memory, without a fix, or late ones do not count."""
        link = self.connect(None)
        command = self.give(only_within=DEPOT)
        moment = datetime.fromtimestamp(START + self.node.clock.seconds(), UTC)
        stored = encode_stored([location(time=moment.replace(microsecond=0), **INSIDE)])
        self.node.feed(link, self.lock.frame(0x0704, stored))
        self.at(link, INSIDE, status=0)
        self.at(link, INSIDE, at=START + self.node.clock.seconds() - 121)
        self.node.run()
        self.assertEqual([event["stored"] for event in self.client.events("location")], [True, False, False])
        self.assert_waits(command, "no live position within 120 s", link)

    def test_older_report_behind_a_newer_one(self) -> None:
        """After a report that may be from before the last one, the position is unknown."""
        link = self.connect(INSIDE)
        self.node.pass_time(60)
        self.at(link, OUTSIDE)
        self.at(link, INSIDE, at=START + self.node.clock.seconds() - 30)
        command = self.give(only_within=DEPOT)
        self.assert_waits(command, "no live position within 120 s", link)
        self.at(link, OUTSIDE, at=START + self.node.clock.seconds() + 1)
        self.assert_ended(command, "rejected", "1,040 m outside of the area", link)

    def test_clock_of_the_lock_is_ahead(self) -> None:
        """A lock in UTC+8 is live; its age is by its corrected clock."""
        link = self.connect(None)
        self.at(link, INSIDE, at=START + self.node.clock.seconds() + 8 * 3600)
        self.assertEqual(self.client.state(self.give(only_within=DEPOT)), "sent")

    def test_backlog_that_is_sent_as_live(self) -> None:
        """An hour of old reports looks like a clock that is slow; their positions are not live."""
        link = self.connect(None)
        for seconds in (0, 3, 18, 33):
            self.node.pass_time(0.1 if seconds < 10 else 12)
            self.at(link, INSIDE, at=START - 3600 + seconds)
        command = self.give(only_within=DEPOT)
        self.assert_waits(command, "no live position within 120 s", link)

    def test_newest_report_has_no_fix(self) -> None:
        """It leaves no position: where the lock was before says nothing any more."""
        link = self.connect(INSIDE)
        self.node.pass_time(30)
        self.at(link, OUTSIDE, status=0)
        command = self.give(only_within=DEPOT)
        self.assert_waits(command, "no live position within 120 s", link)
        self.at(link, INSIDE)
        self.assertEqual(self.client.state(command), "sent")

    def test_clock_of_the_gateway_is_set_back(self) -> None:
        """A clock that was set makes no position younger."""
        link = self.connect()
        self.node.pass_time(200)
        wall = self.node.wall
        self.node.gateway.wall = lambda: wall().replace(hour=9)
        self.assert_waits(self.give(only_within=DEPOT), "no live position within 120 s", link)

    def test_new_connection(self) -> None:
        """A position from an earlier connection does not count."""
        self.connect()
        link = self.connect(None)
        self.assert_waits(self.give(only_within=DEPOT), "no live position within 120 s", link)

    def test_speed(self) -> None:
        link = self.connect(INSIDE | {"speed_kmh": 12.4})
        self.assert_ended(self.give(max_speed_kmh=5), "rejected", "12.4 km/h, faster than 5 km/h", link)
        waits = self.give(max_speed_kmh=5, when_not_allowed="wait")
        self.assert_waits(waits, "waits until not faster than 5 km/h", link)
        self.at(link, INSIDE | {"speed_kmh": 5})
        self.assertEqual(self.client.state(waits), "sent")


class TimeTests(ConditionCase):
    """`not_before` and `not_after`."""

    def test_not_before(self) -> None:
        """It is written at that time, without a report."""
        link = self.connect(None)
        command = self.give(not_before=iso(START + 20))
        self.assert_waits(command, "waits for not_before, 2026-11-22T10:00:20Z", link)
        self.node.pass_time(20)
        self.assertEqual(self.client.state(command), "sent")

    def test_not_after_passes_while_it_waits(self) -> None:
        link = self.connect(OUTSIDE)
        command = self.give(only_within=DEPOT, when_not_allowed="wait", not_after=START + 20)
        self.node.pass_time(20)
        self.at(link, INSIDE)
        self.assert_ended(command, "rejected", "not_after, 2026-11-22T10:00:20Z, has passed", link)

    def test_not_after_passes_while_the_lock_is_away(self) -> None:
        command = self.give(not_after=START + 20)
        self.node.pass_time(30)
        link = self.connect()
        self.assert_ended(command, "rejected", "not_after, 2026-11-22T10:00:20Z, has passed", link)

    def test_not_after_has_passed(self) -> None:
        record = self.client.record(self.give(not_after=START - 1))
        self.assertEqual(
            (record["state"], record["reason"]),
            ("invalid", "not_after: has passed; expected a time in the future"),
        )


class AreaTests(ConditionCase):
    """Named areas: read when a command comes in, and again right before its bytes."""

    def test_unknown_and_broken(self) -> None:
        """Such a command is invalid."""
        self.set_area("broken", "{")
        link = self.connect()
        for name, problem in (("depot", "is not defined"), ("broken", "in Redis is broken: not JSON")):
            record = self.client.record(self.give(only_within={"area": name}))
            self.assertEqual(record["state"], "invalid")
            self.assertIn(f"only_within: area {name} {problem}", record["reason"])
        self.assertEqual(self.written(link), [])

    def test_new_definition_counts(self) -> None:
        self.set_area("depot", DEPOT)
        command = self.give(only_within={"area": "depot"})
        self.set_area("depot", AWAY)
        link = self.connect()
        self.assert_ended(command, "rejected", "417.7 km outside of area depot", link)

    def test_removed_or_broken_while_it_waits(self) -> None:
        """It ends as rejected, at the latest after a minute."""
        link = self.connect(OUTSIDE)
        for change, reason in (
            (lambda: self.client.redis.call("DEL", self.client.key("area", "depot")), "is not defined"),
            (
                lambda: self.set_area("depot", '{"circle":1}'),
                "in Redis is broken: circle: is a number of 1 digit; ",
            ),
        ):
            self.set_area("depot", DEPOT)
            command = self.give(only_within={"area": "depot"}, when_not_allowed="wait")
            self.assert_waits(command, "waits until inside of area depot", link)
            change()
            self.node.pass_time(61)
            record = self.client.record(command)
            self.assertEqual(record["state"], "rejected")
            self.assertIn(f"area depot {reason}", record["reason"])
        self.assertEqual(self.written(link), [])

    def test_changes_while_it_is_recorded(self) -> None:
        """The area is read again after the record, right before the bytes."""
        self.set_area("depot", DEPOT)
        link = self.connect()
        self.client.unlock(self.device, only_within={"area": "depot"}, id="changes")
        self.steps_until("command_claim")
        self.node.step()
        self.steps_until("commit")
        self.set_area("depot", AWAY)
        self.node.run()
        self.assert_ended("changes", "rejected", "417.7 km outside of area depot", link)

    def test_can_not_be_read(self) -> None:
        """It waits while Redis does not tell the area, and is written when it does."""
        self.set_area("depot", DEPOT)
        command = self.give(only_within={"area": "depot"})
        self.client.redis.call("DEL", self.client.key("area", "depot"))
        self.client.redis.call("RPUSH", self.client.key("area", "depot"), "x")
        link = self.connect()
        self.assert_waits(command, "area depot could not be read from Redis", link)
        self.node.pass_time(4)
        self.assertEqual(self.written(link), [])
        self.client.redis.call("DEL", self.client.key("area", "depot"))
        self.set_area("depot", DEPOT)
        self.node.pass_time(2)
        self.assertEqual(self.client.state(command), "sent")

    def test_can_not_be_read_before_the_bytes(self) -> None:
        """What is recorded as about to be written can't wait any more: it ends as rejected."""
        self.set_area("depot", DEPOT)
        link = self.connect()
        self.client.unlock(self.device, only_within={"area": "depot"}, id="unread")
        self.steps_until("command_claim")
        self.node.step()
        self.steps_until("commit")
        self.client.redis.call("DEL", self.client.key("area", "depot"))
        self.client.redis.call("RPUSH", self.client.key("area", "depot"), "x")
        self.node.run()
        self.assert_ended("unread", "rejected", "area depot could not be read from Redis", link)


class GatewayTests(ConditionCase):
    """Another gateway keeps the conditions."""

    def test_adopted_after_a_claim(self) -> None:
        """The gateway dies right after the claim: the next one checks the position that it hears itself."""
        self.connect()
        command = self.client.unlock(self.device, only_within=DEPOT)
        self.steps_until("command_claim")
        self.node.wire.step()
        self.node.wire.connected = self.node.blocking.connected = False
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        node = self.make("gw2", now=self.node.clock.seconds()).start()
        link = self.connect(OUTSIDE, node)
        node.pass_time(30)
        self.assert_ended(command, "rejected", "1,040 m outside of the area", link)

    def test_moves_to_another_gateway_while_it_waits(self) -> None:
        first = self.connect(OUTSIDE)
        command = self.give(only_within=DEPOT, when_not_allowed="wait")
        node = self.make("gw2", now=self.node.clock.seconds()).start()
        second = self.connect(OUTSIDE, node)
        self.assert_waits(command, "waits until inside of the area", second)
        self.at(first, INSIDE)
        self.assert_waits(command, "waits until inside of the area", first)
        self.at(second, INSIDE, node)
        self.assertEqual((len(self.written(first)), len(self.written(second))), (0, 1))
