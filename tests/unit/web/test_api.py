"""The API behind the status page, asked of a real daemon; every answer is checked against its description."""

import json
import time
from datetime import UTC, datetime
from typing import Any

from jt709c_gateway.util.timestamps import iso
from jt709c_gateway.web.pagination import MAX_SCANNED
from tests.support import PATIENCE, wait_until
from tests.support.commands import PASSWORD, CommandClient, new_device
from tests.support.events import event
from tests.support.masters import sublock_report
from tests.support.web import ApiCase


class DeviceTests(ApiCase):
    def summary(self, device: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/devices/{device}").json["device"]
        return found

    def test_one_device(self) -> None:
        """What is known of a lock, with the data of its last location."""
        lock = self.lock()
        answer = self.api.get(f"/devices/{lock.device}").json
        summary = answer["device"]
        self.assertEqual(summary["device"], lock.device)
        self.assertEqual((summary["online"], summary["gateway"], summary["transport"]), (True, "gw1", "tcp"))
        self.assertEqual((summary["lock_state"], summary["fix"], summary["alarms"]), ("locked", "gnss", []))
        self.assertEqual(answer["location"]["latitude"], summary["latitude"])
        self.assertEqual(answer["location"]["time"], summary["position_time"])
        self.assertEqual(answer["peripherals"], [])
        seen = datetime.fromisoformat(summary["seen"]).timestamp()
        self.assertLess(abs(time.time() - seen), PATIENCE)

    def test_changes(self) -> None:
        """It is as the lock reported last; offline, it has no peer."""
        lock = self.lock()
        lock.open()
        wait_until(lambda: self.summary(lock.device)["lock_state"] == "unlocked")
        lock.close()
        wait_until(lambda: not self.summary(lock.device)["online"])
        self.assertEqual(
            [self.summary(lock.device)[name] for name in ("gateway", "peer", "since")], [None] * 3
        )

    def test_leading_zeros_and_imei(self) -> None:
        """A lock is found by its id with leading zeros, and by its IMEI."""
        lock = self.lock()
        self.assertEqual(self.summary(f"00{lock.device}")["device"], lock.device)
        self.redis.call("HSET", "jt709c:imei", "867284063211238", lock.device)
        self.assertEqual(self.summary("867284063211238")["device"], lock.device)

    def test_peripherals(self) -> None:
        """A master's sub-locks are told, those heard last first; their names lead to the master."""
        with self.daemon.lock() as master:
            for identity in ("E03B60000A", "E03B60000B"):
                master.send(sublock_report("8054201973", identity, at=time.time() - 60))
            wait_until(lambda: self.redis.call("ZCARD", "jt709c:peripherals:8054201973") == 2)
        found = self.api.get("/devices/8054201973").json["peripherals"]
        for name in ("E03B60000A", "e03b60000a"):
            self.assertEqual(self.summary(name)["device"], "8054201973")
        self.assertEqual([one["peripheral"] for one in found], ["E03B60000B", "E03B60000A"])
        self.assertEqual((found[0]["type"], found[0]["battery_percent"]), ("jt709", 88))

    def test_fleet(self) -> None:
        """All locks, those heard last first; what one asked may be told to another within a second."""
        locks = [self.lock() for _ in range(3)]
        wait_until(lambda: self.names()[:3] == [lock.device for lock in locks[::-1]])
        answer = self.api.get("/devices").json
        self.assertEqual(answer["total"], len(answer["devices"]))
        self.assertIsNone(answer["next"])

    def names(self, *query: tuple[str, object]) -> list[str]:
        return [one["device"] for one in self.api.get("/devices", *query).json["devices"]]

    def test_seen_since(self) -> None:
        """Only locks that were heard since a time, which may be written in several ways."""
        self.lock()
        time.sleep(0.05)
        now = time.time()
        time.sleep(0.05)
        lock = self.lock()
        moment = datetime.fromtimestamp(now, UTC).isoformat()
        for since in (f"{now:.6f}", moment, moment.replace("+00:00", "Z")):
            self.assertEqual(self.names(("seen_since", since)), [lock.device], since)
        answer = self.api.get("/devices", ("seen_since", f"{now:.6f}")).json
        self.assertEqual(answer["total"], 1)
        # As it is when a plus sign was not escaped.
        plus = self.api.fetch("GET", f"/api/v1/devices?seen_since={moment}")
        self.assertEqual(len(plus.json["devices"]), 1)

    def test_unknown(self) -> None:
        """A lock of which nothing is known, and a path that there isn't."""
        for path in ("", "/history", "/track"):
            reply = self.api.get(f"/devices/123456{path}")
            self.assertEqual((reply.status, reply.error["field"]), (404, "id"))
            self.assertIn("nothing is known of such a device", reply.error["message"])
            self.assertNotIn("123456", reply.error["message"])
        for target in ("/api/v1", "/api/v1/", "/api/v1/nothing", "/api/v1/devices/1/2/3", "/api/v2/devices"):
            self.assertEqual(self.api.fetch("GET", target).status, 404, target)

    def test_wrong_method(self) -> None:
        """It is said which methods there are."""
        for method, path, allowed in (("POST", "/devices", "GET"), ("PUT", "/commands", "GET, POST")):
            reply = self.api.fetch(method, f"/api/v1{path}")
            self.assertEqual((reply.status, reply.headers["allow"]), (405, allowed))
            self.assertIn(f"expected {allowed}", reply.error["message"])

    def test_head(self) -> None:
        """HEAD is GET without the body."""
        reply = self.api.fetch("HEAD", "/api/v1/config")
        self.assertEqual((reply.status, reply.body), (200, b""))
        self.assertGreater(int(reply.headers["content-length"]), 100)

    def test_bad_parameters(self) -> None:
        """Each is refused with its name, its length and what is right."""
        for path in ("/devices", "/events", "/commands"):
            for value in ("0", "-1", "many", "1e3", "99999", ""):
                self.assert_bad(path, "limit", value, "whole number from 1 to")
            self.assert_bad(path, "cursor", "x y", "next of an earlier answer")
        for value in ("soon", "2026-13-01", "1e99", ""):
            self.assert_bad("/devices", "seen_since", value, "2026-11-22T10:15:00Z")
            self.assert_bad("/events", "since", value, "epoch seconds")
        self.assert_bad("/events", "kind", "locations", "one of location, lock")
        self.assert_bad("/events", "device", "E03B60", "1 to 20 digits")
        self.assert_bad("/events/live", "devices", "yes", "one of 0, 1")
        self.assert_bad("/commands", "state", "open", "one of queued, waiting")
        self.assertEqual(self.api.fetch("GET", "/api/v1/devices/xyz").status, 400)

    def test_before_all_times(self) -> None:
        """A time before 1970 is one like others: since then is all, until then is nothing."""
        lock = self.lock()
        lock.open()
        path = f"/devices/{lock.device}/history"
        found = [self.api.get(path, (name, "1900-01-01")).json["entries"] for name in ("since", "until")]
        self.assertEqual([len(one) > 0 for one in found], [True, False])
        self.assertIn(lock.device, self.names(("seen_since", "1900-01-01")))

    def test_parameters_that_there_are_not(self) -> None:
        """One that is misspelt or given twice is refused, and not left out without a word."""
        reply = self.api.get("/devices", ("limits", 5))
        said = "unknown parameter 1 (a name of 6 characters, near limit): expected limit, cursor"
        self.assertIn(said, reply.error["message"])
        reply = self.api.get("/devices", ("limit", 5), ("limit", 6))
        self.assertIn("limit is given 2 times", reply.error["message"])

    def test_huge_times(self) -> None:
        """A time that no clock shows is no traceback."""
        self.assertEqual(self.names(("seen_since", "99999999999")), [])
        self.assertEqual(self.api.get("/events", ("since", "99999999999")).json["entries"], [])


class HistoryTests(ApiCase):
    def history(self, device: str, *query: tuple[str, object]) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/devices/{device}/history", *query).json
        return found

    def test_newest_first(self) -> None:
        """Locks, alarms and commands as they were published, newest first, by kind and by time."""
        lock = self.lock()
        for _ in range(3):
            lock.open()
            lock.report()
        entries = wait_until(lambda: self.history(lock.device)["entries"])
        stored = self.redis.call("XREVRANGE", f"jt709c:history:{lock.device}", "+", "-")
        self.assertEqual([one["entry"] for one in entries], [raw_id.decode() for raw_id, _ in stored])
        self.assertEqual([one["event"] for one in entries], [json.loads(flat[5]) for _, flat in stored])
        self.assertEqual(self.history(lock.device, ("kind", "command"))["entries"], [])
        both = self.history(lock.device, ("kind", "command"), ("kind", "lock"))["entries"]
        self.assertEqual(len(both), len([one for one in entries if one["event"]["kind"] == "lock"]))

    def test_paging(self) -> None:
        """Page after page it is the whole, each entry once, also among those of one kind."""
        lock = self.lock()
        key = f"jt709c:history:{lock.device}"
        for number in range(450):
            kind = "lock" if number % 3 else "alarm"
            told = event(kind, lock.device, number)
            self.redis.call("XADD", key, "*", "kind", kind, "device", lock.device, "event", told)
        for kinds, count in ((), 450), ((("kind", "lock"),), 300), ((("kind", "session"),), 0):
            for limit in (7, 100, 450, 1000):
                self.assertEqual(self.pages(lock.device, limit, kinds), self.wanted(kinds))
            self.assertEqual(len(self.wanted(kinds)), count)

    def wanted(self, kinds: tuple[tuple[str, str], ...]) -> list[int]:
        named = {kind for _, kind in kinds} or {"lock", "alarm"}
        return [one for one in range(449, -1, -1) if ("lock" if one % 3 else "alarm") in named]

    def pages(self, device: str, limit: int, kinds: tuple[tuple[str, str], ...]) -> list[int]:
        found: list[int] = []
        query: list[tuple[str, object]] = [("limit", limit), *kinds]
        while True:
            answer = self.history(device, *query)
            found += [one["event"]["serial"] for one in answer["entries"]]
            if answer["next"] is None:
                return found
            query = [("limit", limit), *kinds, ("cursor", answer["next"])]

    def test_since_and_until(self) -> None:
        """Only what came in between, both ends included, and a cursor doesn't lead out of it."""
        device = new_device()
        for at in range(1000, 1010):
            told = event("lock", device, at)
            key = f"jt709c:history:{device}"
            self.redis.call("XADD", key, f"{at}000-1", "kind", "lock", "device", device, "event", told)
        query = [("since", 1003), ("until", "1006")]
        found = self.history(device, *query)["entries"]
        self.assertEqual([one["event"]["serial"] for one in found], [1006, 1005, 1004, 1003])
        answer = self.history(device, *query, ("cursor", "1005000-1"))
        self.assertEqual([one["event"]["serial"] for one in answer["entries"]], [1004, 1003])
        answer = self.history(device, *query, ("cursor", "1009000-1"))
        self.assertEqual([one["event"]["serial"] for one in answer["entries"]], [1006, 1005, 1004, 1003])

    def test_only_in_a_history(self) -> None:
        """A lock that never reported has the history of the commands that were given to it."""
        device = new_device()
        client = CommandClient(self.server)
        self.addCleanup(client.close)
        command = client.unlock(device)
        client.wait(command, "waiting")
        states = [one["event"]["data"]["state"] for one in self.history(device)["entries"]]
        self.assertEqual(states, ["waiting", "queued"])
        self.assertNotIn(PASSWORD, json.dumps(self.history(device)))

    def test_spoilt_entries(self) -> None:
        """What is no event is left out, and spoils nothing."""
        lock = self.lock()
        key = f"jt709c:history:{lock.device}"
        for value in ("{", "[]", b"\xff", ""):
            self.redis.call("XADD", key, "*", "kind", "lock", "device", lock.device, "event", value)
        self.redis.call("XADD", key, "*", "another", "field")
        answer = self.history(lock.device)
        self.assertEqual((answer["entries"], answer["scanned"]), ([], 5))


class TrackTests(ApiCase):
    def put(self, device: str, *points: Any) -> None:
        for point in points:
            text = point if isinstance(point, str) else json.dumps([iso(point[0]), *point[1:]])
            self.redis.call("RPUSH", f"jt709c:track:{device}", text)

    def test_in_order(self) -> None:
        """Positions by their time, whatever the order in which they came; what is none is left out."""
        device = self.lock().device
        self.put(
            device, [30, 1.5, 2.5, None, None], [10, 1.0, 2.0, 3.5, 90], "{", [1], [20, 1.25, 2.25, 0, 0]
        )
        answer = self.api.get(f"/devices/{device}/track").json
        points = answer["points"][:3]
        self.assertEqual([one["time"][17:19] for one in points], ["10", "20", "30"])
        self.assertEqual(
            points[0],
            {
                "time": "1970-01-01T00:00:10.000000Z",
                "latitude": 1.0,
                "longitude": 2.0,
                "speed_kmh": 3.5,
                "course_deg": 90,
            },
        )
        self.assertGreater(answer["capacity"], 0)

    def test_of_a_lock(self) -> None:
        """What a lock reports is in its track."""
        lock = self.lock()
        wait_until(lambda: self.api.get(f"/devices/{lock.device}/track").json["points"])
        [point] = self.api.get(f"/devices/{lock.device}/track").json["points"]
        summary = self.api.get(f"/devices/{lock.device}").json["device"]
        self.assertEqual(
            (point["latitude"], point["longitude"], point["time"][:19]),
            (summary["latitude"], summary["longitude"], summary["position_time"][:19]),
        )

    def test_limits(self) -> None:
        """The newest of them, or those between two times."""
        device = self.lock().device
        self.put(device, *[[second, 1.0, 2.0, None, None] for second in range(60)])

        def seconds(*query: tuple[str, object]) -> list[int]:
            points = self.api.get(f"/devices/{device}/track", *query).json["points"]
            times = [datetime.fromisoformat(one["time"]).timestamp() for one in points]
            return [int(one) for one in times if one < 60]

        until = ("until", 59)
        self.assertEqual(seconds(until, ("limit", 2)), [58, 59])
        self.assertEqual(seconds(("since", 10), ("until", "12.5")), [10, 11, 12])
        self.assertEqual(len(seconds(until)), 60)


class EventTests(ApiCase):
    def test_durable_events(self) -> None:
        """Events of all locks, newest first; of one, of a kind."""
        first, second = self.lock(), self.lock()
        first.open()
        entries = self.api.get("/events", ("limit", 1000)).json["entries"]
        kinds = [one["event"]["kind"] for one in entries if one["event"]["device"] == first.device]
        self.assertEqual(sorted(set(kinds)), ["location", "lock", "session"])
        found = self.api.get("/events", ("device", f"0{second.device}"), ("limit", 1000)).json["entries"]
        self.assertEqual({one["event"]["device"] for one in found}, {second.device})
        found = self.api.get("/events", ("kind", "lock"), ("kind", "session"), ("limit", 2)).json["entries"]
        self.assertEqual([one["event"]["kind"] for one in found], ["lock", "session"])
        self.assertNotIn(PASSWORD, json.dumps(entries))

    def test_bounded(self) -> None:
        """One answer looks at a bounded number of entries, and tells where to go on with the rest."""
        device = new_device()
        [old] = self.put("reply", device, 1)
        self.put("time_request", "1", MAX_SCANNED + 10)
        answer = self.api.get("/events", ("device", device)).json
        self.assertEqual((answer["entries"], answer["scanned"]), ([], MAX_SCANNED))
        answer = self.api.get("/events", ("device", device), ("cursor", answer["next"])).json
        self.assertEqual([one["entry"] for one in answer["entries"]], [old])

    def put(self, kind: str, device: str, count: int) -> list[str]:
        """Put events into the stream; the ids of their entries."""
        fields = ("kind", kind, "device", device, "event")
        told = [event(kind, device, number) for number in range(count)]
        return [self.redis.call("XADD", "jt709c:events", "*", *fields, one).decode() for one in told]
