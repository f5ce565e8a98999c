"""Too many sessions, and what one sender can do with made-up ids: others are served all the same."""

import gc
import time
from itertools import count
from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Policy
from tests.support.committer import FakeLink, Fleet, events_in
from tests.vectors import binary, location

LOCK = bytes.fromhex("794308010679")
#: CPU seconds that nothing may hold the reactor for; the whole of it takes more than five times as long.
LONGEST = 0.1
_serials = count(1)


def wire(number: int) -> bytes:
    """A made-up id."""
    return bytes.fromhex(str(600_000_000_000 + number))


def heartbeat(of: bytes = LOCK) -> bytes:
    return binary(0x0002, serial=next(_serials) & 0xFFFF, wire=of)


class CrowdCase(SynchronousTestCase):
    policy = Policy(idle_timeout=100, max_sessions=40, devices_per_connection=3, sessions_per_address=10)

    def setUp(self) -> None:
        self.fleet = Fleet(self.policy)
        self.gateway = self.fleet.gateway

    def fill(self, link: FakeLink, first: int, number: int) -> FakeLink:
        """So many ids over one link."""
        for one in range(first, first + number):
            self.fleet.hear(link, heartbeat(wire(one)))
        return link

    def check_served(self, link: FakeLink) -> None:
        """A lock that comes is answered, and stays."""
        before = len(link.sent)
        self.fleet.hear(link, heartbeat())
        self.assertEqual((len(link.sent) - before, link.closed), (1, []))
        self.assertIn("794308010679", self.gateway.sessions)
        self.assertTrue(len(self.gateway.sessions) <= 40)


class EvictionTests(CrowdCase):
    """Whoever has more than his places gives way when there are too many sessions."""

    def test_one_connection(self) -> None:
        """One connection with ids for all sessions keeps out nobody, and loses those that are silent."""
        many = self.fill(self.fleet.link(), 0, 40)
        self.fleet.clock.advance(10)
        lively = range(0, 40, 2)
        self.fleet.hear(many, *[heartbeat(wire(number)) for number in lively])
        for number in range(15):
            link = self.fleet.link(peer=f"192.0.2.8:{number}")
            events = self.fleet.hear(link, heartbeat(wire(1000 + number)))
            self.assertEqual(
                [one["data"]["state"] for one in events if one["kind"] == "session"], ["offline", "online"]
            )
            self.assertEqual(events[0]["data"]["reason"], "max_sessions")
            self.assertEqual((len(link.sent), link.closed), (1, []))
        self.assertEqual(many.closed, [])
        self.assertEqual(
            [number for number in lively if str(600_000_000_000 + number) not in self.gateway.sessions], []
        )

    def test_own_places(self) -> None:
        """A connection's first places are its own: with nobody beyond them, a further lock is turned away."""
        links = [self.fill(self.fleet.link(peer=f"192.0.2.{one}:1"), 3 * one, 3) for one in range(13)]
        self.fill(self.fleet.link(peer="192.0.2.99:1"), 900, 1)
        late = self.fleet.link(peer="192.0.2.100:1")
        self.fleet.hear(late, heartbeat())
        self.assertEqual(late.closed, ["max_sessions"])
        self.assertEqual([link.closed for link in links], [[]] * 13)

    def test_many_connections_of_one_address(self) -> None:
        """Nor does one address with many connections, each with few ids; of IPv6 its network counts."""
        for peers in ("192.0.2.7:{}", "[2001:db8::{}]:9"):
            self.setUp()
            for number in range(20):
                self.fill(self.fleet.link(peer=peers.format(number)), 10 * number, 2)
            self.check_served(self.fleet.link(peer="198.51.100.1:1"))

    def test_datagrams(self) -> None:
        """Nor do datagrams from many addresses of one host, or of a relay."""
        for peers in ("192.0.2.7:{}", "192.0.2.7:1"):
            self.setUp()
            links: dict[str, FakeLink] = {}
            for number in range(60):
                peer = peers.format(number)
                link = links.get(peer)
                if link is None or link.closed:
                    link = links[peer] = self.fleet.link("udp", peer)
                self.fleet.hear(link, heartbeat(wire(number)))
            self.check_served(self.fleet.link("udp", "198.51.100.1:1"))
            self.check_served(self.fleet.link("tcp", "198.51.100.1:2"))

    def test_books(self) -> None:
        """When all are gone nothing is counted of them."""
        links = [self.fill(self.fleet.link(peer=f"192.0.2.{one % 3}:{one}"), 5 * one, 5) for one in range(12)]
        self.fill(self.fleet.link(peer="192.0.2.50:1"), 0, 9)
        for connection in list(self.gateway.connections):
            connection.link.close("closed")
        self.fleet.commit()
        room = self.gateway.sessions.room
        self.assertEqual(
            (len(self.gateway.sessions), room._links, room._addresses, room._crowded), (0, {}, {}, {})
        )
        self.assertEqual({link.connection.locks for link in links}, {0})

    def test_silent_ids(self) -> None:
        """An id that is silent for too long ends though others speak over its connection."""
        link = self.fill(self.fleet.link(), 0, 2)
        for _ in range(3):
            self.fleet.clock.advance(40)
            self.fleet.hear(link, heartbeat(wire(0)))
            self.gateway.sweep()
        ended = [one for one in events_in(self.fleet.commit()) if one["kind"] == "session"]
        self.assertEqual(
            [(one["device"], one["data"]["reason"]) for one in ended], [("600000000001", "idle")]
        )
        self.assertEqual(link.closed, [])


