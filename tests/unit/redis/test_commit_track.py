"""Where a lock has been: the list that commit.lua keeps of its positions (docs/redis.rst)."""

import json
from datetime import timedelta
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.committer import Limits
from tests.support import key_prefix, shared_server
from tests.support.committer import Script, Teller
from tests.vectors import MOMENT, binary, location

DEVICE = "794308010679"
#: Longer than commit.lua pushes in one go.
MANY = 1200


def report(serial: int, **changes: Any) -> bytes:
    return binary(0x0200, location(**changes), serial)


def memory(serial: int, *bodies: bytes) -> bytes:
    """A 0x0704 message of stored reports."""
    items = b"".join(len(body).to_bytes(2, "big") + body for body in bodies)
    return binary(0x0704, len(bodies).to_bytes(2, "big") + b"\x01" + items, serial)


class TrackTests(SynchronousTestCase):
    def make(self, track: int) -> None:
        client = shared_server().client()
        self.addCleanup(client.close)
        self.script = Script(client, key_prefix(), Limits(track=track, devices=2))
        self.teller = Teller()

    def commit(self, *frames: bytes) -> None:
        self.assertEqual(self.script.commit(self.teller.contents(*frames)), 0)

    def track(self, device: str = DEVICE) -> list[Any]:
        key = self.script.keys.track(device)
        return [json.loads(entry) for entry in self.script.client.call("LRANGE", key, 0, -1)]

    def test_positions(self) -> None:
        """Each position of a batch is kept as the event says it, the newest arrival last."""
        self.make(10)
        later = MOMENT + timedelta(minutes=1)
        self.commit(
            report(1),
            report(2, latitude=1e-6, longitude=179.999999, speed_kmh=80, course_deg=359, time=later),
        )
        self.assertEqual(
            self.track(),
            [
                ["2025-11-18T11:26:11Z", -25.269608, -57.602956, 1.8, 0],
                ["2025-11-18T11:27:11Z", 1e-6, 179.999999, 80, 359],
            ],
        )
        for point, event in zip(self.track(), self.script.events("location"), strict=True):
            data = event["data"]
            fields = ("time", "latitude", "longitude", "speed_kmh", "course_deg")
            self.assertEqual(point, [data[name] for name in fields])

    def test_step(self) -> None:
        """A lock that reports every second leaves one point in ten, and one that reports every ten all."""
        self.make(100)
        for second in range(49):
            self.commit(report(second, time=MOMENT + timedelta(seconds=second)))
            self.teller.wall += timedelta(seconds=1)
        seconds = [point[0][14:19] for point in self.track()]
        self.assertEqual(seconds, ["26:11", "26:20", "26:30", "26:40", "26:50"])
        for number in range(5):
            self.commit(report(100 + number, time=MOMENT + timedelta(seconds=50 + 10 * number)))
        self.assertEqual(len(self.track()), 10)

    def test_out_of_order(self) -> None:
        """A live report that was overtaken is a point as well."""
        self.make(10)
        self.commit(report(1), report(2, time=MOMENT - timedelta(seconds=3)))
        self.assertEqual([point[0][14:19] for point in self.track()], ["26:11", "26:08"])

    def test_memory(self) -> None:
        """Reports out of a lock's memory are part of its track, though they change no state."""
        self.make(10)
        before = location(time=MOMENT - timedelta(hours=3))
        self.commit(report(1), memory(2, before))
        times = [point[0] for point in self.track()]
        self.assertEqual(times, ["2025-11-18T11:26:11Z", "2025-11-18T08:26:11Z"])

    def test_nowhere(self) -> None:
        """What has no time, or no place on this globe, is no point of a track."""
        self.make(10)
        body = location()
        impossible = body[:-6] + bytes.fromhex("251340990000")
        self.commit(binary(0x0200, impossible, 1), report(2, latitude=91.0))
        self.assertEqual(len(self.script.events("location")), 2)
        self.assertEqual(self.track(), [])

    def test_again(self) -> None:
        """A report that comes again is no second point."""
        self.make(10)
        self.commit(report(1))
        self.script.commit(self.teller.contents(report(1)))
        self.assertEqual(len(self.track()), 1)

    def test_not_written(self) -> None:
        """A report whose position can't be kept stays unanswered, and is taken for new when it comes again.

        Other locks of the same batch don't suffer from that.
        """
        self.make(10)
        key, other = self.script.keys.track(DEVICE), "794308010701"
        self.script.client.call("SET", key, "in the way")
        both = (report(1), binary(0x0200, location(), 1, bytes.fromhex(other)))
        contents = self.teller.contents(*both)
        duplicates, index, reason = self.script.commit(contents)
        self.assertEqual((duplicates, contents[index][0]), (0, DEVICE))
        self.assertIsNotNone(contents[index][1])
        self.assertIn(b"WRONGTYPE", reason)
        self.assertEqual(len(self.track(other)), 1)
        self.script.client.call("DEL", key)
        self.assertEqual(self.script.commit(self.teller.contents(*both)), 1)
        self.assertEqual((len(self.track()), len(self.track(other))), (1, 1))

    def test_cap(self) -> None:
        """The newest stay; what is beyond the limit is cut, at the latest when it is 50 too many."""
        self.make(10)
        for minute in range(150):
            self.commit(report(minute, time=MOMENT - timedelta(minutes=149 - minute)))
            self.assertLessEqual(len(self.track()), 60)
        minutes = [point[0][11:16] for point in self.track()]
        self.assertEqual(minutes[-1], "11:26")
        self.assertEqual(minutes, sorted(minutes))
        self.assertGreaterEqual(len(minutes), 10)

    def test_long_memory(self) -> None:
        """A batch may hold more positions than a list takes in one go."""
        self.make(2 * MANY)
        bodies = [location(time=MOMENT - timedelta(minutes=minute)) for minute in range(MANY)]
        frames = [memory(number, *bodies[number::50]) for number in range(50)]
        self.commit(*frames)
        self.assertEqual(len(self.track()), MANY)

    def test_none(self) -> None:
        """With a limit of 0 no track is kept."""
        self.make(0)
        self.commit(report(1))
        self.assertEqual(self.script.client.call("EXISTS", self.script.keys.track(DEVICE)), 0)

    def test_forgotten(self) -> None:
        """The track goes with the device when there are too many of them."""
        self.make(10)
        self.commit(report(1))
        for number in range(2):
            self.teller.wall += timedelta(seconds=1)
            self.commit(binary(0x0200, location(), 1, bytes.fromhex(f"79430801070{number}")))
        self.assertEqual(self.track(), [])
        self.assertEqual(len(self.track("794308010701")), 1)
