"""jt709c history: the timeline, what is filtered, and what is said when there is nothing to show."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.text import Text
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli import time_format
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.timeline import Timeline
from tests.support import ValkeyServer
from tests.support.acl import COMMANDER, READER, password_of, rules_of
from tests.support.commands import PASSWORD, CommandClient, FakeLock, card_event, new_device, new_id
from tests.support.daemon import Daemon

COMMAND = [sys.executable, "-m", "jt709c_gateway.cli.main", "history"]
DEVICE = "794308010679"
TIMEOUT = 60


def event(kind: str, second: float, **data: Any) -> dict[str, Any]:
    stored = data.pop("stored", False)
    at = f"2026-11-22T10:15:{second:09.6f}Z"
    return {"kind": kind, "device": DEVICE, "received_at": at, "stored": stored, "data": data}


def step(second: float, state: str, command: str = "7f3c", **data: Any) -> dict[str, Any]:
    fields = {"id": command, "command": "unlock", "state": state, "created_at": "2026-11-22T10:15:00Z"}
    return event("command", second, **{**fields, **data})


class TimelineTests(SynchronousTestCase):
    def lines(self, *events: dict[str, Any]) -> list[str]:
        timeline = Timeline()
        made = [timeline.line(one) for one in events]
        self.assertTrue(all(isinstance(one, Text) for one in made))
        return [one.plain for one in made]

    def test_one_command(self) -> None:
        """Who asked for what and when; below it each step, counted from then, and what the lock did."""
        first, *steps = self.lines(
            step(0.5, "queued", issued_by="night shift", key="k1", params={"password": "******"}),
            step(1.25, "sent"),
            step(2, "acknowledged", answer={"arguments": ["1"]}),
            event("lock", 3, action="unlocked", method="password", command_id="7f3c"),
            step(3, "confirmed", answer={"arguments": ["1"]}),
        )
        self.assertEqual(
            first,
            "2026-11-22 10:15:00.000Z  unlock  asked for by night shift, signed with key k1"
            "  command 7f3c  password=******",
        )
        self.assertEqual(
            steps,
            [
                "2026-11-22 10:15:01.250Z        +1.250 s  sent",
                "2026-11-22 10:15:02.000Z        +2.000 s  acknowledged  lock answered 1",
                "2026-11-22 10:15:03.000Z        +3.000 s  lock          unlocked  by password",
                "2026-11-22 10:15:03.000Z        +3.000 s  confirmed",
            ],
        )

    def test_between(self) -> None:
        """What the lock does by itself stands at the margin; of another command it is said which it is."""
        lines = self.lines(
            step(0, "queued", "a"),
            step(1, "queued", "b"),
            event("alarm", 2, name="rope_cut", active=True),
            step(3, "sent", "a"),
            step(4, "sent", "b"),
            step(5, "done", "b"),
        )
        self.assertEqual(lines[2][26:], "alarm         rope_cut  raised")
        self.assertEqual(lines[3][26:], "      +3.000 s  command a  sent")
        self.assertEqual(lines[4][26:], "      +4.000 s  command b  sent")
        self.assertEqual(lines[5][26:], "      +5.000 s  done")

    def test_what_begins_in_the_middle(self) -> None:
        """A command whose beginning has been cut off is introduced with the first that is left of it."""
        (line,) = self.lines(step(9, "rejected", reason="wrong password"))
        self.assertIn("unlock  asked for by an unnamed sender", line)
        self.assertTrue(line.endswith("command 7f3c  rejected      wrong password"), line)

    def test_late_and_stored(self) -> None:
        """Where the lock's own time is another, it is said."""
        (line,) = self.lines(
            event("lock", 5, action="locked", method="automatic", time="2026-11-22T09:00:00Z", stored=True)
        )
        self.assertTrue(line.endswith("by its clock 2026-11-22 09:00:00.000Z  (stored)"), line)

    def test_strange_events(self) -> None:
        """Nothing that stands there steers a terminal or ends the command."""
        lines = self.lines(
            {},
            {"kind": "command", "data": None, "received_at": 5},
            {"kind": "lock", "data": {"action": "\x1b[2J", "command_id": ["x"]}, "received_at": "soon"},
            step(1, "\x1b[2J", "\x1b[2J", issued_by="\x07", reason="\x1b", params="x", answer=5),
            event("command", 2, id=["a"], state={}),
        )
        self.assertEqual(len(lines), 5)
        self.assertNotIn("\x1b", "".join(lines))
        self.assertNotIn("\x07", "".join(lines))


