"""Several gateways on one Redis: the newest session of a lock wins, and each change is published once."""

from typing import Any

from twisted.logger import formatEvent, globalLogPublisher

from jt709c_gateway.gateway.commands.recovery import CommandRecovery
from tests.support.command_bench import GATEWAY_TTL, START
from tests.support.commands import UNLOCKED, lock_event, new_device
from tests.support.fleet_bench import FleetTestCase


class SessionMoveTests(FleetTestCase):
    """A lock opens a session at one gateway while another still has one."""

    def test_older_session_is_closed(self) -> None:
        """The connection at the first gateway is closed; the second publishes `replaced` once."""
        old = self.come()
        self.node.run()
        new = self.come(self.other)
        self.pass_time()
        self.assertEqual((old.closed, new.closed), (["replaced"], []))
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "replaced")])
        self.assertEqual(
            self.session_events()[-1]["data"],
            {"state": "replaced", "reason": "newer connection", "duration_s": None},
        )
        self.assertEqual(self.holder(), "gw2")
        self.assertEqual((len(self.node.gateway.sessions), len(self.other.gateway.sessions)), (0, 1))
        self.assertEqual((self.online_at("gw1"), self.online_at("gw2")), ([], [self.device.encode()]))

    def test_old_link_ends_before_it_is_told(self) -> None:
        """An old connection that ends after the move publishes nothing: the lock is not offline."""
        old = self.come()
        self.node.run()
        self.come(self.other)
        self.other.run()
        old.connection.closed("closed")
        self.pass_time()
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "replaced")])
        self.assertEqual(self.holder(), "gw2")

    def test_end_and_move_cross(self) -> None:
        """The old connection's end reaches Redis before the new session: offline, then online."""
        old = self.come()
        self.node.run()
        old.connection.closed("closed")
        self.node.run()
        self.come(self.other)
        self.pass_time()
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw1", "offline"), ("gw2", "online")])

    def test_two_locks_with_one_id(self) -> None:
        """They take turns slowly, and a log names both peers once, with the other's gateway."""
        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            if event["log_namespace"].endswith("TakeoverLimiter"):
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        links = {self.node: self.come(), self.other: self.come(self.other)}
        for _ in range(120):
            for node, link in links.items():
                if link.closed:
                    links[node] = self.come(node)
            self.pass_time()
        counted = [node.gateway.counters.contested for node in links]
        self.assertTrue(any(counted), counted)
        self.assertTrue(10 < len(self.changes()) < 100, len(self.changes()))
        named = [
            f"{self.device}: {links[other].peer} at gateway {other.name} and {links[node].peer} take turns"
            for node, other in ((self.node, self.other), (self.other, self.node))
        ]
        (line,) = lines
        self.assertTrue(any(one in line for one in named), lines)

    def test_there_and_back(self) -> None:
        """A lock that returns before its first gateway was notified stays there."""
        links = [self.come()]
        self.node.run()
        links.append(self.come(self.other))
        self.other.run()
        links.append(self.come())
        self.pass_time()
        self.assertEqual([link.closed for link in links], [["replaced"], ["replaced"], []])
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "replaced"), ("gw1", "replaced")])
        self.assertEqual(self.holder(), "gw1")

    def test_newest_is_not_judged_before_it_is_stored(self) -> None:
        """A session that Redis has not stored yet is not closed for the one it is about to replace."""
        self.come()
        self.node.run()
        self.come(self.other)
        self.other.run()
        self.node.clock.advance(0.25)
        asked = self.node.wire.pending
        self.assertTrue(any(call[0] == "LRANGE" for call, _ in asked), asked)
        again = self.come()
        self.pass_time()
        self.assertEqual(again.closed, [])
        self.assertEqual(self.holder(), "gw1")
        self.assertEqual(self.changes()[-1], ("gw1", "replaced"))

    def test_others_on_the_link(self) -> None:
        """Of two locks on one connection one moves: the connection stays for the other."""
        link = self.come()
        moving, self.lock.device = self.lock.device, "794308010001"
        self.report(self.node, link)
        self.node.run()
        self.lock.device = moving
        self.come(self.other)
        self.pass_time()
        self.assertEqual(link.closed, [])
        self.assertEqual([one.device for one in self.node.gateway.sessions], ["794308010001"])

    def test_old_link_speaks_again(self) -> None:
        """Reports over the old connection don't change which gateway has the lock."""
        old = self.come()
        self.node.run()
        self.node.clock.advance(61)
        self.come(self.other)
        self.other.run()
        self.report(self.node, old)
        self.node.run()
        self.assertEqual(self.holder(), "gw2")
        self.pass_time()
        self.assertEqual(old.closed, ["replaced"])
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "replaced")])

    def test_word_is_lost(self) -> None:
        """A gateway that missed the notice of a move learns of it when the old connection reports."""
        old = self.come()
        self.node.run()
        self.come(self.other)
        self.other.run()
        self.client.redis.call("DEL", self.client.key("commands", "route", "gw1"))
        self.pass_time()
        self.assertEqual(old.closed, [])
        self.pass_time(61)
        self.report(self.node, old)
        self.pass_time()
        self.assertEqual(old.closed, ["replaced"])


