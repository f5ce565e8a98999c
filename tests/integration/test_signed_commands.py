"""Signed commands at a real gateway, and an attacker with all of Redis and no key (docs/commands.rst).

No attack here may write to a lock a command that was not signed for it, or write a command twice.
"""

import json
import time
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ValkeyServer, temporary_path, wait_until
from tests.support.commands import PASSWORD, CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.masters import LORA, OPEN, FakeMaster, new_master, new_sublock
from tests.support.signing import SECRET, command_text, id_of, sign

OTHER = bytes(range(64, 96))


class SignedCase(SynchronousTestCase):
    OPTIONS: tuple[str, ...] = ()

    @classmethod
    def setUpClass(cls) -> None:
        case = cls("runTest")
        cls.keys = Path(temporary_path(case))
        cls.cleanup = case.doCleanups
        cls.keys.write_text(
            f'k1 = "{SECRET.hex()}"\n[small]\nsecret = "{OTHER.hex()}"\n'
            'commands = ["unlock", "cancel"]\nprefixes = ["79430803"]\n'
        )
        cls.keys.chmod(0o600)
        cls.server = ValkeyServer().start()
        cls.daemon = Daemon(
            "--command-keys", str(cls.keys), *cls.OPTIONS, redis=cls.server.url, udp=False
        ).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        cls.server.discard()
        cls.cleanup()

    def runTest(self) -> None:
        """Unused; it lets the class be made for its files."""

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.call = self.client.redis.call
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)
        self.device = self.lock.device

    def unlock(self, device: str | None = None, **more: Any) -> bytes:
        """Return a signed unlock command."""
        return sign(command_text(device or self.device, "unlock", {"password": PASSWORD}, **more))

    def give(self, entry: bytes) -> str:
        """Push an entry and return its id."""
        self.client.push(entry)
        return id_of(entry)

    def waiting(self, device: str | None = None) -> str:
        return self.client.key("commands", "waiting", device or self.device)

    def carry_out(self, command: str) -> None:
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")

    def told(self) -> dict[str, Any]:
        """Return the newest of the invalid commands."""
        return json.loads(self.call("LINDEX", self.client.key("commands", "invalid"), 0))

    def assert_quiet(self) -> None:
        """Check that nothing but answers has been written to the lock."""
        self.lock.beat()
        self.assertEqual(self.lock.unlocks(), [])

    def assert_refused(self, command: str, why: str, pattern: str, trigger: Any = None) -> dict[str, str]:
        """Check that the command ends as invalid everywhere, and return its record."""
        metric = f'jt709c_commands_refused_total{{reason="{why}"}}'
        before = self.daemon.metrics().get(metric, 0)
        if trigger is not None:
            trigger()
        record = self.client.wait(command, "invalid")
        self.assertRegex(record["reason"], pattern)
        wait_until(lambda: self.daemon.metrics().get(metric, 0) == before + 1)
        wait_until(lambda: self.told()["id"] == command)
        self.assertRegex(self.told()["reason"], pattern)
        return record


