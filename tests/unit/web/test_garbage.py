"""What stands in Redis and should not, and parameters that nobody means: an answer, and no failure.

Nobody but a gateway should write these keys. Somebody does in the end, and one lock must not hide others.
"""

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.device_summary import DEVICE_FIELDS, summarise
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.web import live_events
from tests.support import wait_until
from tests.support.commands import FakeLock
from tests.support.web import BASE, ApiCase

KEYS = Keys("jt709c")
#: JSON that is deeper than it can be read.
DEEP = '{"a":' + "[" * 20_000 + "]" * 20_000 + "}"
LATIN = b'{"a":"\xe9"}'


class GarbageCase(ApiCase):
    def setUp(self) -> None:
        super().setUp()
        self.bad, self.good = self.lock(), self.lock()
        for lock in (self.bad, self.good):
            lock.report()
        self.addCleanup(self.assert_quiet)

    def assert_quiet(self) -> None:
        self.assertNotIn("Traceback", self.daemon.log())

    def summaries(self) -> dict[str, Any]:
        """The fleet by its ids, in which the good lock is as ever."""

        def read() -> dict[str, Any]:
            # By way of a parameter of its own, since an answer counts for a second.
            reply = self.api.get("/devices", ("seen_since", time.time() - 3600))
            self.assertEqual(reply.status, 200, reply.body)
            return {one["device"]: one for one in reply.json["devices"]}

        found = wait_until(lambda: found if self.good.device in (found := read()) else None)
        self.assertEqual(found[self.good.device]["dialect"], "jt709")
        return dict(found)

    def clear(self, *keys: str) -> None:
        """So that the lock has its right keys again before it goes away."""
        self.addCleanup(self.redis.call, "DEL", *keys)


class DeviceGarbageTests(GarbageCase):
    def test_fields_that_are_not_utf_8(self) -> None:
        """A field that can't be read is replaced or unknown, and the other locks are there."""
        key = KEYS.device(self.bad.device)
        for name in ("imei", "firmware", "battery_percent", "alarms", "location"):
            self.redis.call("HSET", key, name, b"\xff")
        found = self.summaries()[self.bad.device]
        self.assertEqual((found["firmware"], found["battery_percent"], found["alarms"]), ("\ufffd", None, []))
        self.assertEqual(self.api.get(f"/devices/{self.bad.device}").json["location"], None)

    def test_a_location_too_deep_to_be_read(self) -> None:
        """It is unknown where that lock is."""
        self.redis.call(
            "HSET", KEYS.device(self.bad.device), "location", DEEP, "place", DEEP, "battery_percent", "\u00b2"
        )
        found = self.summaries()[self.bad.device]
        self.assertEqual((found["latitude"], found["battery_percent"]), (None, None))
        self.assertEqual(self.api.get(f"/devices/{self.bad.device}").status, 200)

    def test_a_device_of_another_type(self) -> None:
        """A key that is no hash: nothing is known of that lock, but whether it is online."""
        name = "794308999001"
        self.redis.call("SET", KEYS.device(name), "x")
        self.redis.call("HSET", KEYS.session(name), "gateway", "gw9")
        self.redis.call("ZADD", KEYS.devices, str(time.time()), name)
        self.clear(KEYS.device(name), KEYS.session(name))
        self.addCleanup(self.redis.call, "ZREM", KEYS.devices, name)
        found = self.summaries()[name]
        self.assertEqual((found["seen"], found["online"], found["gateway"]), (None, True, "gw9"))

    def test_live_summaries_go_on(self) -> None:
        """One such lock doesn't stop what is told of all."""
        self.redis.call("HSET", KEYS.device(self.bad.device), "firmware", b"\xff")
        with self.api.listen(("devices", 1)) as listener:
            told: set[str] = set()

            def both() -> bool:
                for lock in (self.bad, self.good):
                    lock.report()
                told.update(one["device"] for one in listener.next("devices")["devices"])
                return {self.bad.device, self.good.device} <= told

            wait_until(both)

    def test_an_alias_that_is_not_utf_8(self) -> None:
        """An IMEI that leads nowhere."""
        self.redis.call("HSET", KEYS.imei, "123456789012345", b"\xff")
        self.addCleanup(self.redis.call, "HDEL", KEYS.imei, "123456789012345")
        self.assertEqual(self.api.get("/devices/123456789012345").status, 404)
        self.assertEqual(self.api.get("/events", ("device", "123456789012345")).json["entries"], [])

    def test_a_peripheral_that_is_not_utf_8(self) -> None:
        """It is shown as far as it can be read."""
        self.redis.call("ZADD", KEYS.peripherals(self.bad.device), "1", "E03B60000A")
        self.redis.call("HSET", KEYS.peripheral("E03B60000A"), "type", b"\xff", "battery_percent", "9" * 5000)
        self.clear(KEYS.peripherals(self.bad.device), KEYS.peripheral("E03B60000A"))
        [found] = self.api.get(f"/devices/{self.bad.device}").json["peripherals"]
        self.assertEqual((found["type"], found["battery_percent"]), ("\ufffd", None))


