"""Commands for locks that are away, that are taken back, that are too many, or that must not be sent."""

import json

from tests.support import wait_until
from tests.support.commands import CommandCase, check_edges, new_device, new_id


class WaitingTests(CommandCase):
    """Queued, waiting, and sent when the lock comes; or not."""

    def waiting(self, device: str) -> int:
        """How many commands wait in Redis for a lock."""
        return self.client.redis.call("LLEN", self.client.key("commands", "waiting", device))

    def open_with(self, command: str) -> None:
        """Play the lock for one unlock command to its end."""
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")

    def test_sent_when_it_comes(self) -> None:
        """Commands for an absent lock wait and are sent in their order when it comes, one at a time."""
        commands = [self.client.unlock(self.device) for _ in range(3)]
        for command in commands:
            self.client.wait(command, "waiting")
        self.lock.connect(self.daemon)
        for number, command in enumerate(commands):
            self.lock.beat()
            self.assertEqual(
                [self.client.state(one) for one in commands[number + 1 :]], ["waiting"] * (2 - number)
            )
            self.open_with(command)
            check_edges(self.client.states(command))
        self.assertEqual(self.client.states(commands[2])[:3], ["queued", "waiting", "sent"])

    def test_sentence_first(self) -> None:
        """A lock whose dialect is not known gets its commands when it has shown it."""
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")
        self.lock.connect(self.daemon, known=False)
        self.lock.answer(1, "BASE", "2", "TIME")
        self.assertIn(b"BASE,2,", self.lock.next_command())
        self.lock.report()
        self.open_with(command)
        self.assertEqual(self.client.states(command)[:3], ["queued", "waiting", "sent"])

    def test_expired(self) -> None:
        """A ttl that ends while the lock is away, or was never seen, ends the command; it is never sent."""
        away = self.client.unlock(self.device, ttl=0.3)
        never = self.client.unlock(new_device(), ttl=0.3)
        for command in (away, never):
            self.client.wait(command, "expired")
            self.assertEqual(self.client.states(command), ["queued", "waiting", "expired"])
        self.lock.connect(self.daemon)
        self.lock.beat()
        self.assertEqual(self.lock.commands, [])
        self.assertEqual(self.waiting(self.device), 0)

    def test_expired_behind_another(self) -> None:
        """A ttl that ends while another command is under way ends the command too."""
        self.lock.connect(self.daemon)
        self.client.unlock(self.device)
        late = self.client.unlock(self.device, ttl=0.3)
        self.lock.next_unlock()
        self.client.wait(late, "expired")

    def test_cancel(self) -> None:
        """A command that waits can be taken back; it is not sent then."""
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")
        cancel = self.client.command(self.device, "cancel", {"id": command}, reply_to=(name := new_id()))
        self.assertEqual(self.client.reply(name)["state"], "done")
        self.assertEqual(self.client.wait(command, "cancelled")["reason"], "taken back")
        self.assertEqual(self.client.states(cancel), ["queued", "done"])
        self.lock.connect(self.daemon)
        self.lock.beat()
        self.assertEqual(self.lock.commands, [])
        self.assertNotIn(command, self.client.under_way())

    def test_cancel_too_late(self) -> None:
        """A command that has been sent can't be taken back; the reason says where it stands."""
        self.lock.connect(self.daemon)
        command = self.client.unlock(self.device)
        serial = self.lock.next_unlock()
        self.client.wait(command, "sent")
        cancel = self.client.command(self.device, "cancel", {"id": command})
        self.assertEqual(self.client.wait(cancel, "rejected")["reason"], f"command {command} is sent")
        self.lock.say_yes(serial)
        self.client.wait(command, "acknowledged")

    def test_cancel_unknown(self) -> None:
        """A command that nobody knows can't be taken back."""
        cancel = self.client.command(self.device, "cancel", {"id": "nothing"})
        self.assertEqual(self.client.wait(cancel, "rejected")["reason"], "no command of this id is known")

    def test_lockout(self) -> None:
        """After two wrong passwords in a row no unlock is sent until clear_lockout; a success starts anew."""
        self.lock.connect(self.daemon)
        commands = [self.client.unlock(self.device) for _ in range(4)]
        for command in commands[:2]:
            self.lock.refuse(self.lock.next_unlock())
            self.client.wait(command, "rejected")
        for command in commands[2:]:
            self.assertIn("clear_lockout", self.client.wait(command, "rejected")["reason"])
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 2)
        metrics = self.daemon.metrics()
        counted = [metrics[f"jt709c_{name}_total"] for name in ("wrong_passwords", "locked_out_commands")]
        self.assertEqual(counted, [2, 2])
        cleared = self.client.command(self.device, "clear_lockout")
        self.client.wait(cleared, "done")
        first = self.client.unlock(self.device)
        self.lock.refuse(self.lock.next_unlock())
        self.client.wait(first, "rejected")
        self.open_with(self.client.unlock(self.device))
        for _ in range(2):
            command = self.client.unlock(self.device)
            self.lock.refuse(self.lock.next_unlock())
            self.client.wait(command, "rejected")
        self.assertIn("clear_lockout", self.client.wait_end(self.client.unlock(self.device))["reason"])

    def test_lockout_over_restart(self) -> None:
        """Wrong passwords are counted across restarts and connections; other commands still go out."""
        for _ in range(2):
            self.lock.connect(self.daemon)
            command = self.client.unlock(self.device)
            self.lock.refuse(self.lock.next_unlock())
            self.client.wait(command, "rejected")
            self.daemon.stop()
            self.daemon.start()
        self.lock.connect(self.daemon)
        self.assertIn("clear_lockout", self.client.wait_end(self.client.unlock(self.device))["reason"])
        self.client.command(self.device, "query", {"what": "firmware"})
        self.assertIn(b"BASE,1", self.lock.next_command())

    def test_by_imei(self) -> None:
        """A device may be named by its IMEI, whether it is there or away."""
        imei = "8678" + new_device()[1:]
        self.client.redis.call("HSET", self.client.key("imei"), imei, self.device)
        waiting = self.client.unlock(imei)
        self.assertEqual(self.client.wait(waiting, "waiting")["device"], self.device)
        self.lock.connect(self.daemon)
        self.open_with(waiting)
        self.open_with(self.client.unlock(imei))

    def test_known_id(self) -> None:
        """A known id is not carried out again; its present state is told, also to the new reply_to."""
        self.lock.connect(self.daemon)
        command = self.client.unlock(self.device)
        self.open_with(command)
        self.client.unlock(self.device, id=command, reply_to=(name := new_id()))
        self.assertEqual(self.client.reply(name)["state"], "confirmed")
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), 1)
        self.assertEqual(self.client.states(command)[-2:], ["confirmed", "confirmed"])

    def test_known_id_under_way(self) -> None:
        """An id that is under way is reported as it stands; its outcome goes to whoever gave the command."""
        self.lock.connect(self.daemon)
        command = self.client.unlock(self.device, reply_to=(first := new_id()))
        serial = self.lock.next_unlock()
        self.client.wait(command, "sent")
        self.client.unlock(self.device, id=command, reply_to=new_id())
        wait_until(lambda: self.client.states(command) == ["queued", "sent", "sent"])
        self.lock.say_yes(serial)
        self.lock.open()
        self.assertEqual(self.client.reply(first)["state"], "confirmed")

    def test_flood(self) -> None:
        """5,000 commands for absent locks wait; the 101st of one lock fails with a reason."""
        crowded = new_device()
        entries = [{"id": new_id(), "device": crowded, "command": "unlock", "ttl": 600} for _ in range(110)]
        devices = [new_device() for _ in range(4890)]
        entries += [{"id": new_id(), "device": one, "command": "unlock", "ttl": 600} for one in devices]
        for entry in entries:
            entry["params"] = {"password": "888888"}
        for start in range(0, 5000, 500):
            chunk = [json.dumps(entry) for entry in entries[start : start + 500]]
            self.client.redis.call("RPUSH", self.client.key("commands"), *chunk)
        ids = [entry["id"] for entry in entries]
        wait_until(lambda: self.client.state(ids[-1]) == "waiting")
        self.assertEqual([self.client.state(one) for one in ids[:100]], ["waiting"] * 100)
        for one in ids[100:110]:
            record = self.client.record(one)
            self.assertEqual(
                (record["state"], record["reason"]), ("failed", "100 commands wait for this lock already")
            )
        self.assertEqual(self.waiting(crowded), 100)
        self.assertTrue(all(self.waiting(one) == 1 for one in devices[::100]))
        self.assertEqual(self.client.redis.call("LLEN", self.client.key("commands")), 0)
        due = self.client.redis.call("ZRANGE", self.client.key("commands", "deadlines"), 0, -1)
        self.assertEqual(len(set(ids) & {one.decode() for one in due}), 4990)
        self.assertFalse(set(ids) & set(self.client.under_way()))
        # The daemon is as quick as before.
        self.lock.connect(self.daemon)
        self.open_with(self.client.unlock(self.device))
