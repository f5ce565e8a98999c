"""jt709c devices, with no more rights than a reader has."""

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import time
from datetime import UTC, datetime
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli import time_format
from jt709c_gateway.cli.console import console
from jt709c_gateway.cli.device_query import DeviceFilter
from jt709c_gateway.cli.device_sort import SORTS
from jt709c_gateway.cli.device_table import device_columns
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.table import print_table
from jt709c_gateway.redis.device_summary import DEVICE_FIELDS, DeviceSummary, summarise
from jt709c_gateway.redis.labels import LABEL_FIELDS
from tests.support.acl import COMMANDER, READER, GuardedServer, denials
from tests.support.cli import COMMAND, TIMEOUT, put_device, run


def device(name: str, gateway: str | None = None, **state: str) -> DeviceSummary:
    """A summary of one with these fields."""
    values = [state[field].encode() if field in state else None for field in DEVICE_FIELDS]
    session = [None] * 4 if gateway is None else [gateway.encode(), b"tcp", b"203.0.113.7:50112", b"s"]
    return summarise(name, values, session)


FLEET = [
    device(
        "1", "gw1", lock_state="locked", battery_percent="80", seen="2026-11-22T10:00:00Z", dialect="jt709"
    ),
    device(
        "22",
        "gw2",
        lock_state="unlocked",
        battery_percent="9",
        seen="2026-11-22T12:00:00Z",
        alarms='["rope_cut","vibration"]',
        imei="867284063211238",
        dialect="jt701",
    ),
    device("3", lock_state="locked", seen="2026-11-22T11:00:00Z", alarms='["low_battery"]', firmware="2.31B"),
    device("40"),
]


class FilterTests(SynchronousTestCase):
    def names(self, **wanted: object) -> list[str]:
        query = DeviceFilter(**wanted)  # type: ignore[arg-type]
        return [one.device for one in query.sorted([one for one in FLEET if query.fits(one)])]

    def test_each(self) -> None:
        """What isn't known of a device fits no filter that asks for it."""
        for wanted, expected in (
            ({}, ["22", "3", "1", "40"]),
            ({"online": True}, ["22", "1"]),
            ({"online": False}, ["3", "40"]),
            ({"state": "locked"}, ["3", "1"]),
            ({"alarms": frozenset(["vibration", "low_battery"])}, ["22", "3"]),
            ({"with_alarms": True}, ["22", "3"]),
            ({"battery_below": 80}, ["22"]),
            ({"battery_below": 81}, ["22", "1"]),
            ({"dialects": frozenset(["jt701", "jt705"])}, ["22"]),
            ({"gateways": frozenset(["gw1"])}, ["1"]),
            ({"texts": ("8672",)}, ["22"]),
            ({"texts": ("2.31b",)}, ["3"]),
            ({"texts": ("203.0.113.7", "gw1")}, ["1"]),
            ({"texts": ("203.0.113.7", "gw3")}, []),
            ({"online": True, "state": "locked"}, ["1"]),
        ):
            self.assertEqual(self.names(**wanted), expected, wanted)

    def test_commands(self) -> None:
        """By each field; what isn't known comes last both ways round, and a limit counts from the front."""
        for wanted, expected in (
            ({"sort": "device"}, ["1", "3", "22", "40"]),
            ({"sort": "battery"}, ["22", "1", "3", "40"]),
            ({"sort": "battery", "reverse": True}, ["1", "22", "3", "40"]),
            ({"sort": "seen", "reverse": True}, ["1", "3", "22", "40"]),
            ({"sort": "alarms"}, ["22", "3", "1", "40"]),
            ({"sort": "gateway", "limit": 1}, ["1"]),
        ):
            self.assertEqual(self.names(**wanted), expected, wanted)
        for sort in SORTS:
            self.assertEqual(len(self.names(sort=sort)), len(FLEET), sort)


class Terminal(io.StringIO):
    """Something that takes colours."""

    def isatty(self) -> bool:
        return True


