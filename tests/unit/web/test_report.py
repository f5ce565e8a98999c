"""Seal reports and tracks as files, asked of a real daemon."""

import csv
import io
import json
import socket
import time

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.util.timestamps import iso
from jt709c_gateway.web.api import reports
from tests.support import LOOPBACK, wait_until
from tests.support.commands import CommandClient, card_event, new_device
from tests.support.fleets import StoredFleet, device, two_servers
from tests.support.web import Api, ApiCase, Reply
from tests.unit.reports.test_track_export import read_gpx


def opening(device: str, card: int) -> str:
    """Return an event of now: opened by a card."""
    data = {"time": iso(time.time()), "action": "unlocked", "method": "card", "card": f"{card:010d}"}
    envelope = {"kind": "lock", "device": device, "received_at": iso(time.time()), "clock_skew_s": 0}
    return json.dumps({**envelope, "stored": False, "data": data})


class TrackFileTests(ApiCase):
    def test_files(self) -> None:
        """A track as GPX and as GeoJSON, with the name of its file; a position at 0,0 is left out."""
        device = new_device()
        points = [[iso(time.time() - 600 + 60 * n), 51.9 + n / 100, 4.4, 42.5, 90] for n in range(4)]
        points.append([iso(time.time()), 0, 0, 0, 0])
        self.redis.call("RPUSH", f"jt709c:track:{device}", *map(json.dumps, points))
        self.redis.call("HSET", f"jt709c:device:{device}", "seen", iso(time.time()))
        self.redis.call("HSET", f"jt709c:label:{device}", "name", "Truck & trailer")
        reply = self.api.get(f"/devices/{device}/track", ("format", "gpx"))
        self.assertEqual(reply.headers["content-type"], "application/gpx+xml")
        self.assertEqual(reply.headers["content-disposition"], f'attachment; filename="track-{device}.gpx"')
        [segment] = read_gpx(reply.body)
        self.assertIn(b"<name>Truck &amp; trailer</name>", reply.body)
        self.assertEqual(
            [(latitude, longitude) for latitude, longitude, _ in segment],
            [(51.9 + n / 100, 4.4) for n in range(4)],
        )
        found = self.api.get(f"/devices/{device}/track", ("format", "geojson"), ("limit", 3)).body
        self.assertEqual(len(json.loads(found)["features"]), 3)
        self.assert_bad(f"/devices/{device}/track", "format", "kml", "one of json, gpx, geojson")


