"""Commands that come many at a time: taken in side by side, but for those whose order matters."""

import json

from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from jt709c_gateway.commands.model import Command, parse_command
from jt709c_gateway.gateway.commands import intake
from jt709c_gateway.gateway.commands.consumer import MAX_TAKEN
from tests.support.command_bench import GATEWAY_TTL, BenchTestCase
from tests.support.commands import PASSWORD, new_device, new_id
from tests.support.masters import new_sublock

MANY = 20


class IntakeTestCase(BenchTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.said: list[str] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: LogEvent) -> None:
        if "Redis refuses" in (line := formatEvent(event)):
            self.said.append(line)

    def assert_said(self) -> None:
        """One line told of what this command runs into, and none that Redis gives out no commands at all."""
        (line,) = self.said
        self.assertIn("to take a command in: WRONGTYPE", line)
        self.assertEqual(self.node.gateway.counters.intake_errors, 0)

    def queue(self, device: str) -> list[bytes]:
        """What waits for a lock, in order."""
        return self.client.redis.call("LRANGE", self.client.key("commands", "waiting", device), 0, -1)

    def assert_queue(self, commands: list[str]) -> None:
        """These wait for the lock, in this order."""
        self.assertEqual([json.loads(entry)["id"] for entry in self.queue(self.device)], commands)

    def assert_all_taken(self) -> None:
        """Nothing is left to be taken in."""
        keys = [
            self.client.key("commands"),
            *(self.client.key("commands", "intake", name) for name in ("gw1", "gw2")),
        ]
        self.assertEqual(self.client.redis.call("EXISTS", *keys), 0)


