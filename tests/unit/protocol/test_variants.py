"""Inputs of the kinds that were recorded: other values that say nothing, other lengths, other commands."""

from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import packed_position, sublock, terminal_attributes
from jt709c_gateway.protocol.events import Attributes, Location
from jt709c_gateway.protocol.pnn import imei
from tests.unit.redis.test_commit_script import LOW_BATTERY, ScriptCase
from tests.vectors import MOMENT, binary, fact, location, message
from tests.vectors.lines import published

NOWHERE = packed_position.encode(MOMENT, 0.0, 0.0, False, 0, 0)
P45 = "(8130630001,P45,260915,102329,22.5,N,113.4,E,A,0,15,1,1,0026589876,0,0,9,234,{},7,460:0:19526:584115)"


def batch(kind: int, count: int, *bodies: bytes) -> bytes:
    """A 0x0704 that says how many positions it has."""
    items = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
    return binary(0x0704, count.to_bytes(2, "big") + bytes([kind]) + items)


def accessory(kind: int, rest: bytes, percent: int) -> Any:
    """The data of a report from behind a master."""
    payload = sublock.encode(
        master=NOWHERE, time=MOMENT, peripheral="E03B60000A", serial=7, battery_volts=3.6,
        battery_percent=percent, rssi_dbm=-60, kind=kind, rest=rest,
    )  # fmt: skip
    return message(sublock.encode_report("8055430364", 1, payload)).events[0][1]


class PercentTests(SynchronousTestCase):
    """A percentage above 100 is none, whoever sends it."""

    def test_heartbeat(self) -> None:
        for percent in (0, 100, 101, 170, 255):
            found = fact(binary(0x0002, bytes([percent, 255, 1])))
            self.assertEqual(found.battery_percent, percent if percent <= 100 else None)
            self.assertEqual((found.gsm_signal, found.status_bits), (None, 1))

    def test_behind_a_master(self) -> None:
        for percent in (0, 100, 101, 255):
            expected = percent if percent <= 100 else None
            lock = accessory(4, sublock.encode_jt709(1 << 6, 0, 5, 0, None), percent)
            sensor = accessory(1, sublock.encode_jt126(21.5, percent, 0), percent)
            self.assertEqual((lock.battery_percent, sensor.battery_percent), (expected, expected))
            self.assertEqual(sensor.humidity_percent, expected)


class LockReportImeiTests(SynchronousTestCase):
    def test_check_digit(self) -> None:
        """The report tells the IMEI as it came; the unit is known by it only if its check digit is right."""
        for unit in ("863977039060871", "863977039060872", "863977039060817"):
            (event,) = published(P45.format(unit).encode())
            self.assertEqual((event["data"]["imei"], event["imei"]), (unit, imei(unit)))
        self.assertEqual([imei("863977039060871"), imei("863977039060872")], ["863977039060871", None])
        for none in ("0" * 15, "86397703906087", "8639770390608711", "x" * 15, ""):
            (event,) = published(P45.format(none).encode())
            self.assertNotIn("imei", event["data"])
            self.assertEqual(event["data"]["fence_id"], 7)


class BatchTests(SynchronousTestCase):
    def times(self, raw: bytes) -> list[datetime | None]:
        return [data.time for _, data in message(raw).events if isinstance(data, Location)]

    def test_live_positions_without_a_time(self) -> None:
        """They come last, and so do those of a clock that was reset; the others are in order all the same."""
        moments = [MOMENT + timedelta(minutes=minute) for minute in (3, 1, 2)]
        none = location()[:22] + bytes(6)
        rolled = MOMENT - timedelta(weeks=1024)
        bodies = [location(time=moments[0]), none, *(location(time=time) for time in (rolled, *moments[1:]))]
        self.assertEqual(self.times(batch(0, 5, *bodies)), [*sorted(moments), None, rolled])
        self.assertEqual(self.times(batch(1, 5, *bodies)), [moments[0], None, rolled, *moments[1:]])

    def test_count(self) -> None:
        """Fewer than were counted, none at all, or something cut: that is carried. More are just read."""
        body = location()
        for count, bodies, rest, kinds in (
            (0, [body], b"", ["location"]),
            (1, [body] * 3, b"", ["location"] * 3),
            (3, [body] * 2, b"", ["location"] * 2 + ["unknown"]),
            (2, [body] * 2, b"\x00", ["location"] * 2 + ["unknown"]),
            (2, [body] * 2, b"\x00\x1c\x00", ["location"] * 2 + ["unknown"]),
            (0, [], b"", ["unknown"]),
        ):
            items = b"".join(len(one).to_bytes(2, "big") + one for one in bodies) + rest
            raw = binary(0x0704, count.to_bytes(2, "big") + b"\x00" + items)
            self.assertEqual([event["kind"] for event in published(raw)], kinds, (count, rest))
            self.assertIsNotNone(message(raw).answer)


class BatchStateTests(ScriptCase):
    def test_a_reset_clock_among_live_positions(self) -> None:
        """The newest position that has a time is no older than it, and alarms between them are told."""
        time = self.teller.wall.replace(microsecond=0) - timedelta(minutes=5)
        opened = location(time=time, alarm_bits=LOW_BATTERY)
        closed = location(time=time + timedelta(minutes=1), latitude=1.0)
        reset = location(time=datetime(2000, 1, 1, tzinfo=UTC), latitude=2.0)
        self.commit(batch(0, 3, reset, closed, opened))
        told = [(one["data"]["name"], one["data"]["active"]) for one in self.script.events("alarm")]
        self.assertEqual(told, [("low_battery", True), ("low_battery", False)])
        self.assertIn('"latitude":2.0', self.device()["location"])


class AttributesTests(SynchronousTestCase):
    def test_lengths(self) -> None:
        """Whichever lengths the texts have, they are told by what follows them."""
        unit = Attributes(4, "50000", "CR03", "id00156", "8986000000000000000f", "HW1.0", "FW_2.31")
        head = bytes.fromhex("0100000000123456789012")
        for each in ((5, 20, 7), (5, 8, 7), (5, 30, 30), (11, 30, 30), (11, 20, 7), (5, 20, 30), (11, 30, 7)):
            body = terminal_attributes.encode(unit, each)
            # The last two are no known ending.
            for more in (b"", b"\x03\xff", b"\x03\xff\x00", b"\x01"):
                for raw in (binary(0x0107, body + more), binary(0x0107, body + more, 1, head)):
                    self.assertEqual(fact(raw), unit, each)

    def test_no_card(self) -> None:
        """Without a SIM card the ICCID may be F throughout, or zeros."""
        for iccid in ("f" * 20, "0" * 20):
            unit = Attributes(4, "50000", "CR03", "id00156", iccid, "HW1.0", "FW_2.31")
            for each in ((5, 20, 7), (5, 8, 7), (5, 30, 30), (11, 30, 30)):
                self.assertEqual(fact(binary(0x0107, terminal_attributes.encode(unit, each))), unit)