class EventGarbageTests(GarbageCase):
    def test_track_with_times_that_cannot_be_compared(self) -> None:
        """Points without an offset, and out of all time, are left out."""
        key = KEYS.track(self.bad.device)
        self.redis.call("DEL", key)
        good = '["2026-01-01T00:00:00Z",1,2,null,null]'
        for time_ in ("2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
            self.redis.call("RPUSH", key, f'["{time_}",1,2,null,null]', good)
        self.redis.call("RPUSH", key, DEEP, b"\xff", "{}", "")
        for query in ((), (("since", "0001-01-01"),)):
            reply = self.api.get(f"/devices/{self.bad.device}/track", *query)
            self.assertEqual(
                [one["time"] for one in reply.json["points"]], ["2026-01-01T00:00:00.000000Z"] * 3
            )

    def test_entries_that_are_no_events(self) -> None:
        """They are left out of the audit trail and of the stream."""
        before = len(self.api.get(f"/devices/{self.bad.device}/history").json["entries"])
        for key in (KEYS.history(self.bad.device), KEYS.events):
            for event in (DEEP, LATIN, "[]", ""):
                fields = ("kind", "lock", "device", self.bad.device, "event", event)
                self.redis.call("XADD", key, "*", *fields)
            self.redis.call("XADD", key, "*", "kind", b"\xff")
        reply = self.api.get(f"/devices/{self.bad.device}/history")
        self.assertEqual(len(reply.json["entries"]), before)
        self.assertEqual(self.api.get("/events", ("device", self.bad.device)).status, 200)

    def test_commands_too_deep_to_be_read(self) -> None:
        """A record that can't be read is left out of the list."""
        self.redis.call("HSET", KEYS.command("deep"), "state", "sent", "params", DEEP)
        self.redis.call("ZADD", KEYS.recent_commands, str(time.time()), "deep")
        self.clear(KEYS.command("deep"))
        self.assertEqual(self.api.get("/commands/deep").status, 404)
        self.assertEqual(self.api.get("/commands").json["commands"], [])

    def test_published_garbage(self) -> None:
        """What is published and no event doesn't end the connection on which the others come."""
        lock: FakeLock = self.good
        with self.api.listen(("device", lock.device), ("kind", "lock")) as listener:
            channel = KEYS.channel("lock", lock.device)
            wait_until(lambda: self.redis.call("PUBSUB", "NUMSUB", channel)[1] == 1)
            for payload in (DEEP, b'{"id":\n"\xff"}', b"\xff", "[]", '{"id":1}', ""):
                self.redis.call("PUBLISH", channel, payload)
            self.redis.call("PUBLISH", channel, '{"id":"x\\n\\nevent: evil","a":1,\r\n"b":2}')
            self.assertEqual(listener.next("event"), {"id": "x\n\nevent: evil", "a": 1, "b": 2})
        self.assertEqual(self.daemon.log().count("lost the connection to Redis"), 0)


class ParameterGarbageTests(GarbageCase):
    def test_parameters_that_are_not_ascii(self) -> None:
        """They are refused like any other, by value or by name."""
        self.assert_bad("/devices", "limit", "\u0663", "a whole number")
        reply = self.api.get("/devices", ("\u00e9", 1))
        self.assertEqual(
            (reply.status, "unknown parameter 1 (a name of 1 character)" in reply.error["message"]),
            (400, True),
        )
        target = f"{BASE}/devices?limit=%ff"
        self.assertEqual(self.api.fetch("GET", target).status, 400)
        self.assertEqual(self.api.get("/explain", ("frame", "(\u00e9)")).status, 400)

    def test_times_before_1970(self) -> None:
        """Nothing ended before, and everything came after."""
        self.bad.open()
        for path in ("/events", f"/devices/{self.bad.device}/history"):
            everything = self.api.get(path).json["entries"]
            self.assertTrue(everything)
            for at in ("1960-01-01T00:00:00Z", "0001-01-01", "0001-01-01T00:00:00+14:00"):
                found = self.api.get(path, ("since", at), ("limit", len(everything)))
                self.assertEqual((found.status, len(found.json["entries"])), (200, len(everything)))
        for more in ((), (("cursor", "5-0"),)):
            path = f"/devices/{self.bad.device}/history"
            found = self.api.get(path, ("until", "1960-01-01T00:00:00Z"), *more)
            self.assertEqual((found.status, found.json["entries"]), (200, []))


class UnitTests(SynchronousTestCase):
    def test_summaries_never_fail(self) -> None:
        """The command line reads the same records."""
        for value in (DEEP, DEEP.encode(), b"\xff", "\u00b2", "[]", ""):
            summarise("1", [value] * len(DEVICE_FIELDS), [value] * 4)

    def test_bytes_in_an_event_do_not_end_its_message(self) -> None:
        """A message is one line of data."""
        data = live_events._event(b'{"id":"a\\nb",\n\n"x":\r1}')
        self.assertEqual(data, b'event: event\ndata: {"id":"a\\nb","x":1}\n\n')