class SideBySideTests(IntakeTestCase):
    def test_many_locks(self) -> None:
        """Commands for different locks don't wait for each other's round trips to Redis."""
        devices = [new_device() for _ in range(MANY)]
        commands = [self.client.unlock(device) for device in devices]
        most = 0
        while self.node.step():
            most = max(most, len(self.node.wire.pending))
        self.assertGreaterEqual(most, MANY)
        for command, device in zip(commands, devices, strict=True):
            self.assertEqual(self.client.state(command), "waiting")
            self.assertEqual(len(self.queue(device)), 1)
        self.assert_all_taken()

    def test_one_lock(self) -> None:
        """Commands for one lock wait in the order in which they came, whatever comes between."""
        commands = []
        for _ in range(MANY):
            commands.append(self.client.unlock(self.device))
            self.client.unlock(new_device())
        self.node.run()
        self.assert_queue(commands)

    def test_cancel(self) -> None:
        """A command can be taken back by one that is right behind it, also one that names another device."""
        for device in (self.device, new_device()):
            command = self.client.unlock(self.device)
            cancel = self.client.command(device, "cancel", {"id": command})
            again = self.client.unlock(self.device)
            self.node.run()
            self.assertEqual(self.client.state(command), "cancelled")
            self.assertEqual(self.client.state(cancel), "done")
            self.assertEqual(self.client.state(again), "waiting")

    def test_failure(self) -> None:
        """While a command can't be taken in those behind it wait if they are for its lock, and no others."""
        key = self.client.key("commands", "waiting", self.device)
        self.client.redis.call("SET", key, "in the way")
        first, second = self.client.unlock(self.device), self.client.unlock(self.device)
        other = self.client.unlock(new_device())
        self.node.run()
        self.assertEqual(self.client.state(other), "waiting")
        self.assertEqual((self.client.state(first), self.client.state(second)), ("", ""))
        self.assert_said()
        self.client.redis.call("DEL", key)
        self.node.pass_time(1.0)
        self.assert_queue([first, second])

    def test_known_id_in_one_go(self) -> None:
        """Of two commands with one id that are taken in side by side, one is carried out."""
        command = new_id()
        devices = (self.device, new_device())
        for device in devices:
            self.client.unlock(device, id=command)
        self.node.run()
        self.assertEqual(self.client.states(command)[0], "queued")
        self.assertEqual(self.client.states(command).count("queued"), 1)
        self.assertEqual(sorted(len(self.queue(device)) for device in devices), [0, 1])

    def test_other_names(self) -> None:
        """Commands for one lock keep their order also when it is called by its IMEI, or with zeros before."""
        imei = "8678" + self.device[1:]
        self.client.redis.call("HSET", self.client.key("imei"), imei, self.device)
        names = [self.device, self.device, self.device, f"00{self.device}", imei, self.device]
        commands = [self.client.unlock(name) for name in names]
        self.node.run()
        self.assert_queue(commands)

    def test_sublock(self) -> None:
        """A command for a sub-lock keeps its place among those for its master, whose name is found at
        once."""
        sublock = new_sublock()
        key = self.client.key("peripheral", sublock)
        self.client.redis.call("HSET", key, "device", self.device, "type", "sublock")
        commands = [
            self.client.command(sublock, "unlock"),
            self.client.unlock(self.device),
            self.client.command(sublock, "unlock"),
        ]
        self.node.run()
        self.assert_queue(commands)

    def test_unforeseen(self) -> None:
        """A command over which the gateway stumbles is set aside, and told as invalid; the others go on."""

        def parse(raw: bytes, now: float) -> Command:
            if b"stumble" in raw:
                raise ZeroDivisionError
            return parse_command(raw, now)

        self.patch(intake, "parse_command", parse)
        before, bad, after = self.client.unlock(self.device), "stumble", self.client.unlock(self.device)
        self.client.push(json.dumps({"device": self.device, "command": "locate", "params": {"x": bad}}))
        last = self.client.unlock(self.device)
        self.node.run()
        self.assert_queue([before, after, last])
        self.node.pass_time(1.0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)
        (told,) = self.client.redis.call("LRANGE", self.client.key("commands", "invalid"), 0, -1)
        self.assertIn("ZeroDivisionError", json.loads(told)["reason"])
        self.assert_all_taken()

    def test_set_aside(self) -> None:
        """Whoever gave a command that can't be taken in is told, by its id and under its `reply_to`."""
        key = self.client.key("commands", "waiting", self.device)
        self.client.redis.call("SET", key, "in the way")
        command = self.client.unlock(self.device, reply_to=(name := new_id()), issued_by="dispatch")
        self.node.pass_time(6.0)
        self.assert_said()
        record, reply = self.client.record(command), self.client.reply(name)
        for told in (record, reply):
            self.assertEqual((told["state"], told["issued_by"]), ("invalid", "dispatch"))
            self.assertRegex(told["reason"], "^could not be taken in: ResponseError$")
        self.assertEqual(self.client.states(command), ["invalid"])
        (kept,) = self.client.redis.call("LRANGE", self.client.key("commands", "invalid"), 0, -1)
        self.assertEqual(json.loads(kept)["id"], command)
        self.assert_all_taken()

    def test_key_of_another_type_that_is_repaired(self) -> None:
        """A command that Redis refuses for some seconds is queued after that; others go on meanwhile."""
        key = self.client.key("commands", "waiting", self.device)
        self.client.redis.call("SET", key, "in the way")
        refused = self.client.unlock(self.device)
        self.node.pass_time(2.0)
        other = self.client.unlock(new_device())
        self.node.pass_time(1.0)
        self.assertEqual((self.client.state(refused), self.client.state(other)), ("", "waiting"))
        self.client.redis.call("DEL", key)
        self.node.pass_time(1.0)
        self.assertEqual(self.client.state(refused), "waiting")
        self.assert_all_taken()

    def test_many_that_are_refused_do_not_keep_others(self) -> None:
        """More refused commands than one batch holds cost the others the time of one."""
        self.client.redis.call("SET", self.client.key("commands", "waiting", self.device), "in the way")
        refused = [self.client.unlock(self.device) for _ in range(MAX_TAKEN + 8)]
        other = self.client.unlock(new_device())
        self.node.pass_time(15.0)
        self.assertEqual(self.client.state(other), "waiting")
        self.assertEqual({self.client.state(command) for command in refused[:9]}, {"invalid"})

    def test_set_aside_has_an_outcome_where_no_event_can_be_written(self) -> None:
        """While the stream of events is of another type, a command that is set aside has record and reply."""
        self.client.redis.call("SET", self.client.key("events"), "x")
        command = self.client.unlock(self.device, reply_to="me")
        self.node.pass_time(20)
        self.assertEqual(self.client.state(command), "invalid")
        self.assertEqual(self.client.reply("me", timeout=1)["state"], "invalid")
        self.assert_all_taken()

    def test_carried_out_here_has_an_outcome_when_a_right_was_missing(self) -> None:
        """A command that no lock hears of stays in the list until what became of it is stored."""
        user = f"gateway-of-{self.prefix}"
        self.client.redis.call("ACL", "SETUSER", user, "-hset")
        command = self.client.command(self.device, "clear_lockout", reply_to="me")
        self.node.pass_time(3)
        self.assertEqual(self.client.state(command), "")
        self.client.redis.call("ACL", "SETUSER", user, "+hset")
        self.client.redis.call("ACL", "LOG", "RESET")
        self.node.pass_time(10)
        self.assertIn(self.client.state(command), ("done", "invalid"))
        self.assertEqual(self.client.reply("me", timeout=1)["id"], command)
        self.assertEqual(self.client.redis.call("LLEN", self.client.key("reply", "me")), 0)
        self.assert_all_taken()

    def test_set_aside_under_a_known_id(self) -> None:
        """One that has the id of another says nothing in that one's name."""
        command = self.client.unlock(self.device)
        self.node.run()
        history = self.client.key("history", self.device)
        self.client.redis.call("DEL", history)
        self.client.redis.call("SET", history, "in the way")
        self.client.command(self.device, "cancel", {"id": new_id()}, id=command)
        self.node.pass_time(6.0)
        self.assert_said()
        self.assertEqual(self.client.state(command), "waiting")
        self.assertNotIn("invalid", self.client.states(command))
        self.assert_all_taken()

    def test_two_alike(self) -> None:
        """Entries that are the same, to the last byte, are as many commands."""
        entry = json.dumps({"device": self.device, "command": "unlock", "params": {"password": PASSWORD}})
        for _ in range(3):
            self.client.push(entry)
        self.node.run()
        self.assertEqual(len(self.queue(self.device)), 3)
        self.assert_all_taken()


