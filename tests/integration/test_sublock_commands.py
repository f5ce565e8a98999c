"""Commands for sub-locks, executed by their master: the real daemon and simulated masters."""

import json
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.acl import GuardedServer
from tests.support.commands import CommandCase, CommandClient, check_edges, new_id
from tests.support.daemon import Daemon
from tests.support.masters import BLUETOOTH, LORA, OPEN, FakeMaster, new_master, new_sublock

SENSOR = b"\x01\x02\x32\x00\x00\x00"


class SubLockCase(CommandCase):
    """A connected master, and a sub-lock that has reported through it."""

    options = ("--ask", "none")

    def setUp(self) -> None:
        super().setUp()
        self.master = self.new_master()
        self.sublock, self.other = new_sublock(), new_sublock()
        self.master.hear(self.sublock)

    def leave(self) -> None:
        """Disconnect the master; the gateway has seen it."""
        session = self.client.key("session", self.master.device)
        self.master.close()
        wait_until(lambda: not self.client.redis.call("HEXISTS", session, "gateway"))

    def new_master(self) -> FakeMaster:
        """Return a master that has reported."""
        master = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(master.close)
        return master

    def sent(self, device: str, command: str = "unlock", **params: object) -> tuple[str, int]:
        """Return id and serial of a command that was written to the master."""
        command = self.client.command(device, command, params)
        serial, _, _ = self.master.next_sublock_unlock()
        return command, serial

    def acknowledged(self, device: str, **params: object) -> str:
        """Return the id of a command that the master has accepted."""
        command, serial = self.sent(device, **params)
        self.master.take(serial)
        self.client.wait(command, "acknowledged")
        return command

    def assert_open(self, command: str) -> None:
        """Check that no report so far was evidence for this command."""
        self.master.beat()
        self.assertIn(self.client.state(command), ("sent", "acknowledged"))

    def invalid(self, device: str, name: str, **params: object) -> str:
        """Return the reason of an invalid command, for which nothing is written."""
        command, reply_to = new_id(), new_id()
        self.client.command(device, name, params, id=command, reply_to=reply_to)
        self.assertEqual(self.client.reply(reply_to)["state"], "invalid")
        self.master.beat()
        self.assertEqual(self.master.commands, [])
        return self.client.record(command)["reason"]