class IntakeTests(SignedCase):
    """Signed commands in the intake list."""

    def test_signed(self) -> None:
        """A signed command is executed; its events name the key and never contain its mac."""
        self.lock.connect(self.daemon)
        entry = self.unlock(issued_by="night shift")
        command = self.give(entry)
        self.carry_out(command)
        events = [one for one in self.client.events("command", self.device) if one["data"]["id"] == command]
        self.assertEqual({one["data"]["key"] for one in events}, {"k1"})
        self.assertEqual(self.client.record(command)["key"], "k1")
        self.assertNotIn(json.loads(entry)["mac"], json.dumps(self.client.events("command")))
        self.give(entry)
        wait_until(lambda: self.client.states(command).count("confirmed") == 2)
        self.assert_quiet()

    def test_created_when_signed(self) -> None:
        """Its ttl starts at its signing."""
        signed = time.time() - 20
        command = self.give(self.unlock(issued_at=signed, ttl=10))
        self.client.wait(command, "expired")
        self.lock.connect(self.daemon)
        self.assert_quiet()

    def test_refused(self) -> None:
        """Invalid entries are reported with the mac masked; nothing is written."""
        self.lock.connect(self.daemon)
        fields = {"id": "unsigned-1", "device": self.device, "command": "unlock"}
        plain = json.dumps(fields).encode()
        self.assert_refused("unsigned-1", "unsigned", "^key: missing", lambda: self.client.push(plain))
        good = command_text(self.device, "unlock")
        now = time.time()
        for why, entry in (
            ("unknown_key", sign(good, key="k9")),
            ("wrong_mac", sign(command_text(self.device, "unlock"), secret=OTHER)),
            ("wrong_mac", sign(command_text(self.device, "seal"))[:-2].replace(b"seal", b"unlock") + b'"}'),
            ("too_old", self.unlock(issued_at=now - 301)),
            ("from_the_future", self.unlock(issued_at=now + 90)),
            ("not_permitted", sign(command_text(self.device, "restart"), "small", OTHER)),
            ("not_permitted", sign(command_text(self.device, "unlock"), "small", OTHER)),
        ):
            command = id_of(entry)
            self.assert_refused(command, why, "; expected ", lambda entry=entry: self.client.push(entry))
            self.assertEqual(self.told()["mac"], "******")
            key = "******" if why == "unknown_key" else json.loads(entry)["key"]
            self.assertEqual(self.told()["key"], key)
            self.assertEqual(self.client.record(command).get("key", ""), "")
        self.assert_quiet()
        self.assertNotIn(SECRET.hex(), self.daemon.log())

    def test_commands_that_no_lock_hears_of(self) -> None:
        """`cancel` and `clear_lockout` need a signature too, and a key with that right."""
        command = self.give(self.unlock())
        self.client.wait(command, "waiting")
        refused = self.client.command(self.device, "cancel", {"id": command})
        self.client.wait(refused, "invalid")
        self.client.wait(self.client.command(self.device, "clear_lockout"), "invalid")
        elsewhere = "794308030001"
        other = sign(command_text(elsewhere, "cancel", {"id": command}), "small", OTHER)
        self.assert_refused(
            id_of(other), "not_permitted", "for another device", lambda: self.client.push(other)
        )
        self.assertEqual(self.client.state(command), "waiting")
        done = self.give(sign(command_text(self.device, "cancel", {"id": command})))
        self.client.wait(done, "done")
        self.assertEqual(self.client.state(command), "cancelled")