class EndingTests(IntakeTestCase):
    """What ends while commands are being taken in: the gateway, its connection, its turn."""

    def halfway(self) -> list[str]:
        """Commands in the gateway's hands, some of which Redis has accepted; their ids, one lock's each."""
        commands = [self.client.unlock(new_device()) for _ in range(MANY)]
        self.steps_until("command_accept")
        for _ in range(MANY // 2):
            self.assertTrue(self.node.step())
        states = [self.client.state(command) for command in commands]
        self.assertIn("", states)
        self.assertIn("waiting", states)
        return commands

    def adopted(self) -> None:
        """The gateway counts as dead, and another adopts what it has left."""
        self.client.redis.call("DEL", self.client.key("gateway", "gw1"))
        self.make("gw2", now=self.node.clock.seconds()).start().pass_time(40.0)

    def assert_each_taken_once(self, commands: list[str]) -> None:
        for command in commands:
            self.assertEqual(self.client.states(command), ["queued", "waiting"])
            self.assertEqual(len(self.queue(self.client.record(command)["device"])), 1)
        self.assert_all_taken()

    def test_lost_connection(self) -> None:
        """Whether a reply was lost or never given, each command is taken in once when Redis is back."""
        for executed in (0, 5):
            commands = self.halfway()
            self.node.wire.lose(executed)
            self.node.blocking.lose()
            self.node.run()
            self.node.connected()
            self.node.pass_time(1.0)
            self.assert_each_taken_once(commands)

    def test_other_gateway(self) -> None:
        """Of a gateway that dies another takes over what it had not dealt with; what had been stays."""
        commands = self.halfway()
        self.node.wire.lose(3)
        self.node.blocking.lose()
        self.adopted()
        self.assert_each_taken_once(commands)

    def test_taken_for_dead(self) -> None:
        """One that goes on after its commands were adopted takes in none of them a second time."""
        commands = self.halfway()
        self.adopted()
        self.node.run()
        self.assert_each_taken_once(commands)

    def test_winding_up(self) -> None:
        """A gateway that takes no more deals with what it has, and says so when that is done."""
        commands = self.halfway()
        self.node.background_tasks.stop_intake()
        self.assertFalse(self.node.background_tasks.is_drained)
        late = self.client.unlock(self.device)
        self.node.run()
        self.node.pass_time(10.0)
        self.assertTrue(self.node.background_tasks.is_drained)
        self.assertEqual(self.client.state(late), "")
        (entry,) = self.client.redis.call("LRANGE", self.client.key("commands"), 0, -1)
        self.assertEqual(json.loads(entry)["id"], late)
        self.client.redis.call("DEL", self.client.key("commands"))
        self.assert_each_taken_once(commands)

    def test_winding_up_before_the_next_round(self) -> None:
        """Nothing is taken when it is told to stop while it gives back what it hadn't dealt with."""
        key = self.client.key("commands", "waiting", self.device)
        self.client.redis.call("SET", key, "in the way")
        first = self.client.unlock(self.device)
        self.node.run()
        self.node.clock.advance(0.2)
        self.steps_until("LMOVE")
        self.node.background_tasks.stop_intake()
        self.client.redis.call("DEL", key)
        self.node.pass_time(10.0)
        self.assert_said()
        self.assertEqual(self.client.state(first), "")
        self.assertEqual(self.client.redis.call("LLEN", self.client.key("commands")), 1)
        self.assertTrue(self.node.background_tasks.is_drained)

    def test_leaving(self) -> None:
        """Commands that Redis still moved for a gateway that takes no more are left to the others at once."""
        self.node.run()
        ((blocked, _),) = self.node.blocking.pending
        self.node.background_tasks.stop_intake()
        command = self.client.unlock(self.device)
        self.node.blocking._execute(blocked)
        self.assertEqual(self.client.redis.call("EXISTS", self.client.key("commands")), 0)
        self.node.background_tasks._run_once(self.node.background_tasks.deregister)
        self.node.run()
        other = self.make("gw2", now=self.node.clock.seconds()).start()
        other.run()
        self.assertEqual(self.client.states(command), ["queued", "waiting"])

    def test_waiting_ends_before_adoption(self) -> None:
        """Redis waits no longer for a gateway than others do: it would move commands to where nobody
        looks."""
        for ttl, wait in ((GATEWAY_TTL, 5.0), (3.0, 1.5)):
            node = self.make(f"gw-{ttl:g}", ttl=ttl).start()
            ((blocked, _),) = node.blocking.pending
            self.assertEqual((blocked[0], blocked[-1]), ("BLMOVE", wait))

    def test_stopped(self) -> None:
        """Stopped at once, it begins with nothing more: a `cancel` must not go ahead of its command."""
        command = self.client.unlock(self.device)
        cancel = self.client.command(self.device, "cancel", {"id": command})
        self.steps_until("command_accept")
        asked = len(self.node.wire.calls)
        self.node.background_tasks.stopService()
        self.assertEqual(self.node.wire.calls[asked:], [])
        self.node.wire.lose()
        self.adopted()
        self.assertEqual((self.client.state(command), self.client.state(cancel)), ("cancelled", "done"))
        self.assert_all_taken()
