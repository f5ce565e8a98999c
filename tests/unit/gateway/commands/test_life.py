"""The life of an unlock command, from the queue to the evidence: the real daemon and raw sockets."""

import json
import time

from tests.support.commands import UNLOCKED, CommandCase, FakeLock, card_event, lock_event, new_device


class UnlockCase(CommandCase):
    """A connected lock that gets unlock commands."""

    options = ("--confirm-timeout", "1.5")

    def setUp(self) -> None:
        super().setUp()
        self.lock.connect(self.daemon)

    def sent(self, **more: object) -> tuple[str, int]:
        """An unlock command that was written: its id and serial."""
        command = self.client.unlock(self.device, **more)
        return command, self.lock.next_unlock()


class WritingTests(UnlockCase):
    """What is written, and what is told of its source."""

    def test_exact_bytes(self) -> None:
        """What is written is the sentence of the profile, with the device's id and the serial."""
        self.client.unlock(self.device, "888888")
        raw = self.lock.next_command()
        self.assertEqual(raw, f"({self.device},1,001,ELOCK,1,1,888888)".encode())

    def test_seal(self) -> None:
        """`lock` is another name for `seal`: written once, confirmed when the lock closes."""
        self.lock.report(status=UNLOCKED)
        command = self.client.command(self.device, "lock")
        serial = 1
        self.assertEqual(self.lock.next_command(), f"({self.device},1,001,ELOCK,4,1)".encode())
        self.lock.answer(serial, "ELOCK", "4", "1")
        self.client.wait(command, "acknowledged")
        self.lock.report()
        self.client.wait(command, "confirmed")
        self.assertEqual(self.client.record(command)["command"], "seal")

    def test_dynamic_password(self) -> None:
        """With `method` dynamic the password is the one that the lock reported last."""
        self.lock.send(f"({self.device},1,009,ELOCK,3,529439)".encode())
        self.lock.beat()
        command = self.client.command(self.device, "unlock", {"method": "dynamic"})
        self.assertEqual(self.lock.next_command(), f"({self.device},1,001,ELOCK,6,1,529439)".encode())
        self.client.wait(command, "sent")

    def test_assumed(self) -> None:
        """Every state of a command that no public document describes says so."""
        command, serial = self.sent()
        self.lock.refuse(serial)
        self.client.wait(command, "rejected")
        told = [event["data"] for event in self.client.events("command") if event["data"]["id"] == command]
        self.assertEqual({(one["assumed"], one["provenance"]) for one in told}, {(True, "assumed")})
        self.assertEqual({one["physical"] for one in told}, {True})

    def test_standard(self) -> None:
        """Every state of a command whose form is JT/T 808's says so, in the events and in the record."""
        command = self.client.command(self.device, "locate")
        self.client.wait(command, "sent")
        told = [event["data"] for event in self.client.events("command") if event["data"]["id"] == command]
        self.assertEqual({(one["assumed"], one["provenance"]) for one in told}, {(False, "standard")})
        record = self.client.record(command)
        self.assertEqual((record["assumed"], record["provenance"]), ("false", "standard"))

    def test_serials(self) -> None:
        """Two commands in a row never have the same serial, also across a restart of the gateway."""
        serials = []
        for round_ in range(6):
            if round_ == 3:
                self.daemon.stop()
                self.daemon.start()
                self.lock.connect(self.daemon)
            command, serial = self.sent()
            serials.append(serial)
            self.lock.say_yes(serial)
            self.lock.open()
            self.client.wait(command, "confirmed")
            self.lock.report()
        self.assertEqual(len(set(serials)), 6)


