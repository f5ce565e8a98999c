"""jt709c commands, show, track, malformed and forget, with no more rights than each needs."""

import csv
import json
import subprocess
import time

from tests.support.acl import COMMANDER, READER
from tests.support.cli import DEVICE, WithRedis, event, iso, put_device, run

OPERATOR = "jt709c-operator"
LONG_ID = "216a41043f7c46408d6f736b97b4aba8"


def flat(fields: dict[str, str]) -> list[str]:
    """The fields as arguments for Redis."""
    return [part for pair in fields.items() for part in pair]


class Records(WithRedis):
    """Shared by the tests."""

    def jt709c(self, *arguments: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        url = self.server.url if user is None else self.server.url_of(user)
        return run(*arguments, JT709C_REDIS=url)

    def lines(self, *arguments: str, user: str | None = None) -> list[str]:
        """The words of each line of a good result."""
        result = self.jt709c(*arguments, user=user)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [" ".join(line.split()) for line in result.stdout.splitlines()]

    def assert_mistake(self, result: subprocess.CompletedProcess[str], text: str) -> None:
        self.assertEqual(
            (result.returncode, result.stdout, result.stderr.count("\n")), (2, "", 1), result.stderr
        )
        self.assertIn(text, result.stderr)

    def put_command(self, command_id: str, state: str, age: float = 60, **fields: str) -> None:
        """A command as the gateway leaves it in Redis."""
        now = time.time()
        record = {
            "id": command_id,
            "command": "unlock",
            "device": DEVICE,
            "state": state,
            "params": json.dumps({"password": "******"}),
            "issued_by": "night shift",
            "batch": "",
            "created_at": iso(now - age),
            **fields,
        }
        self.redis.call("HSET", f"jt709c:command:{command_id}", *flat(record))
        self.redis.call("ZADD", "jt709c:commands:recent", f"{now - age:.6f}", command_id)


class CommandsTests(Records):
    def fill(self) -> None:
        self.put_command(LONG_ID, "confirmed", 125)
        self.put_command("o-2", "expired", 3700, device="5", reason="not sent within 1 s")
        self.put_command("o-3", "done", 10, peripheral="E03B60000A", command="sublock_unlock")
        # The record of one has expired, and another is none.
        self.redis.call("ZADD", "jt709c:commands:recent", time.time(), "gone")
        self.redis.call("ZADD", "jt709c:commands:recent", time.time(), "strange")
        self.redis.call("SET", "jt709c:command:strange", "x")

    def test_table(self) -> None:
        """The newest first, as a commander; a long id is cut to what show takes."""
        self.fill()
        heading, *lines = self.lines("commands", user=COMMANDER)
        self.assertEqual(heading, "id asked device command state issued by reason")
        for line, said in zip(
            lines,
            (
                rf"o-3 \d+ s ago {DEVICE} sublock_unlock done night shift",
                rf"216a4104 \d min ago {DEVICE} unlock confirmed night shift",
                "o-2 1 h ago 5 unlock expired night shift not sent within 1 s",
            ),
            strict=True,
        ):
            self.assertRegex(line, f"^{said}$")

    def test_filters(self) -> None:
        """By device, also by IMEI and sub-lock; by state; and no more than asked for."""
        self.fill()
        self.redis.call("HSET", "jt709c:imei", "867284063211238", DEVICE)
        self.redis.call("HSET", "jt709c:peripheral:E03B60000A", "device", DEVICE)
        for arguments, expected in (
            ((DEVICE,), ["o-3", LONG_ID]),
            (("0005",), ["o-2"]),
            (("867284063211238",), ["o-3", LONG_ID]),
            (("e03b60000a",), ["o-3"]),
            (("--state", "done", "--state", "expired"), ["o-3", "o-2"]),
            (("--limit", "1"), ["o-3"]),
        ):
            found = self.lines("commands", "--json", *arguments)
            self.assertEqual([json.loads(line)["id"] for line in found], expected, arguments)

    def test_a_batch_with_counts(self) -> None:
        """Its commands only, and how many are in each state, of all."""
        self.fill()
        for number, state in enumerate(("waiting", "confirmed", "waiting")):
            self.put_command(f"b-{number}", state, 20 + number, batch="b")
        result = self.jt709c("commands", "--batch", "b", "--limit", "2", "--json")
        self.assertEqual([json.loads(line)["id"] for line in result.stdout.splitlines()], ["b-0", "b-1"])
        self.assertEqual(result.stderr, "batch b: 3 commands: 2 waiting, 1 confirmed\n")
        self.assert_mistake(self.jt709c("commands", "--batch", "no blanks"), "1 to 40 letters")

    def test_wide_and_csv(self) -> None:
        self.fill()
        self.assertIn(LONG_ID, " ".join(self.lines("commands", "-o", "wide")))
        heading, *rows = csv.reader(self.lines("commands", "-o", "csv"))
        self.assertEqual(
            [dict(zip(heading, row, strict=True))["id"] for row in rows], ["o-3", LONG_ID, "o-2"]
        )

    def test_nothing_and_no_right(self) -> None:
        result = self.jt709c("commands")
        self.assertEqual((result.returncode, result.stdout), (0, ""))
        self.assertIn("no such commands are known", result.stderr)
        result = self.jt709c("commands", user=READER)
        self.assert_mistake(result, "this Redis user may not read commands")
        self.assertIn("jt709c-commander", result.stderr)


class ShowTests(Records):
    def test_one(self) -> None:
        """Its record, states and what the lock did; also by the beginning of its id."""
        self.put_command(LONG_ID, "confirmed", reason="as reported")
        for text in (
            event("command", id=LONG_ID, state="queued", command="unlock", issued_by="night shift"),
            event("command", id="another", state="queued", command="seal"),
            event("lock", action="unlocked", method="password", command_id=LONG_ID),
            event("command", id=LONG_ID, state="confirmed", command="unlock"),
        ):
            kind = json.loads(text)["kind"]
            self.redis.call(
                "XADD", f"jt709c:history:{DEVICE}", "*", "kind", kind, "device", DEVICE, "event", text
            )
        for name in (LONG_ID, LONG_ID[:8]):
            lines = self.lines("show", name, user=COMMANDER)
            self.assertEqual(lines[0], f"command {LONG_ID}: confirmed")
            self.assertIn("issued_by night shift", lines)
            self.assertIn("reason as reported", lines)
            self.assertEqual(len([line for line in lines if line.startswith("2026-11-22 10:15:00.123Z")]), 3)
            self.assertIn("lock unlocked by password", lines[-2])
            self.assertNotIn("another", " ".join(lines))
        self.assertEqual(json.loads(self.lines("show", LONG_ID, "--json")[0])["state"], "confirmed")

    def test_mistakes(self) -> None:
        self.put_command("same-1", "done")
        self.put_command("same-2", "done")
        self.assert_mistake(self.jt709c("show", "same"), "the ids of 2 commands begin with same")
        self.assert_mistake(self.jt709c("show", "other"), "no such command is known")
        self.assert_mistake(self.jt709c("show", "no spaces"), "this is not the id of a command")


class TrackTests(Records):
    def setUp(self) -> None:
        super().setUp()
        put_device(self.redis, DEVICE, time.time())

    def test_track(self) -> None:
        """Oldest first, also what came late from a lock's memory; what is no position is noted."""
        for entry in (
            ["2026-11-22T10:15:00Z", 51.9, 4.125, 62.5, 90],
            ["2026-11-22T10:00:00Z", 51.8, 4.5, None, None],
            ["2026-11-22T10:20:00Z", "x", 4.5, None, None],
        ):
            self.redis.call("RPUSH", f"jt709c:track:{DEVICE}", json.dumps(entry))
        result = self.jt709c("track", DEVICE, user=READER)
        self.assertEqual(result.stderr, "an entry of the track is not a position\n")
        self.assertEqual(
            [line.split() for line in result.stdout.splitlines()],
            [
                ["time", "latitude", "longitude", "km/h", "course"],
                ["2026-11-22", "10:00:00Z", "51.800000", "4.500000", "-", "-"],
                ["2026-11-22", "10:15:00Z", "51.900000", "4.125000", "62.5", "90.0"],
            ],
        )
        since = ("--since", "2026-11-22T10:10")
        self.assertEqual(len(self.lines("track", DEVICE, *since, "--json")), 1)
        self.assertEqual(
            self.lines("track", DEVICE, "-o", "csv", "--limit", "1"),
            ["time,latitude,longitude,speed_kmh,course_deg", "2026-11-22T10:15:00Z,51.9,4.125,62.5,90.0"],
        )

    def test_nothing(self) -> None:
        self.assertIn("no positions of", self.jt709c("track", DEVICE).stderr)
        self.assert_mistake(self.jt709c("track", "5"), "5: such a device is unknown")


class MalformedTests(Records):
    def test_malformed(self) -> None:
        """Oldest first, as a reader and as an operator; by reason and age."""
        for number, reason in enumerate(("check", "not_admitted", "check")):
            fields = {
                "peer": f"203.0.113.7:{number}",
                "reason": reason,
                "raw": "7e" * 40,
                "time": iso(1795342500),
            }
            entry = f"{1795342500000 + number}-0"
            self.redis.call("XADD", "jt709c:malformed", entry, *flat(fields))
        for user in (READER, OPERATOR):
            heading, *lines = self.lines("malformed", user=user)
            self.assertEqual(heading, "time peer reason raw")
            self.assertEqual(lines[0], f"2026-11-22 10:15:00Z 203.0.113.7:0 check {'7e' * 24}…")
            self.assertEqual(len(lines), 3)
        self.assertIn("7e" * 40, self.lines("malformed", "--reason", "not_admitted", "-o", "wide")[1])
        peers = [json.loads(line)["peer"] for line in self.lines("malformed", "--json", "--limit", "2")]
        self.assertEqual(peers, ["203.0.113.7:1", "203.0.113.7:2"])
        self.assertIn("no such input", self.jt709c("malformed", "--since", "2026-11-23").stderr)


class ForgetTests(Records):
    def setUp(self) -> None:
        super().setUp()
        put_device(self.redis, DEVICE, time.time(), imei="867284063211238")
        self.redis.call("HSET", "jt709c:imei", "867284063211238", DEVICE)
        for key in ("recent", "track"):
            self.redis.call("RPUSH", f"jt709c:{key}:{DEVICE}", "x")
        self.redis.call("XADD", f"jt709c:history:{DEVICE}", "*", "kind", "lock")
        self.redis.call("ZADD", "jt709c:histories", 1, DEVICE)
        for sublock, master in (("E03B60000A", DEVICE), ("E03B60000B", "5")):
            self.redis.call("ZADD", f"jt709c:peripherals:{DEVICE}", 1, sublock)
            self.redis.call("HSET", f"jt709c:peripheral:{sublock}", "device", master)

    def keys(self) -> set[str]:
        return {key.decode() for key in self.redis.call("KEYS", "*")}

    def test_forget(self) -> None:
        """As an operator; the audit trail stays, and a sub-lock that is behind another master now."""
        result = self.jt709c("forget", f"00{DEVICE}", "--yes", user=OPERATOR)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(result.stdout, f"{DEVICE} is forgotten; its audit trail stays\n")
        self.assertEqual(
            self.keys(), {f"jt709c:history:{DEVICE}", "jt709c:histories", "jt709c:peripheral:E03B60000B"}
        )
        self.assert_mistake(
            self.jt709c("forget", DEVICE, "--yes", "--history", user=OPERATOR), "may not delete"
        )
        self.assertEqual(self.jt709c("forget", DEVICE, "--yes", "--history").returncode, 0)
        self.assertEqual(self.keys(), {"jt709c:peripheral:E03B60000B"})
        self.assert_mistake(self.jt709c("forget", DEVICE, "--yes"), "such a device is unknown")

    def test_an_imei_of_another_lock_stays(self) -> None:
        self.redis.call("HSET", "jt709c:imei", "867284063211238", "5")
        self.lines("forget", DEVICE, "--yes")
        self.assertEqual(self.redis.call("HGET", "jt709c:imei", "867284063211238"), b"5")

    def test_an_online_lock_is_not_forgotten(self) -> None:
        before = self.keys()
        self.redis.call("HSET", f"jt709c:session:{DEVICE}", "gateway", "gw1")
        self.assert_mistake(self.jt709c("forget", DEVICE, "--yes"), f"{DEVICE} is online")
        self.assertEqual(self.keys() - {f"jt709c:session:{DEVICE}"}, before)

    def test_it_asks_first(self) -> None:
        before = self.keys()
        result = run("forget", DEVICE, stdin="n\n", JT709C_REDIS=self.server.url)
        self.assertEqual((result.returncode, self.keys()), (130, before), result.stderr)
        result = run("forget", DEVICE, "12345", stdin="y\n", JT709C_REDIS=self.server.url)
        self.assertEqual((result.returncode, self.keys()), (2, before))
        self.assertEqual(result.stderr, "jt709c: 12345: such a device is unknown with the prefix jt709c\n")
        result = run("forget", DEVICE, stdin="y\n", JT709C_REDIS=self.server.url)
        self.assertEqual(result.returncode, 0, result.stderr)