class CommandMoveTests(FleetTestCase):
    """Commands of a lock that goes from one gateway to another."""

    def test_commands_go_along(self) -> None:
        """Commands that wait while the lock moves are sent by its new gateway."""
        old = self.come(transport="udp")
        self.node.run()
        self.pass_time(31)
        commands = [self.client.unlock(self.device) for _ in range(2)]
        self.pass_time()
        self.assertEqual(self.written(old), [])
        new = self.come(self.other)
        for serial in (1, 2):
            self.pass_time()
            self.assertEqual(len(self.written(new)), serial)
            self.say(self.other, new, serial, "ELOCK", "1", "1")
            self.report(self.other, new, lock_event(), UNLOCKED)
            self.pass_time()
        self.assertEqual([self.client.state(one) for one in commands], ["confirmed"] * 2)
        self.assertEqual(self.written(old), [])

    def test_written_command(self) -> None:
        """A command written before the move is uncertain; a report after the move confirms it."""
        old = self.come()
        command = self.client.unlock(self.device)
        self.pass_time()
        self.assertEqual(len(self.written(old)), 1)
        new = self.come(self.other)
        self.pass_time(1)
        self.assertEqual(self.client.state(command), "uncertain")
        self.report(self.other, new, lock_event(), UNLOCKED)
        self.pass_time()
        self.assertEqual(self.client.states(command), ["queued", "sent", "uncertain", "confirmed"])
        self.assertEqual(self.written(new), [])

    def test_acknowledged_command(self) -> None:
        """An acknowledged command is confirmed by a report at another gateway."""
        old = self.come()
        command = self.client.unlock(self.device)
        self.pass_time()
        self.say(self.node, old, 1, "ELOCK", "1", "1")
        self.pass_time()
        new = self.come(self.other)
        self.pass_time(1)
        self.report(self.other, new, lock_event(), UNLOCKED)
        self.pass_time(125)
        self.assertEqual(self.client.states(command)[-1], "confirmed")

    def assert_confirmed_at(self, command: str, name: str) -> None:
        """Check that this gateway, and no other, confirmed the command."""
        told = [one for one in self.client.events("command") if one["data"]["id"] == command]
        by = [one["gateway"] for one in told if one["data"]["state"] == "confirmed"]
        self.assertEqual(by, [name])

    def test_acknowledged_command_goes_along(self) -> None:
        """The new gateway of a lock takes over its acknowledged command."""
        old = self.come()
        command = self.client.unlock(self.device)
        self.pass_time()
        self.say(self.node, old, 1, "ELOCK", "1", "1")
        self.pass_time()
        self.come(self.other)
        self.pass_time(1)
        hands = self.client.key("commands", "underway", "gw2")
        self.assertEqual(self.client.redis.call("HKEYS", hands), [command.encode()])
        self.assertEqual(
            (self.node.dispatcher.context.claims.tokens, self.other.dispatcher.context.claims.tokens),
            ({}, {command: 2}),
        )
        self.assertEqual(self.node.dispatcher.executors, {})
        self.pass_time(125)
        self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged", "unconfirmed"])

    def test_acknowledged_command_goes_along_to_a_later_run(self) -> None:
        """The lock comes to the next run of its gateway before that has adopted the commands of the first."""

        async def nothing(*_: object) -> int:
            return 0

        old = self.come()
        command = self.client.unlock(self.device)
        self.pass_time()
        self.say(self.node, old, 1, "ELOCK", "1", "1")
        self.pass_time()
        self.patch(CommandRecovery, "adopt", nothing)
        again = self.make("gw1").start()
        self.nodes = [again]
        self.come(again)
        self.pass_time(1)
        self.assertEqual(again.dispatcher.context.claims.tokens, {command: 2})
        hands = self.client.key("commands", "underway", "gw1")
        self.assertEqual(self.client.redis.call("HKEYS", hands), [command.encode()])
        self.pass_time(125)
        self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged", "unconfirmed"])
        self.assertEqual(self.client.redis.call("HKEYS", hands), [])

    def test_evidence_is_the_first_thing_heard(self) -> None:
        """The first frame at the second gateway is the evidence, for a command without an answer."""
        self.come()
        command = self.client.unlock(self.device)
        self.pass_time()
        new = self.other.link()
        self.report(self.other, new, lock_event(), UNLOCKED)
        self.pass_time(1)
        self.assertEqual(self.client.states(command), ["queued", "sent", "uncertain", "confirmed"])
        self.assertEqual(self.other.dispatcher.executors, {})

    def test_evidence_comes_before_the_adoption(self) -> None:
        """A report elsewhere confirms a command of a dead gateway, though it is adopted later."""
        for state in ("sent", "acknowledged"):
            node = self.make(f"{state}-gateway").start()
            self.nodes = [node, self.other]
            self.lock.device = self.device = new_device()
            link = self.come(node)
            command = self.client.unlock(self.device)
            self.pass_time()
            while not self.written(link):
                self.pass_time()
            if state == "acknowledged":
                self.say(node, link, 1, "ELOCK", "1", "1")
                self.pass_time()
            self.assertEqual(self.client.state(command), state)
            self.pass_time(GATEWAY_TTL)
            self.die(node)
            new = self.other.link()
            self.report(self.other, new, lock_event(), UNLOCKED)
            self.other.run()
            self.pass_time(GATEWAY_TTL)
            self.assert_confirmed_at(command, "gw2")
            self.assertEqual(self.client.under_way(), [])

    def test_one_movement_elsewhere(self) -> None:
        """One movement reported elsewhere confirms one of two commands."""
        old = self.come()
        first, second = self.client.unlock(self.device), self.client.unlock(self.device)
        self.pass_time()
        self.say(self.node, old, 1, "ELOCK", "1", "1")
        self.pass_time()
        self.assertEqual((self.client.state(first), self.client.state(second)), ("acknowledged", "sent"))
        new = self.other.link()
        self.report(self.other, new, lock_event(), UNLOCKED)
        self.pass_time(1)
        self.assertEqual((self.client.state(first), self.client.state(second)), ("confirmed", "uncertain"))

    def test_report_comes_again_elsewhere(self) -> None:
        """A report committed before the move confirms nothing when it is repeated elsewhere."""
        old = self.come()
        frame = self.lock.location(lock_event(), UNLOCKED, START + self.node.clock.seconds() + 1)
        self.node.feed(old, frame)
        self.node.run()
        command = self.client.unlock(self.device)
        self.pass_time()
        self.assertEqual(self.client.state(command), "sent")
        new = self.other.link()
        self.other.feed(new, frame)
        self.pass_time()
        self.other.feed(new, frame)
        self.pass_time(1)
        self.assertEqual(self.client.state(command), "uncertain")
        self.report(self.other, new)
        self.report(self.other, new, lock_event(), UNLOCKED)
        self.pass_time()
        self.assertEqual(self.client.state(command), "confirmed")

    def test_question_goes_along(self) -> None:
        """A harmless command is written again at the lock's new gateway."""
        self.come()
        command = self.client.command(self.device, "locate")
        self.pass_time()
        self.assertEqual(self.client.state(command), "sent")
        new = self.come(self.other)
        self.pass_time(1)
        self.assertEqual(self.client.state(command), "sent")
        self.assertEqual(sum(data.startswith(b"\x7e\x82\x01") for data in new.sent), 1)
