"""Several gateways on one Redis: of a lock's sessions the newest stays, and each change is told once."""

from jt709c_gateway.gateway.commands.recovery import CommandRecovery
from tests.support.command_bench import GATEWAY_TTL, START
from tests.support.commands import UNLOCKED, lock_event, new_device
from tests.support.fleet_bench import FleetTestCase


class SessionMoveTests(FleetTestCase):
    """A lock that opens a session at one gateway while another believes that it has it."""

    def test_older_session_is_closed(self) -> None:
        """The link at the first gateway is closed; `replaced` is told once, by the second."""
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
        """An old link that ends by itself after the move says nothing: the lock is not offline."""
        old = self.come()
        self.node.run()
        self.come(self.other)
        self.other.run()
        old.connection.closed("closed")
        self.pass_time()
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw2", "replaced")])
        self.assertEqual(self.holder(), "gw2")

    def test_end_and_move_cross(self) -> None:
        """The old link's end is on its way to Redis when the lock comes elsewhere: offline, then online."""
        old = self.come()
        self.node.run()
        old.connection.closed("closed")
        self.node.run()
        self.come(self.other)
        self.pass_time()
        self.assertEqual(self.changes(), [("gw1", "online"), ("gw1", "offline"), ("gw2", "online")])

    def test_there_and_back(self) -> None:
        """A lock that is back before its first gateway has been told stays there."""
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
        """A session whose opening Redis hasn't got yet isn't closed for one that it is about to replace."""
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
        """Of two locks on one link one moves away: the link stays for the other."""
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
        """What still comes over the old link is taken in, and changes nothing about who has the lock."""
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
        """A gateway that missed the word of the move hears of it when something comes over the old link."""
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
        """Commands that wait while the lock moves are sent by the gateway that it has moved to."""
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
        """A command written where the lock was is uncertain; what is reported where it is confirms it."""
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
        """A command that the lock has said yes to is confirmed by what it reports elsewhere."""
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
        """A command was confirmed by this gateway, and by no other."""
        told = [one for one in self.client.events("command") if one["data"]["id"] == command]
        by = [one["gateway"] for one in told if one["data"]["state"] == "confirmed"]
        self.assertEqual(by, [name])

    def test_acknowledged_command_goes_along(self) -> None:
        """A command that the lock has said yes to is in the hands of the gateway that the lock came to."""
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
        """The lock comes to the next run of its gateway before that has adopted what the first one left."""

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
        """The first frame at the second gateway is the evidence, for a command that has no answer yet."""
        self.come()
        command = self.client.unlock(self.device)
        self.pass_time()
        new = self.other.link()
        self.report(self.other, new, lock_event(), UNLOCKED)
        self.pass_time(1)
        self.assertEqual(self.client.states(command), ["queued", "sent", "uncertain", "confirmed"])
        self.assertEqual(self.other.dispatcher.executors, {})

    def test_evidence_comes_before_the_adoption(self) -> None:
        """What is heard elsewhere counts for a command whose gateway has died, though it is adopted later."""
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
        """One movement, heard where the lock went, confirms one of two commands."""
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
        """A report that was committed where the lock was proves nothing when it comes again elsewhere."""
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
        """A command that does no harm is written again where the lock is now."""
        self.come()
        command = self.client.command(self.device, "locate")
        self.pass_time()
        self.assertEqual(self.client.state(command), "sent")
        new = self.come(self.other)
        self.pass_time(1)
        self.assertEqual(self.client.state(command), "sent")
        self.assertEqual(sum(data.startswith(b"\x7e\x82\x01") for data in new.sent), 1)