class LargeEndTests(SynchronousTestCase):
    """The end of a connection with very many sessions holds up nobody."""

    def setUp(self) -> None:
        self.fleet = Fleet(Policy(idle_timeout=100), max_unacked=1_000)
        self.link = self.fleet.link()
        for first in range(0, 20_000, 50):
            self.fleet.feed(self.link, *[heartbeat(wire(number)) for number in range(first, first + 50)])
            self.fleet.commit()
        # A full collection of so many sessions takes longer than LONGEST; it must not fall into a timed step.
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)

    def timed(self, deed: Any, *arguments: Any) -> None:
        began = time.thread_time()
        deed(*arguments)
        self.assertTrue(time.thread_time() - began < LONGEST)

    def test_in_slices(self) -> None:
        """It is done in slices; what waits for Redis by that stays within its limit; all are told offline."""
        self.timed(self.link.connection.closed, "closed")
        states: list[str] = []
        while self.gateway_busy():
            self.timed(self.fleet.clock.advance, 0.02)
            self.assertTrue(self.fleet.committer.unacked < 1_000)
            states += [one["data"]["state"] for one in events_in(self.fleet.commit())]
        self.assertEqual(states, ["offline"] * 20_000)
        self.assertEqual(len(self.fleet.gateway.sessions), 0)

    def gateway_busy(self) -> bool:
        return len(self.fleet.gateway.sessions) > 0 or self.fleet.gateway.time_slicer.running > 0

    def test_back_meanwhile(self) -> None:
        """A lock that is back before its turn has come is there, and is not told offline after that."""
        self.link.connection.closed("closed")
        again = self.fleet.link()
        self.fleet.feed(again, heartbeat(wire(19_999)))
        events: list[dict[str, Any]] = []
        while self.fleet.gateway.time_slicer.running:
            self.fleet.clock.advance(0.02)
            events += events_in(self.fleet.commit())
        told = [
            one["data"]["state"]
            for one in events
            if one["device"] == "600000019999" and one["kind"] == "session"
        ]
        self.assertEqual(told, ["replaced"])
        self.assertEqual(len(self.fleet.gateway.sessions), 1)

    def test_silent(self) -> None:
        """Nor does the sweep that ends its silent ids."""
        self.fleet.clock.advance(101)
        self.fleet.hear(self.link, heartbeat(wire(0)))
        self.timed(self.fleet.gateway.sweep)


class OneIdTests(SynchronousTestCase):
    """Two locks with one id take turns, but not as fast as they can connect."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)
        self.ports = count(1)

    def observe(self, event: dict[str, Any]) -> None:
        if event["log_level"] is LogLevel.warn:
            self.lines.append(formatEvent(event))

    def both(self, seconds: float) -> list[dict[str, Any]]:
        """Two locks, each of which connects again as soon as its connection is closed."""
        events: list[dict[str, Any]] = []
        links: dict[str, FakeLink | None] = {"192.0.2.1": None, "192.0.2.2": None}
        ends = self.fleet.clock.seconds() + seconds
        while self.fleet.clock.seconds() < ends:
            for host, link in links.items():
                if link is None or link.closed:
                    links[host] = self.fleet.link(peer=f"{host}:{next(self.ports)}")
                    self.fleet.feed(links[host], binary(0x0200, location(), serial=next(_serials) & 0xFFFF))
                events += events_in(self.fleet.commit())
            self.fleet.clock.advance(0.01)
            if round(self.fleet.clock.seconds() * 100) % 200 == 0:
                self.fleet.gateway.sweep()
        self.served = [link for link in links.values() if link is not None and link.sent]
        return events

    def test_rate(self) -> None:
        """Takeovers are rare from some on; both locks are served in turn; it is named once, and counted."""
        events = self.both(4)
        self.assertTrue(len(events) < 40, len(events))
        self.assertTrue(self.fleet.gateway.counters.contested > 0)
        events = self.both(60)
        replaced = [one for one in events if one["kind"] == "session"]
        self.assertTrue(5 < len(replaced) <= 40, len(replaced))
        self.assertEqual({one["peer"].rpartition(":")[0] for one in replaced}, {"192.0.2.1", "192.0.2.2"})
        (line,) = [line for line in self.lines if "794308010679" in line]
        self.assertIn("192.0.2.1:", line)
        self.assertIn("192.0.2.2:", line)

    def test_one_lock(self) -> None:
        """A lock that loses its connection now and then is served at once."""
        for _ in range(60):
            link = self.fleet.link()
            self.fleet.hear(link, heartbeat())
            self.assertEqual(len(link.sent), 1)
            self.fleet.clock.advance(3)
        self.assertEqual((self.fleet.gateway.counters.contested, self.lines), (0, []))

    def test_at_two_gateways(self) -> None:
        """It is the same when the other one is at another gateway."""
        gateway = self.fleet.gateway
        for _ in range(30):
            link = self.fleet.link()
            self.fleet.feed(link, heartbeat())
            self.fleet.commit()
            session = gateway.sessions.get("794308010679")
            if session is not None:
                gateway.lifecycle.session_superseded(session)
        self.assertTrue(gateway.counters.contested >= 15)
        self.assertTrue(gateway.counters.sessions["replaced"] <= 11)
