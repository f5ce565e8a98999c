"""Commands that can't be carried out as they are written, where outcomes go, and what must never show."""

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.acl import GuardedServer
from tests.support.commands import (
    PASSWORD,
    UNLOCKED,
    CommandCase,
    CommandClient,
    FakeLock,
    lock_event,
    new_device,
    new_id,
)
from tests.support.daemon import Daemon

#: A password that stands in nothing but the commands of these tests.
SECRET = "Z9%x7!"


class InvalidTests(CommandCase):
    """What is wrong is told: which field, and what was expected."""

    def setUp(self) -> None:
        super().setUp()
        self.client.redis.call("DEL", self.client.key("commands", "invalid"))

    def told(self) -> list[dict]:
        """What stands in the list of invalid commands, newest first."""
        return [
            json.loads(one)
            for one in self.client.redis.call("LRANGE", self.client.key("commands", "invalid"), 0, -1)
        ]

    def assert_invalid(self, entry: str | bytes, pattern: str, command: str | None = None) -> None:
        """The entry is told to be invalid, everywhere where that can be told, and without its secrets."""
        before = len(self.told())
        self.client.push(entry)
        wait_until(lambda: len(self.told()) > before)
        self.assertRegex(self.told()[0]["reason"], pattern)
        event = self.client.events("command")[-1]
        self.assertEqual(event["data"]["state"], "invalid")
        self.assertRegex(event["data"]["reason"], pattern)
        if command is not None:
            record = self.client.record(command)
            self.assertEqual(record["state"], "invalid")
            self.assertRegex(record["reason"], pattern)
        self.assertNotIn(SECRET, json.dumps(self.told()) + json.dumps(self.client.events("command")))

    def assert_command_invalid(self, pattern: str, **fields: object) -> None:
        """The same for a command with these fields changed, which has a `reply_to` as well."""
        command, name = new_id(), new_id()
        base = {"id": command, "device": self.device, "command": "unlock", "params": {"password": SECRET}}
        entry = {**base, "reply_to": name, **fields}
        self.assert_invalid(json.dumps(entry), pattern, command if entry["id"] == command else None)
        if entry["reply_to"] == name:
            outcome = self.client.reply(name)
            self.assertEqual(outcome["state"], "invalid")
            self.assertRegex(outcome["reason"], pattern)
            self.assertNotIn(SECRET, json.dumps(outcome))

    def test_no_json(self) -> None:
        """What is no JSON object is told and set aside; the next command is taken."""
        for entry in ("{", "", "[1]", "null", '"x"', b"\xff\xfe", b"{" * 3000, f'{{"id": "{SECRET}"'):
            self.assert_invalid(entry, "^entry: .*expected")
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")

    def test_too_long(self) -> None:
        """A command has a limited length."""
        self.assert_invalid(
            json.dumps({"device": "1", "params": {"x": "y" * 20000}}), "expected at most 16384"
        )

    def test_unknown_command(self) -> None:
        """A name that no profile and no catalogue has."""
        self.assert_command_invalid("^command: .*expected one of", command="open_sesame")

    def test_raw_is_off(self) -> None:
        """Without --allow-raw no bytes can be sent, to a lock that is there or away."""
        pattern = "^command: raw is switched off; expected a gateway run with --allow-raw"
        self.assert_command_invalid(pattern, command="raw", params={"hex": "7e7e"})
        lock = FakeLock(self.device).connect(self.daemon)
        self.addCleanup(lock.close)
        self.assert_command_invalid(pattern, command="raw", params={"sentence": "(1)"})
        lock.beat()
        self.assertEqual(lock.commands, [])

    def test_bad_parameters(self) -> None:
        """No comma, bracket or control byte leaves its field; and the password isn't quoted."""
        for bad in (
            "12,456",
            "12(456",
            "12)456",
            "12\r456",
            "12\x00456",
            "12\u202e456",
            SECRET + "7",
            "",
            888888,
        ):
            self.assert_command_invalid("^(params.)?password: .*expected", params={"password": bad})
        two = {"password": SECRET, "sesame": 1}
        self.assert_command_invalid("parameter 2 .a name of 6 characters", params=two)

    def test_bad_parameters_of_a_known_lock(self) -> None:
        """The same for a lock that is there: nothing is written to it."""
        lock = FakeLock(self.device).connect(self.daemon)
        self.addCleanup(lock.close)
        self.assert_command_invalid("^(params.)?password: .*expected", params={"password": "1)(2,3"})
        self.assert_command_invalid(
            "^(params.)?what: .*expected", command="query", params={"what": "weather"}
        )
        lock.beat()
        self.assertEqual(lock.commands, [])

    def test_bad_fields(self) -> None:
        """Each field is checked, and an unknown one named."""
        for pattern, fields in (
            ("unknown field 6 .a name of 6 characters", {"sesame": 1}),
            ("^id: .*expected 1 to 64", {"id": "a b"}),
            ("^id: .*expected 1 to 64", {"id": "x" * 65}),
            ("^id: .*expected 1 to 64", {"id": "a:b"}),
            ("^device: .*expected a device id", {"device": "lock 7"}),
            ("^device: .*expected a device id", {"device": 794308010679}),
            ("^ttl: .*expected seconds above 0", {"ttl": 0}),
            ("^ttl: .*7 days", {"ttl": 604801}),
            ("^ttl: .*7 days", {"ttl": 10**400}),
            ("^timeout: .*expected seconds", {"timeout": 0.5}),
            ("^params: ", {"params": SECRET}),
            ("^issued_by: ", {"issued_by": "a\nb"}),
        ):
            self.assert_command_invalid(pattern, **fields)

    def test_reply_to_names_no_other_key(self) -> None:
        """A `reply_to` that would name a key of another kind is refused, and nothing is pushed."""
        keys = set(self.client.redis.call("KEYS", "*"))
        for bad in ("a:b", "../commands", "", "x" * 65, "a b", "*", "a\x00", "{x}"):
            self.assert_command_invalid("^reply_to: .*expected 1 to 64", reply_to=bad, id=new_id())
        new = set(self.client.redis.call("KEYS", "*")) - keys
        self.assertTrue(
            all(re.search(rb":command:|:history:|:commands:(invalid|recent)", key) for key in new), new
        )

    def test_id_that_is_under_way(self) -> None:
        """An invalid command with the id of another changes nothing about that one, and is told."""
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")
        self.client.unlock(self.device, "(", id=command, reply_to=(name := new_id()))
        self.assertEqual(self.client.reply(name)["state"], "invalid")
        self.assertEqual(self.client.state(command), "waiting")
        self.assertEqual(self.client.states(command), ["queued", "waiting"])

    def test_id_of_an_invalid_command(self) -> None:
        """The id of a command that was invalid is known too: the next command of that id is told so."""
        command = self.client.unlock(self.device, "(")
        self.client.wait(command, "invalid")
        self.client.unlock(self.device, id=command, reply_to=(name := new_id()))
        outcome = self.client.reply(name)
        self.assertEqual((outcome["state"], outcome["id"]), ("invalid", command))
        self.assertEqual(self.client.states(command), ["invalid", "invalid"])

    def test_invalid_list_is_capped(self) -> None:
        """The list of what could not be read keeps the newest thousand."""
        entries = [f"bad {number}" for number in range(1100)]
        self.client.redis.call("RPUSH", self.client.key("commands"), *entries)
        wait_until(
            lambda: (
                len(self.told()) == 1000 and not self.client.redis.call("LLEN", self.client.key("commands"))
            )
        )
        self.client.wait(self.client.unlock(self.device), "waiting")
        self.assertEqual(len(self.told()), 1000)

    def test_poisoned_record(self) -> None:
        """A command that Redis can't take in is set aside, with a reason; the next one is taken."""
        self.client.redis.call("SET", self.client.key("commands", "waiting", self.device), "in the way")
        entry = json.dumps({"device": self.device, "command": "unlock", "params": {"password": SECRET}})
        before = len(self.told())
        self.client.push(entry)
        wait_until(lambda: len(self.told()) > before)
        self.assertIn("could not be taken in", self.told()[0]["reason"])
        self.client.wait(self.client.unlock(new_device()), "waiting")
        self.assertEqual(self.client.redis.call("KEYS", self.client.key("commands", "intake", "*")), [])

    def test_reply_list_expires(self) -> None:
        """Outcomes under a `reply_to` name are bounded in number and in time."""
        for _ in range(2):
            command = self.client.unlock(self.device, ttl=0.1, reply_to="shared")
            self.client.wait(command, "expired")
        key = self.client.key("reply", "shared")
        self.assertEqual(self.client.redis.call("LLEN", key), 2)
        self.assertTrue(0 < self.client.redis.call("TTL", key) <= 3600)
        self.client.redis.call("RPUSH", key, *["old"] * 1200)
        self.client.wait(self.client.unlock(self.device, ttl=0.1, reply_to="shared"), "expired")
        self.assertEqual(self.client.redis.call("LLEN", key), 1000)
        self.assertEqual(json.loads(self.client.redis.call("RPOP", key))["state"], "expired")