class UnlockTests(SubLockCase):
    def test_an_unlock_of_a_sublock_through_its_master_from_command_to_confirmed(self) -> None:
        """The command names only the sub-lock; its master gets it, and the sub-lock's report confirms it."""
        command = self.client.command(self.sublock.lower(), "unlock", {"minutes": 2}, issued_by="night shift")
        serial, minutes, identity = self.master.next_sublock_unlock()
        self.assertEqual((minutes, identity), ("2", self.sublock))
        self.client.wait(command, "sent")
        self.master.take(serial)
        self.client.wait(command, "acknowledged")
        self.master.hear(self.sublock, LORA, OPEN)
        record = self.client.wait(command, "confirmed")
        self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged", "confirmed"])
        self.assertEqual((record["device"], record["peripheral"]), (self.master.device, self.sublock))
        self.assertEqual((record["command"], record["issued_by"]), ("sublock_unlock", "night shift"))
        self.assertEqual(json.loads(record["evidence"])["kind"], "lock")
        (lock,) = self.client.events("lock", self.master.device)
        self.assertEqual((lock["data"]["peripheral"], lock["data"]["method"]), (self.sublock, "lora"))
        self.assertEqual(lock["data"]["command_id"], command)
        told = self.client.events("command", self.master.device)
        self.assertEqual({one["data"]["peripheral"] for one in told}, {self.sublock})
        history = self.client.redis.call("XLEN", self.client.key("history", self.master.device))
        self.assertEqual(history, len(told) + 1)

    def test_by_its_master(self) -> None:
        """The same command given to the master, with the sub-lock as a parameter."""
        command, serial = self.sent(self.master.device, "sublock_unlock", id=self.sublock)
        self.master.take(serial)
        self.master.hear(self.sublock, LORA, OPEN)
        record = self.client.wait(command, "confirmed")
        self.assertEqual(record["peripheral"], self.sublock)

    def test_unseal_and_the_parameter_once_more(self) -> None:
        """An alias works here too, and a parameter may repeat the device."""
        command = self.client.command(self.sublock, "unseal", {"id": self.sublock})
        self.assertEqual(self.master.next_sublock_unlock()[1:], ("5", self.sublock))
        self.client.wait(command, "sent")

    def test_confirmed_by_state(self) -> None:
        """A report without an event that shows it unlocked confirms as well."""
        command = self.acknowledged(self.sublock)
        self.master.hear(self.sublock, status=OPEN)
        record = self.client.wait(command, "confirmed")
        self.assertEqual(json.loads(record["evidence"])["kind"], "status")

    def test_unlocked_already(self) -> None:
        """An unchanged state confirms nothing."""
        self.master.hear(self.sublock, status=OPEN)
        command = self.acknowledged(self.sublock)
        self.master.hear(self.sublock, status=OPEN)
        self.assert_open(command)

    def test_another_sublock(self) -> None:
        """A report of another sub-lock of the master is no evidence."""
        self.master.hear(self.other)
        command = self.acknowledged(self.sublock)
        self.master.hear(self.other, LORA, OPEN)
        self.assert_open(command)
        (lock,) = self.client.events("lock", self.master.device)
        self.assertIsNone(lock["data"]["command_id"])

    def test_two_at_once(self) -> None:
        """Two sub-locks of one master, each with a command: each report confirms its own, in any sequence."""
        self.master.hear(self.other)
        first, second = self.acknowledged(self.sublock), self.acknowledged(self.other)
        self.master.hear(self.other, LORA, OPEN)
        self.client.wait(second, "confirmed")
        self.assert_open(first)
        self.master.hear(self.sublock, LORA, OPEN)
        self.client.wait(first, "confirmed")
        named = {
            one["data"]["peripheral"]: one["data"]["command_id"]
            for one in self.client.events("lock", self.master.device)
        }
        self.assertEqual(named, {self.sublock: first, self.other: second})

    def test_by_hand(self) -> None:
        """A sub-lock opened by phone was not opened by the command."""
        command = self.acknowledged(self.sublock)
        self.master.hear(self.sublock, BLUETOOTH, OPEN)
        self.assert_open(command)
        self.master.hear(self.sublock, status=OPEN)
        self.assert_open(command)

    def test_the_master_and_its_sublock(self) -> None:
        """The master's own opening confirms its own command, not the sub-lock's, and vice versa."""
        command = self.acknowledged(self.sublock)
        own = self.client.unlock(self.master.device, "888888")
        self.assertEqual(self.master.next_command(), b"(P43,888888)")
        self.master.say("P43", "1", "0")
        self.client.wait(own, "acknowledged")
        self.master.hear(self.sublock, LORA, OPEN)
        self.client.wait(command, "confirmed")
        self.assertEqual(self.client.state(own), "acknowledged")
        again = self.acknowledged(self.sublock)
        now = time.strftime("%d%m%y,%H%M%S", time.gmtime()).split(",")
        place = ("22.56035", "N", "114.01640", "E", "A", "36", "270")
        self.master.say("P45", *now, *place, "4", "1", "0000000000", "1", "0", "24", "5")
        self.client.wait(own, "confirmed")
        self.assert_open(again)

    def test_a_report_that_is_sent_again(self) -> None:
        """A repeated report confirms if the first one was lost; one already received confirms nothing
        more."""
        first = self.acknowledged(self.sublock)
        at = time.time()
        self.master.hear(self.sublock, at=at + 1)
        self.master.hear(self.sublock, LORA, OPEN, at=at, resent=True)
        self.client.wait(first, "confirmed")
        second = self.acknowledged(self.sublock)
        self.master.hear(self.sublock, LORA, OPEN, at=at, resent=True)
        self.assert_open(second)
        self.master.hear(self.sublock, LORA, OPEN, at=at + 2)
        self.client.wait(second, "confirmed")

    def test_an_old_report(self) -> None:
        """An opening from long before the command confirms nothing, also when it is repeated."""
        command = self.acknowledged(self.sublock)
        for resent in (False, True):
            self.master.hear(self.sublock, LORA, OPEN, at=time.time() - 600, resent=resent)
        self.assert_open(command)

    def test_the_next_command_does_not_wait(self) -> None:
        """While the master tries, the next command is sent, as after any accepted command."""
        self.acknowledged(self.sublock)
        command = self.client.command(self.master.device, "query", {"what": "firmware"})
        self.assertEqual(self.master.next_command(), b"(P01)")
        self.master.say("P01", "JT701D_V8111", "89")
        self.client.wait(command, "done")

    def test_a_valve_lock(self) -> None:
        """A JT802 is addressed like any sub-lock."""
        self.master.hear(self.other, kind=9, rest=b"\x01\x02")
        command, serial = self.sent(self.other)
        self.master.take(serial)
        self.client.wait(command, "acknowledged")