class ColourTests(SynchronousTestCase):
    def shown(self, **environment: str) -> str:
        out = Terminal()
        with mock.patch.dict(os.environ, {"TERM": "xterm-256color", "COLUMNS": "80", **environment}):
            columns = device_columns(datetime(2026, 11, 22, 12, 30, tzinfo=UTC), False)
            print_table(console(out), FLEET, columns)
        return out.getvalue()

    def test_colours(self) -> None:
        """On a terminal what is worth a look has a colour, and none under NO_COLOR."""
        self.assertIn("\x1b[1;31mrope_cut, vibration\x1b[0m", self.shown())
        plain = self.shown(NO_COLOR="1")
        self.assertNotRegex(plain, r"\x1b\[[0-9;]*[34][0-7]m")
        self.assertIn("rope_cut, vibration", plain)

    def test_narrow(self) -> None:
        """On a terminal no row is broken: columns are left out, and the last one is cut at last."""
        for width in (120, 80, 60, 40):
            rows = re.sub(r"\x1b\[[0-9;]*m", "", self.shown(COLUMNS=str(width))).splitlines()
            self.assertEqual(len(rows), 1 + len(FLEET))
            self.assertLessEqual(max(map(len, map(str.rstrip, rows))), width, rows)
            self.assertTrue(rows[0].startswith("device  "), rows)
        wide = self.shown(COLUMNS="200")
        for name in ("imei", "dialect", "signal", "position", "connection", "alarms"):
            self.assertIn(name, wide)

    def test_columns(self) -> None:
        """Each column is as wide as it has to be."""
        lines = re.sub(r"\x1b\[[0-9;]*m", "", self.shown(COLUMNS="200")).splitlines()
        self.assertEqual(len(lines), 5)
        for line in lines[1:3]:
            self.assertEqual(line.index("jt70"), lines[0].index("dialect"))
        self.assertGreater(len(lines[2]), 80)


