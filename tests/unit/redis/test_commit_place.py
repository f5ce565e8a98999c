"""A report without a place: what is known of where the lock is (docs/redis.rst)."""

import json
from datetime import timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis import device_summary
from jt709c_gateway.redis.committer import Limits
from tests.support import key_prefix, shared_server
from tests.support.committer import Script, Teller
from tests.vectors import MOMENT, binary, location
from tests.vectors.lines import Line, line_test, sent

DEVICE = "794308010679"
LATER = MOMENT + timedelta(seconds=50)
NOWHERE: dict[str, Any] = {"latitude": 0.0, "longitude": 0.0, "status": 0, "time": LATER}


class PlaceTests(SynchronousTestCase):
    def setUp(self) -> None:
        client = shared_server().client()
        self.addCleanup(client.close)
        self.script = Script(client, key_prefix(), Limits(track=10, devices=2))
        self.teller = Teller()

    def commit(self, *frames: bytes) -> None:
        self.assertEqual(self.script.commit(self.teller.contents(*frames)), 0)

    def field(self, name: str, device: str = DEVICE) -> Any:
        value = self.script.client.call("HGET", self.script.keys.device(device), name)
        return None if value is None else json.loads(value)

    def check(self) -> None:
        place = self.field("place")
        self.assertEqual((place["latitude"], place["longitude"]), (-25.269608, -57.602956))
        self.assertEqual((place["time"], place["fix"]), ("2025-11-18T11:26:11Z", "gnss"))
        latest = self.field("location")
        self.assertEqual(latest["time"], "2025-11-18T11:27:01Z")
        self.assertEqual((latest["fix"], latest["latitude"], latest["longitude"]), ("none", None, None))
        track = self.script.client.call("LRANGE", self.script.keys.track(DEVICE), 0, -1)
        self.assertEqual(len(track), 1)
        self.assertEqual(len(self.script.events("location")), 2)
        values = [
            self.script.client.call("HGET", self.script.keys.device(DEVICE), name)
            for name in device_summary.DEVICE_FIELDS
        ]
        shown = device_summary.summarise(DEVICE, values, [None] * 4)
        self.assertEqual((shown.latitude, shown.position_time), (-25.269608, "2025-11-18T11:26:11Z"))
        self.assertEqual(shown.fix, "none")

    def test_kept_in_another_batch(self) -> None:
        """The last place stays, with its own time; that the report came is told, and seen in the hash."""
        self.commit(binary(0x0200, location(), 1))
        self.commit(binary(0x0200, location(**NOWHERE), 2))
        self.check()

    def test_kept_in_the_same_batch(self) -> None:
        """The same when both come at once."""
        self.commit(binary(0x0200, location(), 1), binary(0x0200, location(**NOWHERE), 2))
        self.check()

    def test_never_had_one(self) -> None:
        """Without any place there is none."""
        self.commit(binary(0x0200, location(**NOWHERE), 1))
        self.assertIsNone(self.field("place"))

    def test_without_a_fix(self) -> None:
        """A place that the lock tells without a fix is shown as what it is, and is no place with a fix."""
        self.commit(binary(0x0200, location(), 1))
        self.commit(binary(0x0200, location(status=0, latitude=1.0, time=LATER), 2))
        self.assertEqual(self.field("place")["latitude"], -25.269608)
        self.assertEqual(self.field("location")["latitude"], 1.0)

    def test_of_a_base_station(self) -> None:
        """The place of a base station is one."""
        self.commit(binary(0x0200, location(status=64, latitude=1.0), 1))
        self.assertEqual((self.field("place")["latitude"], self.field("place")["fix"]), (1.0, "lbs"))

    @line_test("F8")
    def no_view_of_the_sky(self, line: Line) -> None:
        """A parked lock without a view of the sky doesn't jump into the Gulf of Guinea."""
        for frame in sent(line):
            self.commit(frame)
        device = "102000000005"
        self.assertEqual(self.field("place", device)["latitude"], 20.0)
        self.assertIsNone(self.field("location", device)["latitude"])