class MovedTests(SubLockCase):
    def test_it_has_moved(self) -> None:
        """The command goes to the master that the sub-lock reported through last."""
        first, second = self.master, self.new_master()
        second.hear(self.sublock)
        self.master = second
        command = self.acknowledged(self.sublock)
        second.hear(self.sublock, LORA, OPEN)
        record = self.client.wait(command, "confirmed")
        self.assertEqual(record["device"], second.device)
        first.beat()
        self.assertEqual(first.commands, [])

    def test_an_old_report_moves_nothing_back(self) -> None:
        """Old reports through its earlier master change nothing."""
        first, second = self.master, self.new_master()
        second.hear(self.sublock, at=time.time() + 1)
        first.hear(self.sublock, at=time.time() - 100)
        self.master = second
        command, _ = self.sent(self.sublock)
        self.assertEqual(self.client.record(command)["device"], second.device)

    def test_a_master_that_is_away(self) -> None:
        """The command waits for the master."""
        self.leave()
        command = self.client.command(self.sublock, "unlock")
        self.client.wait(command, "waiting", "queued")
        self.master.connect(self.daemon)
        serial, _, identity = self.master.next_sublock_unlock()
        self.assertEqual(identity, self.sublock)
        self.master.take(serial)
        self.master.hear(self.sublock, LORA, OPEN)
        self.client.wait(command, "confirmed")
        self.assertEqual(self.client.record(command)["peripheral"], self.sublock)


class InvalidTests(SubLockCase):
    def test_other_commands(self) -> None:
        """Any command but an unlock goes to the master itself."""
        for command in ("restart", "seal", "clear_lockout"):
            reason = self.invalid(self.sublock, command)
            self.assertIn(f"{command} can't be given to {self.sublock}, a sub-lock of master", reason)
            self.assertIn(f"{self.master.device}; expected unlock or sublock_unlock", reason)

    def test_parameters(self) -> None:
        """Parameters that are unknown here, or that name another sub-lock."""
        reason = self.invalid(self.sublock, "unlock", password="888888")
        self.assertIn(
            "params: parameter 1 (a name of 8 characters) has no meaning here; expected id, minutes", reason
        )
        self.assertIn("params.minutes", self.invalid(self.sublock, "unlock", minutes=6))
        reason = self.invalid(self.sublock, "sublock_unlock", id=self.other)
        self.assertIn("params.id", reason)
        self.assertIn(f"expected {self.sublock}, to which the command is addressed", reason)

    def test_a_sensor(self) -> None:
        """A JT126 opens nothing, addressed directly or by its master."""
        self.master.hear(self.other, kind=1, rest=SENSOR)
        for reason in (
            self.invalid(self.other, "unlock"),
            self.invalid(self.master.device, "sublock_unlock", id=self.other),
        ):
            self.assertIn(f"{self.other} is a JT126 sensor of master {self.master.device}", reason)

    def test_never_seen(self) -> None:
        """The master of a sub-lock that has not reported is unknown."""
        self.assertIn("no sub-lock of this id has reported yet", self.invalid(self.other, "unlock"))

    def test_taken_back(self) -> None:
        """A command for a sub-lock can be cancelled under its original name."""
        self.leave()
        command = self.client.command(self.sublock, "unlock")
        self.client.wait(command, "waiting", "queued")
        cancel = self.client.command(self.sublock, "cancel", {"id": command})
        self.client.wait(cancel, "done")
        self.client.wait(command, "cancelled")
        self.master.connect(self.daemon)
        self.master.beat()
        self.assertEqual(self.master.commands, [])


class CrashTests(SynchronousTestCase):
    """Crashes of a daemon of the test's own."""

    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.end)
        self.daemon = Daemon(
            "--gateway", "gw1", "--ask", "none", redis=self.server.gateway_url, udp=False
        ).start()
        self.addCleanup(self.daemon.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.master = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(self.master.close)
        self.sublock, self.other = new_sublock(), new_sublock()
        for one in (self.sublock, self.other):
            self.master.hear(one)

    def crash(self) -> None:
        """Kill and restart the daemon and reconnect the master."""
        self.daemon.kill()
        self.daemon.start()

    def test_uncertain_after_a_crash_then_confirmed(self) -> None:
        """A command written before the crash: uncertain, not repeated, confirmed by its own sub-lock."""
        for event, kind in ((LORA, "lock"), (0, "status")):
            command = self.client.command(self.sublock, "unlock")
            self.master.next_sublock_unlock()
            self.client.wait(command, "sent")
            self.crash()
            self.client.wait(command, "uncertain")
            self.master.connect(self.daemon)
            self.master.hear(self.other, LORA, OPEN)
            self.assertEqual(self.client.state(command), "uncertain")
            self.master.hear(self.sublock, event, OPEN)
            record = self.client.wait(command, "confirmed")
            self.assertEqual(json.loads(record["evidence"])["kind"], kind)
            check_edges(self.client.states(command))
            self.master.hear(self.sublock, status=0)
        self.assertEqual(len(self.master.commands), 2)

    def test_acknowledged_over_a_crash(self) -> None:
        """A command accepted before the crash is confirmed after it."""
        command = self.client.command(self.sublock, "unlock")
        self.master.take(self.master.next_sublock_unlock()[0])
        self.client.wait(command, "acknowledged")
        self.crash()
        self.master.connect(self.daemon)
        self.master.beat()
        self.assertEqual(self.client.state(command), "acknowledged")
        self.master.hear(self.sublock, LORA, OPEN)
        self.client.wait(command, "confirmed")
        self.assertEqual(len(self.master.commands), 1)
