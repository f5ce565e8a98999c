"""commit.lua against a real server: which alarms begin and end with a report."""

from datetime import UTC, datetime, timedelta
from typing import Any

from jt709c_gateway.protocol import jt709
from jt709c_gateway.protocol.jt808 import pack
from tests.support.committer import NOW, Teller
from tests.unit.redis.test_commit_script import FENCE, LOW_BATTERY, ScriptCase, report
from tests.vectors import MOMENT, binary, location


class AlarmTests(ScriptCase):
    def alarms(self) -> list[tuple[str, bool]]:
        return [(one["data"]["name"], one["data"]["active"]) for one in self.script.events("alarm")]

    def send(
        self, serial: int, bits: int, seconds: int = 0, teller: Teller | None = None, **changes: Any
    ) -> None:
        frame = report(serial, alarm_bits=bits, time=MOMENT + timedelta(seconds=seconds), **changes)
        self.script.commit((teller or self.teller).contents(frame))

    def test_rise_and_clear(self) -> None:
        """An alarm is told when it rises and when it clears, not in between."""
        for serial, bits in enumerate((0, LOW_BATTERY, LOW_BATTERY, LOW_BATTERY | FENCE, FENCE, 0), 1):
            self.send(serial, bits, serial)
        self.assertEqual(
            self.alarms(),
            [
                ("low_battery", True),
                ("fence_entered", True),
                ("low_battery", False),
                ("fence_entered", False),
            ],
        )
        self.assertEqual(self.device()["alarms"], "[]")

    def test_the_event(self) -> None:
        """An alarm event has the envelope of the location that shows it, and an id of its own."""
        self.send(1, LOW_BATTERY | FENCE)
        (cause,) = self.script.events("location")
        first, second = self.script.events("alarm")
        for alarm in (first, second):
            for name in ("v", "device", "imei", "dialect", "serial", "stored", "received_at", "peer", "raw"):
                self.assertEqual(alarm[name], cause[name], name)
        self.assertEqual(len({cause["id"], first["id"], second["id"]}), 3)
        self.assertEqual(list(first), list(cause))
        self.assertEqual(
            first["data"],
            {
                "time": "2025-11-18T11:26:11Z",
                "name": "low_battery",
                "active": True,
                "latitude": -25.269608,
                "longitude": -57.602956,
            },
        )

    def test_whose_clock_is_wrong(self) -> None:
        """What is live is so by Redis's time, whatever a gateway or what is stored has for it."""
        now = datetime.now(UTC).replace(microsecond=0)
        key = self.keys.device("794308010679")
        for number, known in enumerate((now - timedelta(seconds=30), now + timedelta(hours=1)), start=1):
            self.client.call("HSET", key, "location_time", int(known.timestamp()), "alarms", "[]")
            frame = report(number, alarm_bits=LOW_BATTERY, time=now)
            # The teller is a year behind, and knows no better.
            self.script.commit(self.teller.contents(frame), sent_at=NOW.timestamp())
            self.assertEqual(self.alarms(), [("low_battery", True)] * number)
        seen = float(self.client.call("ZSCORE", self.keys.devices, "794308010679"))
        self.assertLess(abs(seen - now.timestamp()), 600)

    def test_reconnect(self) -> None:
        """A lock that comes back with its alarm still on raises nothing anew."""
        self.send(1, LOW_BATTERY)
        self.script.commit(self.teller.leaves())
        self.send(2, LOW_BATTERY, 1, Teller())
        self.assertEqual(self.alarms(), [("low_battery", True)])

    def test_other_gateway(self) -> None:
        """The last known state is the fleet's: another gateway sees the alarm clear."""
        self.send(1, LOW_BATTERY)
        frame = report(2, time=MOMENT + timedelta(seconds=1))
        self.script.commit(Teller("gw2").contents(frame), "gw2", "boot2")
        self.assertEqual(self.alarms(), [("low_battery", True), ("low_battery", False)])

    def test_unnamed_bit(self) -> None:
        """A bit nobody names rises and clears by its number."""
        self.send(1, 1 << 29)
        self.send(2, 0, 1)
        self.assertEqual(self.alarms(), [("bit_29", True), ("bit_29", False)])

    def test_stored_report(self) -> None:
        """A report from the lock's memory is published and changes no state."""
        self.send(1, 0)
        before = {key: value for key, value in self.device().items() if key != "seen"}
        item = location(alarm_bits=LOW_BATTERY, status=jt709.STATUS_MOTOR, time=MOMENT + timedelta(hours=1))
        self.commit(binary(0x0704, b"\x00\x01\x01" + len(item).to_bytes(2, "big") + item, 2))
        after = {key: value for key, value in self.device().items() if key != "seen"}
        self.assertEqual(after, before)
        self.assertEqual(self.alarms(), [])
        self.assertEqual([one["stored"] for one in self.script.events("location")], [False, True])

    def test_older_report(self) -> None:
        """A report that is older than the last known one is published and changes no state."""
        self.send(1, LOW_BATTERY, 60)
        self.send(2, 0, 0, status=jt709.STATUS_MOTOR)
        self.assertEqual(self.alarms(), [("low_battery", True)])
        self.assertEqual(self.device()["lock_state"], "locked")
        self.assertEqual(len(self.script.events("location")), 2)

    def test_same_second(self) -> None:
        """Of two reports in one second the later one counts."""
        self.send(1, LOW_BATTERY)
        self.send(2, 0)
        self.assertEqual(self.alarms(), [("low_battery", True), ("low_battery", False)])

    def test_impossible_time(self) -> None:
        """A report without a readable time counts as of now: it changes the state, and no older one does."""
        frame = bytearray(report(1, alarm_bits=LOW_BATTERY)[1:-2])
        frame[12 + 22 : 12 + 28] = b"\x99" * 6
        self.commit(pack(bytes(frame)))
        (event,) = self.script.events("location")
        self.assertIsNone(event["data"]["time"])
        (alarm,) = self.script.events("alarm")
        self.assertIsNone(alarm["data"]["time"])
        self.send(2, 0)
        self.assertEqual(self.alarms(), [("low_battery", True)])
        self.send(3, 0, 3600)
        self.assertEqual(self.alarms(), [("low_battery", True), ("low_battery", False)])

    def test_clock_in_the_future(self) -> None:
        """A lock whose clock was years ahead and is right now has its reports counted again."""
        self.send(1, LOW_BATTERY, 10 * 365 * 86400)
        self.teller.wall += timedelta(minutes=5)
        self.send(2, 0, 400)
        self.assertEqual(self.alarms(), [("low_battery", True), ("low_battery", False)])
