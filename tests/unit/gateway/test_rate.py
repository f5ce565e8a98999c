"""How often a lock is heard: what happens to one that sends more than it may, and to one that doesn't."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.event_budget import share_of
from jt709c_gateway.gateway.policy import Policy
from tests.support.committer import FakeLink, Fleet, events_in
from tests.vectors import binary, location, part

FIRST, SECOND = "794308010679", "794308010680"


def heartbeats(first: int, last: int, device: str = FIRST) -> list[bytes]:
    return [binary(0x0002, serial=serial, wire=bytes.fromhex(device)) for serial in range(first, last + 1)]


class RateCase(SynchronousTestCase):
    """Two frames a second, so twenty at once."""

    rate = 2.0

    def setUp(self) -> None:
        self.fleet = Fleet(Policy(max_rate=self.rate))
        self.counters = self.fleet.gateway.counters
        self.link = self.fleet.link()

    def heard(self) -> list[int]:
        """The serials of the heartbeats that are committed now."""
        return [one["serial"] for one in events_in(self.fleet.commit()) if one["kind"] == "heartbeat"]

    def after(self, seconds: float) -> list[int]:
        """What is heard so many seconds later, when those who wait are read on."""
        self.fleet.clock.advance(seconds)
        self.fleet.gateway.sweep()
        return self.heard()


class ConnectionTests(RateCase):
    def test_burst(self) -> None:
        """Ten seconds' worth is heard at once; then reading stops."""
        self.fleet.feed(self.link, *heartbeats(1, 30))
        self.assertEqual(self.heard(), list(range(1, 21)))
        self.assertFalse(self.link.reading)
        self.assertEqual((self.counters.rate_pauses, self.counters.pauses), (1, 0))

    def test_nothing_lost(self) -> None:
        """What came too early is heard at the rate, in order, and each frame once; then reading goes on."""
        self.fleet.feed(self.link, *heartbeats(1, 30))
        self.fleet.feed(self.link, *heartbeats(31, 32))
        self.assertEqual(self.heard(), list(range(1, 21)))
        self.assertEqual(self.after(2), [21, 22, 23, 24])
        self.assertEqual(self.after(2), [25, 26, 27, 28])
        self.assertFalse(self.link.reading)
        self.assertEqual(self.after(2), [29, 30, 31, 32])
        self.assertTrue(self.link.reading)
        self.assertEqual(len(b"".join(self.link.sent).split(b"\x7e\x7e")), 32)
        self.assertEqual(self.link.closed, [])

    def test_too_early(self) -> None:
        """Where there is no room for one frame yet, it goes on waiting."""
        self.fleet.feed(self.link, *heartbeats(1, 21))
        self.heard()
        self.assertEqual(self.after(0.4), [])
        self.assertEqual(self.after(0.4), [21])

    def test_at_the_rate(self) -> None:
        """A lock that keeps to the rate is never stopped, however long."""
        for number in range(1, 400, 2):
            self.fleet.feed(self.link, *heartbeats(number, number + 1))
            self.assertEqual(self.heard(), [number, number + 1])
            self.fleet.clock.advance(1)
        self.assertEqual(self.counters.rate_pauses, 0)

    def test_above_the_rate(self) -> None:
        """One that sends twice as much is heard at the rate in the long run, with one burst on top."""
        heard, sent = 0, 0
        for _ in range(100):
            sent += 8
            self.fleet.feed(self.link, *heartbeats(sent - 7, sent))
            heard += len(self.heard()) + len(self.after(2))
        self.assertTrue(2 * 200 <= heard <= 2 * 200 + 20, heard)

    def test_after_a_rest(self) -> None:
        """However long it was silent, no more than ten seconds' worth is saved up."""
        self.fleet.feed(self.link, *heartbeats(1, 20))
        self.heard()
        self.fleet.clock.advance(500)
        self.fleet.feed(self.link, *heartbeats(21, 60))
        self.assertEqual(self.heard(), list(range(21, 41)))

    def test_others(self) -> None:
        """Other locks are not slowed down, but for those on the same connection."""
        other = self.fleet.link()
        self.fleet.feed(self.link, *heartbeats(1, 30), *heartbeats(1, 1, SECOND))
        self.heard()
        self.fleet.feed(other, *heartbeats(1, 1, "794308010681"))
        self.assertEqual(self.heard(), [1])
        self.assertEqual(len(self.fleet.gateway.sessions), 2)
        self.after(5)
        self.assertEqual(len(self.fleet.gateway.sessions), 3)

    def test_connects_anew(self) -> None:
        """A lock that comes over a new connection while it is here has what is left but for one event."""
        self.fleet.feed(self.link, *heartbeats(1, 15))
        self.fleet.feed(self.fleet.link(), *heartbeats(16, 40))
        self.assertEqual(self.heard(), list(range(1, 20)))

    def test_split_message(self) -> None:
        """The last part of a split message waits as the whole message that it completes."""
        body = location()
        self.fleet.feed(self.link, *heartbeats(1, 20), part(0x0200, body[:20], 21, 2, 1))
        self.fleet.feed(self.link, part(0x0200, body[20:], 22, 2, 2))
        self.heard()
        self.assertFalse(self.link.reading)
        self.fleet.clock.advance(2)
        self.fleet.gateway.sweep()
        self.assertEqual([one["kind"] for one in events_in(self.fleet.commit())], ["location"])

    def test_gone(self) -> None:
        """A connection that ends while it waits is forgotten with what it had sent."""
        self.fleet.feed(self.link, *heartbeats(1, 30))
        self.heard()
        self.link.connection.closed("closed")
        self.assertEqual(self.after(10), [])
        self.assertEqual(self.fleet.gateway.rate_limiter._throttled, {})

    def test_both_limits(self) -> None:
        """A lock that has to wait for Redis as well loses nothing either."""
        self.fleet = Fleet(Policy(max_rate=self.rate), max_unacked=6)
        self.link = self.fleet.link()
        self.fleet.feed(self.link, *heartbeats(1, 30))
        heard = self.heard()
        for _ in range(6):
            heard += self.after(2)
        self.assertEqual(heard, list(range(1, 31)))
        self.assertTrue(self.link.reading)