class EvidenceTests(UnlockCase):
    """Which reports confirm a command, and which do not."""

    def test_confirmed_by_event(self) -> None:
        """Queued, sent, acknowledged, and confirmed by the lock event, which names the command."""
        command, serial = self.sent(issued_by="night shift")
        self.client.wait(command, "sent")
        self.lock.say_yes(serial)
        self.client.wait(command, "acknowledged")
        self.lock.open()
        record = self.client.wait(command, "confirmed")
        self.assertEqual(self.client.states(command), ["queued", "sent", "acknowledged", "confirmed"])
        (event,) = self.client.events("lock", self.device)
        self.assertEqual(event["data"]["command_id"], command)
        (reply,) = self.client.events("reply", self.device)
        self.assertEqual(reply["data"]["command_id"], command)
        self.assertEqual(record["issued_by"], "night shift")
        self.assertEqual(json.loads(record["evidence"])["kind"], "lock")
        for name in ("created_at", "sent_at", "acknowledged_at", "confirmed_at", "ended_at"):
            self.assertTrue(record[name], name)

    def test_cause_before_effect(self) -> None:
        """The events that make a command go on are published before the command's own."""
        command, serial = self.sent()
        self.lock.say_yes(serial)
        self.lock.open()
        self.client.wait(command, "confirmed")
        flat = self.client.redis.call("XRANGE", self.client.key("events"), "-", "+")
        ours = [json.loads(fields[5]) for _, fields in flat if fields[3].decode() == self.device]
        told = [
            event["data"].get("state", event["kind"]) if event["kind"] == "command" else event["kind"]
            for event in ours
            if event["kind"] in ("command", "reply", "lock")
        ]
        self.assertEqual(told, ["queued", "sent", "reply", "acknowledged", "lock", "confirmed"])

    def test_confirmed_by_state(self) -> None:
        """A lock state that becomes unlocked confirms as well."""
        command, serial = self.sent()
        self.lock.say_yes(serial)
        self.lock.report(status=UNLOCKED)
        record = self.client.wait(command, "confirmed")
        self.assertEqual(json.loads(record["evidence"])["kind"], "status")

    def test_confirmed_without_answer(self) -> None:
        """A lock that moves before it answers has confirmed; its late answer changes nothing."""
        command, serial = self.sent()
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.lock.say_yes(serial)
        self.lock.beat()
        self.assertEqual(self.client.states(command), ["queued", "sent", "confirmed"])

    def test_unconfirmed_then_confirmed(self) -> None:
        """A yes without evidence ends as unconfirmed; evidence that comes later still confirms."""
        command, serial = self.sent()
        self.lock.say_yes(serial)
        record = self.client.wait(command, "unconfirmed")
        self.assertIn("no evidence within 1.5 s", record["reason"])
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.assertEqual(
            self.client.states(command), ["queued", "sent", "acknowledged", "unconfirmed", "confirmed"]
        )

    def test_uncertain_then_confirmed(self) -> None:
        """Evidence that comes after the connection was lost, with the first message, confirms."""
        command, _ = self.sent()
        self.client.wait(command, "sent")
        self.lock.connect(self.daemon, known=False)
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.assertEqual(self.client.states(command), ["queued", "sent", "uncertain", "confirmed"])

    def test_card_is_no_evidence(self) -> None:
        """An opening with an RFID card confirms nothing, though the lock's state changes with it."""
        command, serial = self.sent()
        self.lock.say_yes(serial)
        self.lock.report(card_event(), UNLOCKED)
        self.assertEqual(self.client.wait_end(command)["state"], "unconfirmed")
        (event,) = self.client.events("lock", self.device)
        self.assertIsNone(event["data"]["command_id"])

    def test_old_report_is_no_evidence(self) -> None:
        """A stored report of an opening before the command confirms nothing."""
        command, serial = self.sent()
        self.lock.say_yes(serial)
        self.client.wait(command, "acknowledged")
        body = self.lock.location(lock_event(), UNLOCKED, at=time.time() - 600)
        item = body[13:-2]
        stored = b"\x00\x01\x01" + len(item).to_bytes(2, "big") + item
        self.lock.send(self.lock.frame(0x0704, stored))
        self.lock.report(lock_event(), UNLOCKED, at=time.time() - 600)
        self.assertEqual(self.client.wait_end(command)["state"], "unconfirmed")

    def test_confirmed_after_restart(self) -> None:
        """Evidence confirms uncertain and unconfirmed commands also after a restart, by event and by
        state."""
        unconfirmed, serial = self.sent()
        self.lock.say_yes(serial)
        self.client.wait(unconfirmed, "unconfirmed")
        other = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(other.close)
        uncertain = self.client.unlock(other.device)
        other.next_unlock()
        self.daemon.kill()
        self.daemon.start()
        self.client.wait(uncertain, "uncertain")
        self.lock.connect(self.daemon, known=False)
        self.lock.open()
        other.connect(self.daemon, known=False)
        other.report(status=UNLOCKED)
        self.client.wait(unconfirmed, "confirmed")
        self.client.wait(uncertain, "confirmed")

    def test_acknowledged_over_restart(self) -> None:
        """A command that was acknowledged before a crash is still confirmed, or unconfirmed, after it."""
        command, serial = self.sent()
        self.lock.say_yes(serial)
        self.client.wait(command, "acknowledged")
        self.daemon.kill()
        self.daemon.start()
        self.lock.connect(self.daemon, known=False)
        self.lock.open()
        self.client.wait(command, "confirmed")
        second, serial = self.sent()
        self.lock.say_yes(serial)
        self.client.wait(second, "acknowledged")
        self.daemon.kill()
        self.daemon.start()
        self.client.wait(second, "unconfirmed")


class AnswerTests(UnlockCase):
    """A lock that refuses, answers something else, late, or not at all."""

    def test_rejected(self) -> None:
        """A refusal is an outcome, with its reason; nothing is tried again."""
        command, serial = self.sent()
        self.lock.refuse(serial)
        record = self.client.wait(command, "rejected")
        self.assertEqual(record["reason"], "wrong password")
        self.assertEqual(json.loads(record["answer"])["wrong_password"], True)
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 1)

    def test_strange_answer(self) -> None:
        """An answer that the profile doesn't know leaves a physical command uncertain, never done."""
        command, serial = self.sent()
        self.lock.answer(serial, "ELOCK", "1", "7")
        record = self.client.wait(command, "uncertain")
        self.assertIn("does not know", record["reason"])

    def test_other_serial(self) -> None:
        """An answer under another serial is no answer to this command."""
        command, serial = self.sent()
        self.lock.say_yes(serial + 1)
        self.lock.beat()
        self.assertEqual(self.client.state(command), "sent")

    def test_no_answer(self) -> None:
        """Written, and no answer within the command's timeout: uncertain, and not written again."""
        command, _ = self.sent(timeout=1)
        record = self.client.wait(command, "uncertain")
        self.assertEqual(record["reason"], "no answer within 1 s")
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 1)

    def test_lost_connection(self) -> None:
        """The connection is lost after writing: uncertain at once, and not written to the next connection."""
        command, _ = self.sent()
        self.client.wait(command, "sent")
        self.lock.connect(self.daemon)
        record = self.client.wait(command, "uncertain")
        self.assertIn("connection was lost", record["reason"])
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 1)

    def test_late_answer(self) -> None:
        """An answer that comes late is kept with the command, which stays uncertain."""
        command, serial = self.sent(timeout=1)
        self.client.wait(command, "uncertain")
        self.lock.say_yes(serial)
        self.lock.beat()
        record = self.client.record(command)
        self.assertEqual(record["state"], "uncertain")
        self.assertEqual(json.loads(record["answer"])["accepted"], True)
