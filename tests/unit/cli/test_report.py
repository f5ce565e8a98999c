"""jt709c report, and jt709c track as a file, with the rights of a reader."""

import csv
import io
import json
import subprocess
import time
from contextlib import redirect_stdout

from jt709c_gateway.cli.report_format import print_report
from jt709c_gateway.reports.seal_report import lock_report
from jt709c_gateway.reports.trail import LockData, Period
from tests.support.acl import READER
from tests.support.cli import DEVICE, WithRedis, iso, put_device, run
from tests.support.cli_partitions import COUNT, DEVICES, WithTwoServers
from tests.unit.reports.test_track_export import read_gpx


class ReportTests(WithRedis):
    def jt709c(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(*arguments, JT709C_REDIS=self.server.url_of(READER))

    def put(
        self, device: str, age: float, action: str = "unlocked", card: str = "0308", **label: str
    ) -> None:
        """Store a lock with an event, and its label."""
        now = time.time()
        put_device(self.redis, device, now)
        data = {"time": iso(now - age), "action": action, "method": "card", "card": card}
        envelope = {"kind": "lock", "device": device, "received_at": iso(now - age), "clock_skew_s": 0}
        text = json.dumps({**envelope, "stored": False, "data": data})
        at = f"{int((now - age) * 1000)}-0"
        self.redis.call("XADD", f"jt709c:history:{device}", at, "kind", "lock", "event", text)
        if label:
            fields = [part for pair in label.items() for part in pair]
            self.redis.call("HSET", f"jt709c:label:{device}", *fields)
            self.redis.call("SADD", "jt709c:labels", device)

    def test_text(self) -> None:
        """What is known first, what is not, then a line for each entry."""
        self.put(DEVICE, 8000, card="=1", name="Truck 12", group="North")
        self.put(DEVICE, 4400, "locked")
        result = self.jt709c("report", DEVICE, "--from", "3h")
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        title, span, summary, *lines = result.stdout.splitlines()
        self.assertEqual(title, f"seal report of Truck 12 ({DEVICE}), group North")
        self.assertRegex(span, r"^from \d{4}-\d\d-\d\d [\d:]{8}Z to .*Z, as known at .*Z$")
        self.assertEqual(
            summary,
            "1 opening (open for 1 h 0 min in all), 1 closing; at the beginning not known, at the end closed",
        )
        self.assertIn(
            "! the audit trail that is kept begins later: what happened before is not known", lines[0]
        )
        self.assertRegex(lines[2], r"Z  opened    by card =1; open for 1 h 0 min; place not known$")
        self.assertRegex(lines[3], r"Z  closed    by card 0308; place not known$")

    def test_nothing_known(self) -> None:
        """An empty report says whether that means anything."""
        put_device(self.redis, DEVICE, time.time())
        lines = self.jt709c("report", DEVICE).stdout.splitlines()
        self.assertIn("! no audit trail of this lock is kept", lines[3])
        self.assertEqual(lines[5], "no opening, closing or alarm is known of this period")

    def test_quiet(self) -> None:
        now = time.time()
        event = {"kind": "alarm", "received_at": iso(now - 9000), "data": {"name": "x", "active": True}}
        track = [(now - 600 * n, 51.0, 4.0) for n in range(30)]
        known = LockData(DEVICE, [event], track, seen=now, reaches_back=True)
        period = Period(now - 7200, now)
        out = io.StringIO()
        with redirect_stdout(out):
            print_report(lock_report(known, period, now, 3600), period, now, False)
        self.assertEqual(out.getvalue().splitlines()[3], "no opening, closing or alarm")

    def test_group(self) -> None:
        """The locks of a group by their names, as CSV and JSON."""
        self.put("5", 60, name="B", group="North")
        self.put("6", 60, name="A", group="North")
        self.put("7", 60, name="C", group="South")
        result = self.jt709c("report", "--group", "North", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(result.stdout, newline="")))
        self.assertEqual([row["device"] for row in rows if row["entry"] == "opened"], ["6", "5"])
        found = json.loads(self.jt709c("report", "--group", "North", "--format", "json").stdout)
        self.assertEqual([one["label"]["name"] for one in found["locks"]], ["A", "B"])

    def test_mistakes(self) -> None:
        for arguments, text in (
            ((), "give a DEVICE, or --group NAME"),
            ((DEVICE, "--group", "x"), "give a DEVICE, or --group NAME"),
            ((DEVICE,), "such a device is unknown"),
            (("--group", "x"), "--group: no lock has the group 'x'"),
            ((DEVICE, "--from", "soon"), "--from: 'soon' is not a time"),
            ((DEVICE, "--from", "1h", "--to", "2h"), "--from is not before --to"),
            ((DEVICE, "--gap", "long"), "--gap: 'long' is not a duration"),
        ):
            result = self.jt709c("report", *arguments)
            self.assertEqual((result.returncode, result.stdout), (2, ""), arguments)
            self.assertIn(text, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1)

    def test_track_files(self) -> None:
        """A track as GPX and as GeoJSON."""
        put_device(self.redis, DEVICE, time.time())
        points = [[iso(time.time() - 60 * n), 51.9, 4.4, 42.5, 90] for n in range(3, 0, -1)]
        self.redis.call("RPUSH", f"jt709c:track:{DEVICE}", *map(json.dumps, points))
        result = self.jt709c("track", DEVICE, "--format", "gpx")
        self.assertEqual([len(one) for one in read_gpx(result.stdout.encode())], [3])
        result = self.jt709c("track", DEVICE, "--format", "geojson", "--limit", "2")
        self.assertEqual(len(json.loads(result.stdout)["features"]), 3)


class PartitionTests(WithTwoServers):
    """A group whose locks are in four partitions."""

    def test_group(self) -> None:
        """One that is away is said, and the status says that something is missing."""
        names = [DEVICES[number][0] for number in range(COUNT)]
        for number, name in enumerate(names):
            now = time.time()
            data = {"time": iso(now), "action": "unlocked", "method": "card", "card": str(number)}
            event = {"kind": "lock", "received_at": iso(now), "clock_skew_s": 0, "data": data}
            self.on(name, "XADD", f"history:{name}", "*", "event", json.dumps(event))
            self.on(name, "HSET", f"label:{name}", "name", f"Truck {number}", "group", "North")
            self.on(name, "SADD", "labels", name)
        urls = " ".join(server.url_of(READER) for server in self.servers)
        arguments = ("report", "--group", "North", "--format", "json")
        result = run(*arguments, JT709C_REDIS=urls)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual([one["device"] for one in json.loads(result.stdout)["locks"]], names)
        self.servers[1].stop()
        result = run(*arguments, JT709C_REDIS=urls)
        found = json.loads(result.stdout)
        self.assertEqual([one["device"] for one in found["locks"]], names[::2])
        self.assertEqual((result.returncode, found["partitions_away"]), (1, [1, 3]))
        self.assertIn("partitions 1, 3 are away, and what is there is missing", result.stderr)