class DatagramTests(RateCase):
    def setUp(self) -> None:
        super().setUp()
        self.link: FakeLink = self.fleet.link("udp", "192.0.2.7:1")

    def test_let_go(self) -> None:
        """Datagrams over the limit are let go, unanswered and counted; later ones are heard again."""
        for frame in heartbeats(1, 30):
            self.fleet.feed(self.link, frame)
        self.assertEqual(self.heard(), list(range(1, 21)))
        self.assertEqual((self.counters.dropped["rate"], self.link.closed), (10, []))
        self.assertEqual(len(b"".join(self.link.sent).split(b"\x7e\x7e")), 20)
        self.fleet.clock.advance(2)
        for frame in heartbeats(21, 30):
            self.fleet.feed(self.link, frame)
        self.assertEqual(self.heard(), [21, 22, 23, 24])

    def test_from_new_addresses(self) -> None:
        """That they come from new addresses gains nothing."""
        for number, frame in enumerate(heartbeats(1, 30)):
            self.fleet.feed(self.fleet.link("udp", f"192.0.2.8:{number}"), frame)
        self.assertEqual(self.heard(), list(range(1, 21)))

    def test_many(self) -> None:
        """What is let go doesn't count among what waits for Redis."""
        for frame in heartbeats(1, 300):
            self.fleet.feed(self.link, frame)
        self.heard()
        self.assertEqual(len(self.after(0)), 0)
        self.fleet.clock.advance(1)
        self.fleet.feed(self.link, *heartbeats(301, 301))
        self.assertEqual(self.heard(), [301])


class OffTests(RateCase):
    rate = 0.0

    def test_off(self) -> None:
        """With 0 there is no limit."""
        for first in range(1, 5000, 50):
            self.fleet.feed(self.link, *heartbeats(first, first + 49))
            self.assertEqual(len(self.heard()), 50)
        self.assertEqual(self.counters.rate_pauses, 0)


class SlowTests(RateCase):
    rate = 0.01

    def test_slow(self) -> None:
        """A rate so low that a burst is less than a frame allows one frame at a time."""
        self.fleet.feed(self.link, *heartbeats(1, 3))
        self.assertEqual(self.heard(), [1])
        self.assertEqual(self.after(99), [])
        self.assertEqual(self.after(2), [2])


def batch(serial: int, count: int, device: str = FIRST) -> bytes:
    """A report of many positions."""
    body = location()
    content = count.to_bytes(2, "big") + b"\x01" + (len(body).to_bytes(2, "big") + body) * count
    return binary(0x0704, content, serial, bytes.fromhex(device))


