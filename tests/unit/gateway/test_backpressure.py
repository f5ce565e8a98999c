"""What has to wait: a lock that does not wait for its answers, and all locks while Redis is away."""

from typing import Any

from tests.support.committer import FakeLink, events_in
from tests.support.gateway_frames import FrameCase, heartbeat
from tests.vectors import binary

DEVICE = "794308010679"


class GreedyTests(FrameCase):
    """A lock that doesn't wait for its answers."""

    def test_waits(self) -> None:
        """Only so many frames of a connection wait for Redis at a time; then the next are taken."""
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 501)])
        self.assertEqual(self.fleet.committer.unacked, 65)
        self.assertFalse(self.link.reading)
        self.fleet.clock.advance(0)
        serials = []
        while self.fleet.redis.pending:
            batch = self.fleet.redis.batch()
            self.assertTrue(len(batch) <= 65)
            serials += [one["serial"] for one in events_in(batch) if one["kind"] == "heartbeat"]
            self.fleet.redis.reply()
            self.fleet.clock.advance(0)
        self.assertEqual(serials, list(range(1, 501)))
        self.assertTrue(self.link.reading)
        self.assertEqual(self.gateway.counters.answers, 500)

    def test_unanswered_kinds(self) -> None:
        """Frames that get no answer, and what can't be read, count as well, and are done with like others."""
        sentences = [b"(794308010679,1,%03d,BASE,11)" % number for number in range(200)]
        pairs = [part for number in range(60) for part in (b"x", heartbeat(number))]
        self.fleet.feed(self.link, *sentences)
        self.assertFalse(self.link.reading)
        self.fleet.commit()
        self.fleet.feed(self.link, *pairs)
        self.assertFalse(self.link.reading)
        self.fleet.commit()
        self.assertTrue(self.link.reading)
        self.assertEqual(self.link.connection._unanswered, 0)

    def test_others(self) -> None:
        """Others don't wait for what it has sent."""
        other = self.fleet.link()
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 501)])
        self.fleet.feed(other, binary(0x0002, wire=bytes.fromhex("794308010680")))
        self.fleet.clock.advance(0)
        self.fleet.redis.reply()
        self.assertEqual(len(other.sent), 1)

    def test_full_at_the_same_time(self) -> None:
        """When there is no room for anybody just then, it goes on when there is."""
        self.fleet.committer.max_unacked = 65
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 201)])
        events = events_in(self.fleet.commit())
        self.assertEqual(len([one for one in events if one["kind"] == "heartbeat"]), 200)
        self.assertTrue(self.link.reading)


class FullTests(FrameCase):
    """Redis is away or slow, and as many frames wait as may."""

    options = {"max_unacked": 6}

    def setUp(self) -> None:
        super().setUp()
        self.fleet.redis.connected = False

    def back(self) -> list[dict[str, Any]]:
        self.fleet.redis.connected = True
        self.fleet.committer.resume()
        return events_in(self.fleet.commit())

    def serials(self, events: list[dict[str, Any]]) -> list[int]:
        return [one["serial"] for one in events if one["kind"] == "heartbeat"]

    def test_paused_and_resumed(self) -> None:
        """A connection is not read from while there is no room; then it goes on where it stopped."""
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 9)])
        self.assertFalse(self.link.reading)
        self.assertEqual(self.fleet.committer.unacked, 6)
        self.fleet.feed(self.link, heartbeat(9), heartbeat(10))
        self.assertEqual(self.fleet.committer.unacked, 6)
        self.assertEqual(self.serials(self.back()), list(range(1, 11)))
        self.assertTrue(self.link.reading)
        self.assertEqual(len(b"".join(self.link.sent).split(b"\x7e\x7e")), 10)
        self.assertEqual(self.gateway.counters.pauses, 1)

    def test_paused_again(self) -> None:
        """What was held back and fills it up again is held back again, nothing lost, nothing twice."""
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 31)])
        self.assertEqual(self.serials(self.back()), list(range(1, 31)))
        self.assertTrue(self.link.reading)

    def test_many(self) -> None:
        """Each of several connections goes on in its own order."""
        links = [self.fleet.link() for _ in range(5)]
        for number, link in enumerate(links):
            wire = bytes.fromhex(f"79430801068{number}")
            self.fleet.feed(link, *[binary(0x0002, serial=serial, wire=wire) for serial in range(1, 9)])
        events = self.back()
        for number in range(5):
            own = [one for one in events if one["device"] == f"79430801068{number}"]
            self.assertEqual(self.serials(own), list(range(1, 9)))
        self.assertTrue(all(link.reading for link in links))

    def test_gone_while_paused(self) -> None:
        """A connection that ends while it is paused is forgotten with what it had sent."""
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 9)])
        self.link.connection.closed("closed")
        self.assertEqual(self.serials(self.back()), [1, 2, 3, 4, 5])

    def test_many_gone_while_paused(self) -> None:
        """Connections that come and go for as long as Redis is away leave nothing behind."""
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 9)])
        for _ in range(100):
            link = self.fleet.link()
            self.fleet.feed(link, heartbeat())
            self.assertFalse(link.reading)
            link.connection.closed("closed")
        self.assertEqual(len(self.gateway.connections), 1)
        self.assertEqual(len(self.gateway._paused), 1)

    def test_error_while_going_on(self) -> None:
        """An error in what one connection had sent closes that one; the others go on."""
        other = self.fleet.link()
        for link, wire in ((self.link, "794308010679"), (other, "794308010680")):
            self.fleet.feed(link, *[binary(0x0002, serial=n, wire=bytes.fromhex(wire)) for n in range(1, 9)])
        held = self.link.connection._decoder

        class Broken:
            def decode(self, frame: Any, now: float) -> None:
                raise RuntimeError("a bug of ours")

        self.assertIsNotNone(held)
        self.link.connection._decoder = Broken()
        events = self.back()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual((self.link.closed, other.closed, other.reading), (["error"], [], True))
        self.assertEqual(self.serials([one for one in events if one["device"] != DEVICE]), list(range(1, 9)))

    def test_datagrams(self) -> None:
        """A datagram for which there is no room is let go, unanswered and counted; the lock repeats it."""
        udp = self.fleet.link("udp", "192.0.2.9:5")
        self.fleet.feed(udp, *[heartbeat(serial) for serial in range(1, 9)])
        self.assertEqual(self.gateway.counters.dropped["unacked"], 1)
        self.fleet.feed(udp, heartbeat(9))
        self.assertEqual(self.serials(self.back()), [1, 2, 3, 4, 5])
        self.assertEqual(self.serials(self.fleet.hear(udp, heartbeat(6))), [6])
        self.assertEqual(udp.closed, [])

    def test_datagrams_of_strangers(self) -> None:
        """Addresses heard from only while there is no room are not remembered."""
        self.fleet.feed(self.link, *[heartbeat(serial) for serial in range(1, 9)])
        stranger: FakeLink = self.fleet.link("udp", "192.0.2.9:5")
        self.fleet.feed(stranger, heartbeat())
        self.assertEqual(stranger.closed, ["unacked"])
        self.assertEqual(self.gateway.counters.dropped["unacked"], 0)
        self.assertEqual(len(self.gateway.connections), 1)