class WithRedisAlone(SignedCase):
    """An attacker can write every key in Redis, and has seen every signed command."""

    def test_waiting_command_is_changed(self) -> None:
        """A changed waiting command is not written to the lock."""
        other = self.unlock()
        for number, change in enumerate(
            (
                lambda it: {**it, "order": it["order"].replace(PASSWORD, "000000")},
                lambda it: {**it, "order": it["order"].replace('"ttl": 60', '"ttl": 90')},
                lambda it: {**it, "mac": json.loads(other)["mac"]},
                lambda it: {**it, "key": "small"},
                lambda it: {**it, "key": "nobody"},
                lambda it: json.loads(it["order"].replace('"issued_at"', '"created_at"')),
                lambda it: {"id": it["id"], "device": self.device, "command": "seal", "created_at": 1e9},
                lambda it: {**it, "command": "unlock"},
                lambda it: {**it, "sublock_parameter": 5},
            )
        ):
            command = self.give(self.unlock(ttl=60))
            self.client.wait(command, "waiting")
            payload = json.loads(self.call("LINDEX", self.waiting(), 0))
            changed = change(payload)
            self.assertNotEqual(changed, payload, number)
            self.call("LSET", self.waiting(), 0, json.dumps(changed))
            self.lock.connect(self.daemon)
            record = self.client.wait(command, "invalid")
            self.assertIn("expected", record["reason"])
            self.assert_quiet()
            self.client.wait_for_none_under_way()
            self.lock.close()
            wait_until(lambda: not self.call("EXISTS", self.client.key("session", self.device)))

    def test_garbage_waits(self) -> None:
        """An invalid waiting entry is reported and removed; the command behind it is executed."""
        command = self.give(self.unlock())
        self.client.wait(command, "waiting")
        self.call("LPUSH", self.waiting(), '{"id":"made-up"}')
        self.call("LPUSH", self.waiting(), json.dumps({"id": "forged", "device": self.device}))
        self.lock.connect(self.daemon)
        self.carry_out(command)
        self.client.wait_for_none_under_way()
        self.assertGreaterEqual(
            self.daemon.metrics()['jt709c_commands_refused_total{reason="unreadable"}'], 2
        )

    def test_another_locks_command(self) -> None:
        """A command for one lock is not written to another, even from that lock's queue."""
        entry = self.unlock("794308039999")
        command = self.give(entry)
        self.client.wait(command, "waiting")
        payload = json.loads(self.call("LPOP", self.waiting("794308039999")))
        self.call("RPUSH", self.waiting(), json.dumps({**payload, "device": self.device}))
        self.call("HSET", self.client.key("command", command), "device", self.device)
        connect = lambda: self.lock.connect(self.daemon)  # noqa: E731
        self.assert_refused(command, "other_device", "signed for 794308039999, and this is", connect)
        self.assert_quiet()

    def test_renamed(self) -> None:
        """The same when its IMEI or id is forged to be this lock's."""
        self.lock.connect(self.daemon)
        for name in ("867284063211238", "794308039998"):
            self.call("HSET", self.client.key("imei"), name, self.device)
            entry = self.unlock(name)
            push = lambda entry=entry: self.client.push(entry)  # noqa: E731
            self.assert_refused(id_of(entry), "other_device", f"signed for {name}", push)
        self.assert_quiet()

    def replay(self, entry: bytes, payload: bytes) -> str:
        """Delete everything that Redis has of a command, and put it back into the queue."""
        command = id_of(entry)
        self.call(
            "DEL", self.client.key("command", command), self.client.key("commands", "unsettled", self.device)
        )
        self.call("RPUSH", self.waiting(), payload)
        self.lock.close()
        self.lock.connect(self.daemon)
        return command

    def test_replays(self) -> None:
        """A gateway writes no command twice, even when Redis has lost its record."""
        entry = self.unlock(ttl=3600)
        command = self.give(entry)
        self.client.wait(command, "waiting")
        payload = self.call("LINDEX", self.waiting(), 0)
        self.lock.connect(self.daemon)
        self.carry_out(command)
        self.assert_refused(
            command, "replayed", "written by this gateway before", lambda: self.replay(entry, payload)
        )
        self.assert_quiet()
        # The same from the start, through the intake list.
        self.call("DEL", self.client.key("command", command))
        push = lambda: self.client.push(entry)  # noqa: E731
        self.assert_refused(command, "replayed", "written by this gateway before", push)
        # And with a record that says that it was never written.
        record = self.client.record(command) | {
            "state": "queued",
            "attempts": "0",
            "writing_at": "",
            "ended_at": "",
        }
        self.call("DEL", self.client.key("command", command))
        self.call(
            "HSET", self.client.key("command", command), *(part for item in record.items() for part in item)
        )
        self.call("RPUSH", self.waiting(), payload)
        self.lock.close()
        self.lock.connect(self.daemon)
        self.client.wait(command, "invalid")
        self.assert_quiet()

    def test_another_gateway_after_the_ttl(self) -> None:
        """Another gateway does not write a command after its ttl."""
        entry = self.unlock(ttl=1)
        command = self.give(entry)
        self.client.wait(command, "waiting")
        payload = self.call("LINDEX", self.waiting(), 0)
        self.client.wait(command, "expired")
        self.call("DEL", self.client.key("command", command))
        self.call("RPUSH", self.waiting(), payload)
        self.lock.connect(self.daemon)
        self.client.wait(command, "expired")
        self.assert_quiet()

    def test_left_behind_by_nobody(self) -> None:
        """Unsigned commands under the name of a gateway that never existed are adopted, and not written."""
        real = self.give(self.unlock())
        record = self.client.wait(real, "waiting")
        self.client.wait(self.give(sign(command_text(self.device, "cancel", {"id": real}))), "done")
        forged = {"device": self.device, "command": "unlock", "created_at": time.time()}
        forged |= {"params": {"password": PASSWORD}}
        under_way = self.client.key("commands", "underway", "ghost")
        self.lock.connect(self.daemon)
        made_up = {**record, "id": "forged-2", "state": "queued"}
        self.call("HSET", self.client.key("command", "forged-2"), *chain.from_iterable(made_up.items()))
        # The second has no record.
        for name in ("forged-2", "forged-3"):
            self.call("HSET", under_way, name, json.dumps({**forged, "id": name}))
        self.call("SADD", self.client.key("gateways"), "ghost")
        self.client.wait("forged-2", "invalid", timeout=40.0)
        wait_until(lambda: not self.call("EXISTS", under_way) and not self.client.under_way())
        self.assert_quiet()