class ShareTests(SynchronousTestCase):
    """A hundred events an hour, at once if need be, at any rate."""

    def setUp(self) -> None:
        self.fleet = Fleet(Policy(max_share=100.0))
        self.counters = self.fleet.gateway.counters
        self.link = self.fleet.link()

    def heard(self, kind: str = "heartbeat") -> int:
        """How many events are committed now."""
        return sum(one["kind"] == kind for one in events_in(self.fleet.commit()))

    def after(self, seconds: float, kind: str = "heartbeat") -> int:
        """How many are so many seconds later."""
        self.fleet.clock.advance(seconds)
        self.fleet.gateway.sweep()
        return self.heard(kind)

    def come_again(self) -> FakeLink:
        """The lock's link is gone, and it has a new one."""
        self.link.close("idle")
        self.link = self.fleet.link()
        return self.link

    def test_what_is_too_much_waits_and_none_is_lost(self) -> None:
        """Reading stops, nothing is answered that is not committed, and goes on as the share comes back."""
        for start in range(1, 121, 20):
            self.fleet.feed(self.link, *heartbeats(start, start + 19))
        found = self.heard()
        self.assertEqual(found, 100)
        self.assertFalse(self.link.reading)
        while found < 120:
            self.assertLessEqual(after := self.after(360), 10)
            found += after
        self.assertEqual(found, 120)
        self.assertTrue(self.link.reading)
        self.assertEqual(len(b"".join(self.link.sent).split(b"\x7e\x7e")), 120)

    def test_events_count_and_not_frames(self) -> None:
        """A batch of 33 positions is 33 events."""
        self.fleet.feed(self.link, *[batch(serial, 33) for serial in range(1, 9)])
        self.assertEqual(self.heard("location"), 132)
        self.assertFalse(self.link.reading)
        self.assertEqual(self.after(360, "location"), 0)
        self.assertEqual(self.after(900, "location"), 33)

    def test_alarms_count(self) -> None:
        """One that rises or clears is an event as well."""
        reports = [
            binary(0x0200, location(alarm_bits=0xFFFF if serial % 2 else 0), serial)
            for serial in range(1, 60)
        ]
        self.fleet.feed(self.link, *reports)
        self.assertLess(self.heard("location"), 12)

    def test_coming_again_gives_nothing_back(self) -> None:
        """Neither over a new connection, with and without the old one, nor as events of sessions."""
        self.fleet.feed(self.link, *heartbeats(1, 60))
        self.assertEqual(self.heard(), 60)
        self.fleet.feed(self.come_again(), *heartbeats(1, 60))
        self.assertEqual(self.heard(), 38)
        for _ in range(50):
            self.fleet.feed(self.come_again(), *heartbeats(1, 1))
        other = self.fleet.link()
        self.fleet.feed(other, *heartbeats(1, 1))
        self.assertEqual([one["kind"] for one in events_in(self.fleet.commit())], ["session"])

    def test_others_on_the_same_link_are_heard(self) -> None:
        """What one lock of a relay sends too much of is left unanswered; it sends that again."""
        self.fleet.feed(self.link, *heartbeats(1, 1, SECOND))
        self.fleet.feed(self.link, *heartbeats(1, 60), *heartbeats(2, 2, SECOND))
        self.heard()
        self.fleet.feed(self.link, *heartbeats(61, 120), *heartbeats(3, 3, SECOND))
        self.assertEqual(self.heard(), 41)
        self.assertEqual(self.counters.dropped["share"], 20)
        self.assertTrue(self.link.reading)

    def test_datagrams(self) -> None:
        """Those beyond it are let go unanswered."""
        link = self.fleet.link("udp")
        for serial in range(1, 111):
            self.fleet.feed(link, *heartbeats(serial, serial))
            self.fleet.commit()
        self.assertEqual(self.counters.dropped["share"], 10)


class DefaultShareTests(SynchronousTestCase):
    def test_of_the_stream(self) -> None:
        """A part of the stream, and never so little that a lock could not be heard."""
        self.assertEqual(share_of(100_000, 20), 20_000)
        self.assertEqual(share_of(100, 20), 1000)
        self.assertEqual(share_of(100_000, 0), 0)