class SecretTests(SynchronousTestCase):
    """A password is in the lists that carry the command to the lock while it is on its way; nowhere else."""

    #: Where a command is allowed to be with its secrets.
    CARRIERS = re.compile(rb"^jt709c:commands($|:intake:|:waiting:|:underway:)")

    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.end)
        self.daemon = Daemon("--confirm-timeout", "1", redis=self.server.gateway_url, udp=False).start()
        self.addCleanup(self.daemon.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)

    def found(self) -> list[bytes]:
        """Every key in Redis in which the password stands, in name or content."""
        call = self.client.redis.call
        readers = {
            b"string": lambda key: call("GET", key),
            b"hash": lambda key: call("HGETALL", key),
            b"list": lambda key: call("LRANGE", key, 0, -1),
            b"set": lambda key: call("SMEMBERS", key),
            b"zset": lambda key: call("ZRANGE", key, 0, -1),
            b"stream": lambda key: call("XRANGE", key, "-", "+"),
        }
        keys = call("KEYS", "*")
        needles = (SECRET, SECRET.encode().hex())
        return [
            key
            for key in keys
            if any(needle in f"{key!r}{readers[call('TYPE', key)](key)!r}" for needle in needles)
        ]

    def test_password_shows_nowhere(self) -> None:
        """Waiting, written, echoed by the lock, refused, reported by it, invalid: it shows nowhere else."""
        device = self.lock.device
        waiting = self.client.unlock(device, SECRET, reply_to="me")
        self.client.wait(waiting, "waiting")
        self.assertEqual([key for key in self.found() if not self.CARRIERS.match(key)], [])
        self.assertNotEqual(self.found(), [])
        self.lock.connect(self.daemon)
        serial = self.lock.next_unlock()
        self.client.wait(waiting, "sent")
        self.assertEqual([key for key in self.found() if not self.CARRIERS.match(key)], [])
        # A lock that sends the password back, in its answer and in its event.
        self.lock.answer(serial, "ELOCK", "1", "1", SECRET)
        self.lock.report(lock_event(password=SECRET), UNLOCKED)
        self.client.wait(waiting, "confirmed")
        wait_until(lambda: not self.client.under_way())
        refused = self.client.unlock(device, SECRET, issued_by="me")
        self.lock.answer(self.lock.next_unlock(), "ELOCK", "1", "0", SECRET)
        self.client.wait(refused, "rejected")
        strange = self.client.unlock(device, SECRET)
        self.lock.answer(self.lock.next_unlock(), "ELOCK", "1", SECRET)
        self.client.wait(strange, "uncertain")
        changed = self.client.command(device, "set_password", {"new": SECRET, "old": PASSWORD})
        self.assertIn(SECRET.encode(), self.lock.next_command())
        cancelled = self.client.unlock(device, SECRET)
        self.client.command(device, "cancel", {"id": cancelled})
        self.client.wait(cancelled, "cancelled")
        for params in ({"password": SECRET, "x": 1}, {"password": SECRET + ","}):
            self.client.wait(self.client.command(device, "unlock", params), "invalid")
        nobody = self.client.unlock(new_device(), SECRET, ttl=0.2)
        self.client.wait(nobody, "expired")
        self.lock.close()
        self.client.wait(changed, "timed_out")
        self.assertEqual(self.found(), [])
        outcome = self.client.reply("me")
        self.assertNotIn(SECRET, json.dumps(outcome))
        self.assertNotIn(SECRET, self.daemon.get("/metrics")[1])
        self.daemon.stop()
        self.assertNotIn(SECRET, self.daemon.log())
        self.assertEqual(self.found(), [])