class SubLockTests(SignedCase):
    """A signed command for a sub-lock is sent by its master as another command, and stays signed."""

    OPTIONS = ("--ask", "none")

    def setUp(self) -> None:
        super().setUp()
        self.master = FakeMaster(new_master()).connect(self.daemon)
        self.addCleanup(self.master.close)
        self.sublock = new_sublock()
        self.master.hear(self.sublock)

    def test_through_its_master(self) -> None:
        """It is written to the master, and confirmed by the sub-lock's report."""
        command = self.give(sign(command_text(self.sublock, "unlock", {"minutes": 2})))
        serial, minutes, identity = self.master.next_sublock_unlock()
        self.assertEqual((minutes, identity), ("2", self.sublock))
        self.master.take(serial)
        self.master.hear(self.sublock, LORA, OPEN)
        record = self.client.wait(command, "confirmed")
        self.assertEqual((record["key"], record["peripheral"]), ("k1", self.sublock))

    def test_another_sublock(self) -> None:
        """No other sub-lock is opened, whatever Redis says of its master."""
        self.master.close()
        wait_until(lambda: not self.call("EXISTS", self.client.key("session", self.master.device)))
        key, changed = self.waiting(self.master.device), []
        for parameter in ("minutes", "nonsense", None):
            changed.append(self.give(sign(command_text(self.sublock, "unlock"))))
            self.client.wait(changed[-1], "waiting")
            payload = json.loads(self.call("RPOP", key)) | {"sublock_parameter": parameter}
            self.call("RPUSH", key, json.dumps(payload))
        intact = self.give(sign(command_text(self.sublock, "unlock")))
        self.client.wait(intact, "waiting")
        self.master.connect(self.daemon)
        serial, _, identity = self.master.next_sublock_unlock()
        self.assertEqual(identity, self.sublock)
        self.assertEqual([self.client.state(one) for one in changed], ["invalid"] * 3)
        self.master.take(serial)
        self.master.hear(self.sublock, LORA, OPEN)
        self.client.wait(intact, "confirmed")
        self.assertEqual(len(self.master.commands), 1)


class WithoutKeysTests(SynchronousTestCase):
    """A gateway without --command-keys accepts signed commands, so that producers can sign first."""

    def test_both(self) -> None:
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        daemon = Daemon(redis=server.url, udp=False).start()
        self.addCleanup(daemon.discard)
        client = CommandClient(server)
        self.addCleanup(client.close)
        lock = FakeLock(new_device()).connect(daemon)
        self.addCleanup(lock.close)
        entry = sign(command_text(lock.device, "unlock", {"password": PASSWORD}), secret=OTHER)
        client.push(entry)
        for command in (id_of(entry), client.unlock(lock.device)):
            lock.say_yes(lock.next_unlock())
            lock.open()
            client.wait(command, "confirmed")
        old = sign(command_text(lock.device, "unlock", issued_at=time.time() - 400))
        client.push(old)
        self.assertIn("signed 400 s ago", client.wait(id_of(old), "invalid")["reason"])