class MomentTests(SynchronousTestCase):
    def test_ages(self) -> None:
        for seconds, shown in ((-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")):
            self.assertEqual(time_format.age(seconds), shown)

    def test_durations(self) -> None:
        self.assertEqual(time_format.read_duration("--silent-for", "1.5h"), 5400)
        error = self.assertRaises(UserError, time_format.read_duration, "--silent-for", "2 weeks")
        self.assertIn(
            "--silent-for: '2 weeks' is not a duration; expected one such as 90s", error.format_message()
        )


class DevicesTests(SynchronousTestCase):
    """As a reader on a real server."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()

    @classmethod
    def tearDownClass(cls) -> None:
        with cls.server.client() as admin:
            denied = denials(admin, READER)
        cls.server.discard()
        assert not denied, f"etc/redis-acl.conf lacks a right of the reader: {denied}"

    def setUp(self) -> None:
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.redis.call("FLUSHALL")
        self.now = time.time()

    def devices(self, *arguments: str, user: str = READER, **more: str) -> subprocess.CompletedProcess[str]:
        return run("devices", *arguments, JT709C_REDIS=self.server.url_of(user), **more)

    def fill(self) -> None:
        place = {"gsm_signal": 29, "charging": True, "latitude": 51.9, "longitude": 4.1}
        put_device(
            self.redis,
            "794308010679",
            self.now - 65,
            session=("gw1", "tcp", "203.0.113.7:50112"),
            imei="867284063211238",
            lock_state="unlocked",
            battery_percent=15,
            alarms=["rope_cut", "low_battery"],
            location=place,
        )
        put_device(self.redis, "8000010001", self.now - 7300, dialect="jt701", firmware="\x1b[2J")

    def test_table(self) -> None:
        """A line each, the latest heard first; nothing that a lock has said steers a terminal."""
        self.fill()
        result = self.devices()
        self.assertEqual((result.returncode, result.stderr), (0, "2 of 2 devices: 1 online, 1 with alarms\n"))
        heading, one, other = (" ".join(line.split()) for line in result.stdout.splitlines())
        self.assertEqual(heading, "device imei dialect state battery signal seen position connection alarms")
        self.assertEqual(
            one,
            "794308010679 867284063211238 jt709 unlocked 15 % charging 29 1 min ago - gw1 tcp"
            " 203.0.113.7:50112 rope_cut, low_battery",
        )
        self.assertEqual(other, "8000010001 - jt701 - - - 2 h ago - offline")
        self.assertNotIn("\x1b", result.stdout)

    def test_json(self) -> None:
        """One object a line, with the fields of the web API, unknown ones null."""
        self.fill()
        one, other = map(json.loads, self.devices("--json").stdout.splitlines())
        self.assertEqual((one["device"], one["gsm_signal"], one["online"]), ("794308010679", 29, True))
        self.assertEqual((other["battery_percent"], other["gateway"], other["alarms"]), (None, None, []))

    def test_csv(self) -> None:
        """A heading and a line each, with all fields; what a lock has said steers no terminal."""
        self.fill()
        heading, one, other = csv.reader(self.devices("-o", "csv").stdout.splitlines())
        *fields, label = DeviceSummary.__struct_fields__
        self.assertEqual(heading, [*fields, *(f"{label}.{name}" for name in LABEL_FIELDS)])
        found = dict(zip(heading, one, strict=True))
        self.assertEqual((found["battery_percent"], found["alarms"]), ("15", "rope_cut low_battery"))
        self.assertEqual((found["online"], found["rope_open"]), ("true", ""))
        self.assertEqual(dict(zip(heading, other, strict=True))["firmware"], "\\x1b[2J")

    def test_wide(self) -> None:
        """All columns, and times with their zone."""
        self.fill()
        shown = self.devices("-o", "wide").stdout
        for text in ("firmware", "latitude", "\\x1b[2J", "203.0.113.7:50112"):
            self.assertIn(text, shown)
        self.assertRegex(shown, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")

    def test_watch(self) -> None:
        """On the alternate screen, read again and again, until interrupted."""
        self.fill()
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, "devices", "-w"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "JT709C_REDIS": self.server.url_of(READER), "COLUMNS": "80", "LINES": "5"},
        )
        self.addCleanup(process.kill)
        os.close(theirs)
        shown, interrupted = b"", False
        try:
            while data := os.read(ours, 65536):
                shown += data
                if not interrupted and shown.count(b"2 of 2 devices: 1 online") == 2:
                    # A second one would end it at once.
                    process.send_signal(signal.SIGINT)
                    interrupted = True
        except OSError:
            # The other end is closed.
            pass
        os.close(ours)
        self.assertEqual(process.wait(TIMEOUT), 130)
        self.assertTrue(shown.startswith(b"\x1b[?1049h"), shown)
        self.assertIn(b"\x1b[?1049l", shown)
        self.assertIn(b"8000010001", shown)

    def test_watch_needs_a_terminal(self) -> None:
        result = self.devices("-w")
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("--watch: expected a terminal", result.stderr)

    def test_filters(self) -> None:
        """The options reach the filters."""
        self.fill()
        for arguments, expected in (
            (
                ("--online", "--state", "unlocked", "--alarm", "rope_cut", "--battery-below", "20"),
                "794308010679",
            ),
            (("--with-alarms", "--gateway", "gw1", "--dialect", "jt709", "867284"), "794308010679"),
            (("--offline",), "8000010001"),
            (("--silent-for", "2h"), "8000010001"),
            (("--sort", "device", "--reverse", "--limit", "1"), "794308010679"),
            (("--silent-for", "3h"), None),
        ):
            lines = self.devices("--json", *arguments).stdout.splitlines()
            found = [json.loads(line)["device"] for line in lines]
            self.assertEqual(found, [expected] if expected else [], arguments)
        self.assertIn("1 more would fit (--limit 1)", self.devices("--limit", "1").stderr)

    def test_nothing(self) -> None:
        result = self.devices("nosuch")
        self.assertEqual((result.returncode, result.stdout), (0, ""))
        self.assertIn("0 of 0 devices", result.stderr)

    def test_rights(self) -> None:
        """Who may not read the fleet is told who may."""
        result = self.devices(user=COMMANDER)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertEqual(result.stderr.count("\n"), 1)
        self.assertIn("this Redis user may not read the fleet", result.stderr)

    def test_large(self) -> None:
        """10,000 devices are read to the last one, each once; it takes a second or two on a free machine."""
        for number in range(10_000):
            self.redis.call("ZADD", "jt709c:devices", self.now - number, 794309000000 + number)
        self.redis.call("HSET", "jt709c:device:794309009999", "battery_percent", 5)
        began = time.monotonic()
        lines = self.devices("--json").stdout.splitlines()
        taken = time.monotonic() - began
        self.assertEqual(len({json.loads(line)["device"] for line in lines}), 10_000)
        self.assertEqual(len(lines), 10_000)
        self.assertLess(taken, 20)
        (line,) = self.devices("--json", "--battery-below", "6").stdout.splitlines()
        self.assertEqual(json.loads(line)["device"], "794309009999")