@contextmanager
def local_zone(name: str) -> Iterator[None]:
    """Run a block in a time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = name
    time.tzset()
    try:
        yield
    finally:
        os.environ.pop("TZ")
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


class ZoneTests(SynchronousTestCase):
    def test_times_have_their_zone(self) -> None:
        """In UTC or in the local zone, also where that is a half hour off, and on a day of another date."""
        moment = time_format.parse("2026-11-22T23:15:00.123456Z")
        with local_zone("IST-5:30"):
            for local, short, long in (
                (False, "23:15:00Z", "2026-11-22 23:15:00.123Z"),
                (True, "04:45:00+05:30", "2026-11-23 04:45:00.123+05:30"),
            ):
                self.assertEqual(time_format.time_of_day(moment, local), short)
                self.assertEqual(time_format.date_and_time(moment, local, milliseconds=True), long)
            line = Timeline(True).line(event("lock", 0, action="locked")).plain
            self.assertTrue(line.startswith("2026-11-22 15:45:00.000+05:30  lock"), line)


class SinceTests(SynchronousTestCase):
    def test_durations_and_times(self) -> None:
        now = time.time()
        for text, seconds in (("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129600)):
            since = time_format.read_since(text)
            assert since is not None
            self.assertLess(abs(now - seconds - since), 5)
        for text in ("2026-11-22T10:15", "2026-11-22 10:15:00Z", "2026-11-22T11:15+01:00"):
            self.assertEqual(time_format.read_since(text), 1795342500.0)
        self.assertIsNone(time_format.read_since(None))

    def test_times_without_a_zone_are_local_where_that_is_asked_for(self) -> None:
        with local_zone("CET-1"):
            self.assertEqual(time_format.read_since("2026-11-22T11:15", True), 1795342500.0)
            self.assertEqual(time_format.read_since("2026-11-22 10:15:00Z", True), 1795342500.0)

    def test_mistakes(self) -> None:
        for text in ("", "2", "2y", "yesterday", "-2h", "2026-13-01"):
            error = self.assertRaises(UserError, time_format.read_since, text)
            self.assertIn("expected a duration such as 90s", error.format_message())


class HistoryTests(SynchronousTestCase):
    """Against a real gateway, after a real command."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = ValkeyServer().start()
        cls.daemon = Daemon(redis=cls.server.url, udp=False).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        cls.server.discard()

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(self.lock.close)
        self.device = self.lock.device

    def history(self, *arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "JT709C_REDIS": url or self.server.url},
        )

    def lines(self, *arguments: str) -> list[str]:
        result = self.history(self.device, *arguments)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.splitlines()

    def live(self) -> str:
        """An unlock command from its beginning to its end, and somebody with a card; the command's id."""
        command = self.client.unlock(self.device, issued_by="night shift")
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.lock.report(card_event())
        return command

    def test_a_life(self) -> None:
        """Asked, written, answered, moved, confirmed, and what the lock did afterwards, in that order."""
        command = self.live()
        heading, *lines = self.lines()
        self.assertEqual(heading, f"history of {self.device}")
        self.assertIn(f"unlock  asked for by night shift  command {command}  password=******", lines[0])
        self.assertNotIn(PASSWORD, "\n".join(lines))
        self.assertEqual(len(lines), 6)
        for line, said in zip(
            lines[1:5],
            ("sent", "acknowledged  lock answered 1", "lock +unlocked  by password.*", "confirmed"),
            strict=True,
        ):
            self.assertRegex(line, rf"^[^ ]+ [^ ]+ +\+[0-9.]+ s  {said}$")
        self.assertRegex(lines[5], "^[^ ]+ [^ ]+  lock +unlocked  by card")

    def test_json_kinds_and_limits(self) -> None:
        """The events as they were published, oldest first."""
        command = self.live()
        found = [json.loads(line) for line in self.lines("--json")]
        published = self.client.events("command", self.device) + self.client.events("lock", self.device)
        self.assertEqual({one["id"]: one for one in found}, {one["id"]: one for one in published})
        times = [one["received_at"] for one in found if one["kind"] == "command"]
        self.assertEqual(times, sorted(times))
        locks = [json.loads(line) for line in self.lines("--json", "--kind", "lock")]
        self.assertEqual([one["data"]["command_id"] for one in locks], [command, None])
        result = self.history(self.device, "--json", "--limit", "2")
        self.assertEqual([json.loads(line) for line in result.stdout.splitlines()], found[-2:])
        self.assertIn("there are older entries; these are the newest 2", result.stderr)
        self.assertEqual(len(self.lines("--json", "--limit", str(len(found)))), len(found))
        self.assertEqual(len(self.lines("--since", "1h")), len(found) + 1)
        result = self.history(self.device, "--since", "2100-01-01")
        self.assertEqual((result.returncode, result.stdout), (0, ""))
        self.assertIn("the history of", result.stderr)

    def test_other_names(self) -> None:
        """An IMEI, leading zeros, and the sub-lock of a master."""
        self.live()
        expected = self.lines()
        redis = self.client.redis
        redis.call("HSET", self.client.key("imei"), "867284063211238", self.device)
        redis.call("HSET", self.client.key("peripheral", "04A1B2C3D4"), "device", self.device)
        for name in ("867284063211238", f"00{self.device}", "04a1b2c3d4"):
            result = self.history(name)
            self.assertEqual(result.stdout.splitlines(), expected)

    def test_invalid_command_by_imei(self) -> None:
        """What was wrong with a command stands in the history of the lock that it names, with who asked."""
        redis = self.client.redis
        redis.call("HSET", self.client.key("imei"), "867284063211239", self.device)
        command = self.client.command(
            "867284063211239", "unlock", {"x": 1}, issued_by="night shift", id=new_id()
        )
        self.client.wait(command, "invalid")
        line = self.lines()[-1]
        self.assertIn("asked for by night shift", line)
        self.assertRegex(line, "invalid +.*expected")

    def test_pages(self) -> None:
        """A long history is read to its end."""
        key = self.client.key("history", self.device)
        for number in range(1203):
            body = json.dumps(event("alarm", 1, name=f"bit_{number}", active=True))
            self.client.redis.call("XADD", key, "*", "kind", "alarm", "device", self.device, "event", body)
        found = [json.loads(line) for line in self.lines("--json", "--limit", "5000", "--kind", "alarm")]
        self.assertEqual([one["data"]["name"] for one in found], [f"bit_{number}" for number in range(1203)])

    def test_broken_entry(self) -> None:
        """What is no event is noted and passed over."""
        key = self.client.key("history", self.device)
        self.client.redis.call("XADD", key, "*", "kind", "lock", "event", b"\xff{")
        self.live()
        result = self.history(self.device)
        self.assertEqual(result.returncode, 0)
        self.assertIn("is not an event", result.stderr)
        self.assertIn("confirmed", result.stdout)

    def assert_mistake(self, result: subprocess.CompletedProcess[str], word: str) -> None:
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
        self.assertIn(word, result.stderr)

    def test_unknown_device(self) -> None:
        for name in ("5", "04A1B2C3D5"):
            self.assert_mistake(self.history(name), f"{name}: such a device is unknown")
        self.assert_mistake(self.history("lock 7"), "no lock has this name or plate")

    def test_known_device_without_history(self) -> None:
        result = self.history(self.device)
        self.assertEqual((result.returncode, result.stdout), (0, ""))
        self.assertIn(f"the history of {self.device}", result.stderr)

    def test_no_redis(self) -> None:
        result = self.history(self.device, url="redis://127.0.0.1:9")
        self.assert_mistake(result, "cannot connect to Redis")

    def test_rights(self) -> None:
        """Reader and commander of etc/redis-acl.conf may read a history; others are told who may."""
        call = self.client.redis.call
        self.live()
        expected = self.lines()
        for user in (READER, COMMANDER):
            call("ACL", "SETUSER", user, *rules_of(user))
            url = self.server.url.replace("//", f"//{user}:{password_of(user)}@")
            self.assertEqual(self.history(self.device, url=url).stdout.splitlines(), expected)
            self.assert_mistake(self.history("5", url=url), "such a device is unknown")
        call("ACL", "SETUSER", "nobody", "on", ">pw", "resetkeys", "~x", "-@all", "+@connection", "+hget")
        result = self.history(self.device, url=self.server.url.replace("//", "//nobody:pw@"))
        self.assert_mistake(result, "this Redis user may not read a history")
        self.assertIn("jt709c-reader in etc/redis-acl.conf", result.stderr)