class ReportTests(ApiCase):
    def put(self, device: str, count: int = 1, **label: str) -> None:
        """Store a lock with openings, and its label."""
        for number in range(count):
            text = opening(device, number)
            self.redis.call(
                "XADD", f"jt709c:history:{device}", "*", "kind", "lock", "device", device, "event", text
            )
        if label:
            self.redis.call(
                "HSET", f"jt709c:label:{device}", *[part for one in label.items() for part in one]
            )
            self.redis.call("SADD", "jt709c:labels", device)

    def rows(self, reply: Reply) -> list[dict[str, str]]:
        self.assertEqual(reply.headers["content-type"], reports.CSV)
        return list(csv.DictReader(io.StringIO(reply.body.decode(), newline=""), strict=True))

    def test_one_lock(self) -> None:
        """A lock that opens for a card is in the report a moment later, with its label."""
        lock = self.lock()
        self.put(lock.device, 0, name="Truck 12")
        lock.report(card_event(7))
        found = wait_until(
            lambda: self.api.get("/report", ("device", lock.device)).json["locks"][0]["entries"]
        )
        self.assertEqual((found[0]["kind"], found[0]["by"]), ("opened", "card 0000000007"))
        self.assertEqual(found[0]["place"]["source"], "event")
        answer = self.api.get("/report", ("device", lock.device), ("gap", 60)).json
        self.assertEqual((answer["locks"][0]["label"], answer["gap_s"]), ({"name": "Truck 12"}, 60))
        self.assertIn("trail_begins", [one["code"] for one in answer["locks"][0]["not_known"]])

    def test_by_command(self) -> None:
        """An unlock that was confirmed is one opening, by its issuer."""
        lock = self.lock()
        client = CommandClient(self.server)
        self.addCleanup(client.close)
        command = client.unlock(lock.device, issued_by="night shift")
        lock.say_yes(lock.next_unlock())
        lock.open()
        client.wait(command, "confirmed")
        [entry] = self.api.get("/report", ("device", lock.device)).json["locks"][0]["entries"]
        self.assertEqual(
            (entry["kind"], entry["by"], entry["command"]["id"]), ("opened", "night shift", command)
        )
        self.assertEqual(entry["command"]["evidence"]["action"], "unlocked")

    def test_group(self) -> None:
        """All locks with that group, by their names; as CSV a line for each entry."""
        group = f"North {new_device()}"
        second, first, other = new_device(), new_device(), new_device()
        self.put(second, 2, name="B", group=group)
        self.put(first, 1, name="A", group=group)
        self.put(other, 1, name="C", group="South")
        answer = self.api.get("/report", ("group", group)).json
        self.assertEqual([one["device"] for one in answer["locks"]], [first, second])
        reply = self.api.get("/report", ("group", group), ("format", "csv"))
        self.assertRegex(
            reply.headers["content-disposition"], r'attachment; filename="seal-report-[\d-]+.csv"'
        )
        opened = [(row["device"], row["card"]) for row in self.rows(reply) if row["entry"] == "opened"]
        self.assertEqual(opened, [(first, "0" * 10), (second, "0" * 10), (second, "0" * 9 + "1")])

    def test_never_reported(self) -> None:
        """A lock that has a label only: nothing is known, which is said."""
        device = new_device()
        self.put(device, 0, name="New")
        [lock] = self.api.get("/report", ("device", device)).json["locks"]
        self.assertIn("no_trail", [one["code"] for one in lock["not_known"]])
        [*rows] = self.rows(self.api.get("/report", ("device", device), ("format", "csv")))
        self.assertEqual({row["entry"] for row in rows}, {"not_known"})

    def test_mistakes(self) -> None:
        """Each is refused with its name."""
        device = new_device()
        self.put(device)
        for query, field, text in (
            ((), "device", "expected one of them"),
            ((("device", device), ("group", "x")), "device", "expected one of them"),
            ((("device", device), ("from", "2026-11-02"), ("to", "2026-11-01")), "from", "not before to"),
            ((("device", device), ("from", "soon")), "from", "2026-11-22T10:15:00Z"),
            ((("device", device), ("gap", "0")), "gap", "whole number from 1 to"),
            ((("device", device), ("format", "pdf")), "format", "one of json, csv"),
            ((("group", "x" * 65),), "group", "1 to 64 characters"),
        ):
            reply = self.api.get("/report", *query)
            self.assertEqual((reply.status, reply.error["field"]), (400, field), query)
            self.assertIn(text, reply.error["message"])
        for query in (("device", "123456"), ("group", "nobody's")):
            self.assertEqual(self.api.get("/report", query).status, 404)

    def test_too_large(self) -> None:
        """More entries than JSON may have are refused; as CSV they come, all of them that are read."""
        device = new_device()
        self.fill(device, opening(device, 1), 10_100)
        group = f"Large {device}"
        other = new_device()
        self.put(device, 1, group=group)
        self.put(other, 1, group=group)
        reply = self.api.get("/report", ("group", group))
        self.assertEqual((reply.status, reply.error["field"]), (400, "from"))
        self.assertIn("at most 10000 entries", reply.error["message"])
        rows = self.rows(self.api.get("/report", ("group", group), ("format", "csv")))
        self.assertIn("there are more entries than a report reads", rows[0]["remarks"])
        self.assertEqual(sum(row["entry"] == "opened" for row in rows), 10_001)

    def test_slow_clients(self) -> None:
        """Four reports are made at a time; who reads slowly holds one of them until he goes."""
        name = new_device()
        self.fill(name, opening(name, 1), 10_000)
        head = f"GET /api/v1/report?device={name}&format=csv HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        clients = []
        for _ in range(4):
            client = socket.socket()
            self.addCleanup(client.close)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((LOOPBACK, self.daemon.http_port))
            client.sendall(head)
            self.assertIn(b"200 OK", client.recv(100))
            clients.append(client)
        refused = self.api.get("/report", ("device", name), ("from", "2000-01-01"))
        self.assertEqual((refused.status, refused.headers["retry-after"]), (503, "5"))
        self.assertIn("other reports are being made", refused.error["message"])
        for client in clients:
            client.close()
        wait_until(lambda: self.api.get("/report", ("device", new_device())).status == 404)

    def fill(self, device: str, text: str, count: int) -> None:
        """Store the same event many times."""
        script = "for i = 1, tonumber(ARGV[2]) do redis.call('XADD', KEYS[1], '*', 'event', ARGV[1]) end"
        self.redis.call("EVAL", script, 1, f"jt709c:history:{device}", text, count)


class PartitionTests(SynchronousTestCase):
    """A group whose locks are in four partitions on two servers."""

    def setUp(self) -> None:
        self.servers, daemon = two_servers()
        for server in self.servers:
            self.addCleanup(server.discard)
        self.addCleanup(daemon.discard)
        self.fleet = StoredFleet(Partitions("jt709c", 4), [server.client() for server in self.servers])
        for client in self.fleet.clients:
            self.addCleanup(client.close)
        self.names = [device(number) for number in range(12)]
        for number, name in enumerate(self.names):
            client, keys = self.fleet.place(name)
            client.call("XADD", keys.history(name), "*", "event", opening(name, number))
            client.call("HSET", keys.label(name), "group", "North", "name", f"Truck {number:02}")
            client.call("SADD", keys.labels, name)
        self.api = Api(daemon.start())

    def test_group(self) -> None:
        """The locks of all partitions by their names; while some are away, those of the others."""
        answer = self.api.get("/report", ("group", "North")).json
        self.assertEqual([one["device"] for one in answer["locks"]], self.names)
        self.assertEqual({one["counts"]["opened"] for one in answer["locks"]}, {1})
        self.assertEqual(answer["partitions_away"], [])
        self.servers[1].kill()
        wait_until(lambda: self.api.get("/devices").json.get("partitions_away") == [1, 3])
        here = [name for name in self.names if self.fleet.layout.number(name) % 2 == 0]
        answer = self.api.get("/report", ("group", "north")).json
        self.assertEqual([one["device"] for one in answer["locks"]], here)
        self.assertEqual(answer["partitions_away"], [1, 3])
        reply = self.api.get("/report", ("group", "North"), ("format", "csv"))
        rows = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
        self.assertEqual([row["device"] for row in rows if row["entry"] == "opened"], here)
        self.assertEqual(
            [row["remarks"] for row in rows[-2:]],
            [f"partition {number} is away: its locks may be missing" for number in (1, 3)],
        )
        gone = next(name for name in self.names if name not in here)
        self.assertEqual(self.api.get("/report", ("device", gone)).status, 503)
        self.assertEqual(self.api.get("/report", ("device", gone), ("format", "csv")).status, 503)
        self.assertEqual(self.api.get("/report", ("group", "South")).status, 503)
