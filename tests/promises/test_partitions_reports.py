"""Promise 1 with several partitions: what is answered is committed, and one that is away stops no other."""

from collections import Counter

from tests.support.command_bench import GATEWAY_TTL, START
from tests.support.commands import FakeLock
from tests.support.committer import FakeLink
from tests.support.partitioned_bench import PartitionedCase, PartitionedNode
from tests.support.reporter import answered, stream_events


class ReportCase(PartitionedCase):
    def frames(self, lock: FakeLock, count: int) -> list[bytes]:
        """Return so many reports of a lock."""
        return [lock.location(at=START + number) for number in range(count)]

    def answers(self, link: FakeLink) -> list[int]:
        """Return the serials that were answered over a connection."""
        frames = FakeLock("0").framer().feed(b"".join(link.sent))
        return [answered(one.raw) for one in frames if one.raw[1:3] == b"\x80\x01"]

    def stored(self) -> Counter[tuple[str, int]]:
        """Return how often each report is in the streams."""
        events = stream_events(self.client.redis, self.layout.prefix)
        return Counter((one["device"], one["serial"]) for one in events if one["kind"] == "location")


class AwayTests(ReportCase):
    def test_full(self) -> None:
        """The committer of a partition that is away fills up: its locks wait, and no report is lost."""
        self.node.parts[1].committer.max_unacked = 3
        away, other = self.node.come(self.locks[1]), self.node.come(self.locks[2])
        self.node.parts[1].lose()
        self.node.feed(away, *self.frames(self.locks[1], 10))
        self.assertFalse(away.reading)
        self.assertEqual(self.node.parts[1].committer.unacked, 3)
        for number in range(5):
            self.node.feed(other, *self.frames(self.locks[2], 2))
            self.node.run()
            self.assertEqual(len(self.answers(other)), 3 + 2 * number)
        self.assertEqual(self.answers(away), [1])
        self.node.parts[1].reconnect()
        self.node.pass_time(1)
        self.assertEqual(self.answers(away), list(range(1, 12)))
        self.assertTrue(away.reading)
        self.assertEqual(set(self.stored().values()), {1})
        self.assertEqual(len(self.stored()), 22)

    def test_many_devices_on_one_connection(self) -> None:
        """A connection with devices of several partitions: each report is answered once all can be used."""
        self.node.parts[1].committer.max_unacked = 3
        link = self.node.come(self.locks[0])
        for lock in self.locks[1:]:
            self.node.feed(link, *self.frames(lock, 1))
        self.node.run()
        self.node.parts[1].lose()
        for _ in range(20):
            for lock in self.locks:
                self.node.feed(link, *self.frames(lock, 1))
            self.node.pass_time(0.1)
        self.node.parts[1].reconnect()
        self.node.pass_time(2)
        self.assertEqual(len(self.answers(link)), 84)
        self.assertEqual(set(self.stored().values()), {1})

    def test_malformed(self) -> None:
        """Unreadable input is stored in partitions that can be reached, with whichever peer it comes."""
        self.node.parts[2].lose()
        for number in range(20):
            link = FakeLink("tcp", f"192.0.2.{number}:50112")
            link.connection = self.node.gateway.open(link)
            self.node.feed(link, b"\x7e\x02\x00\x00\x01\x7e")
        self.node.run()
        counts = [self.redis.call("XLEN", keys.malformed) for keys in self.layout]
        self.assertEqual((sum(counts), counts[2]), (20, 0))


class SessionTests(ReportCase):
    def test_superseded(self) -> None:
        """A lock has gone to another gateway: the late one loses its connection, whichever its partition."""
        links = [self.node.come(lock) for lock in self.locks]
        other = PartitionedNode(self.guarded, self.layout, "gw2", self.node.clock.seconds()).start()
        for lock in self.locks:
            other.come(lock)
        for lock, link in zip(self.locks, links, strict=True):
            self.node.feed(link, *self.frames(lock, 1))
            self.node.run()
            self.assertTrue(link.closed)
            self.assertEqual(len(self.answers(link)), 1)

    def test_gateway_dies(self) -> None:
        """The locks of a dead gateway go offline, in each partition once."""
        for lock in self.locks:
            self.node.come(lock)
        other = PartitionedNode(self.guarded, self.layout, "gw2", self.node.clock.seconds()).start()
        for one in self.node.parts:
            one.lose()
        self.redis.call("DEL", *[keys.gateway("gw1") for keys in self.layout])
        other.pass_time(2 * GATEWAY_TTL)
        events = [one for one in self.client.events("session") if one["data"]["state"] == "offline"]
        self.assertEqual(sorted(one["device"] for one in events), sorted(one.device for one in self.locks))
        self.assertEqual({one["gateway"] for one in events}, {"gw2"})
