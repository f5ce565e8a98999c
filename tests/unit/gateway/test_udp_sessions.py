"""Sessions over UDP: which datagram moves a lock, and which is only answered."""

from datetime import timedelta
from typing import Any

from tests.support.committer import FakeLink, events_in
from tests.support.sessions import FIRST, SECOND, SessionCase, changes, heartbeat, split_frames
from tests.vectors import MOMENT, binary, location, part


class DatagramTests(SessionCase):
    def link(self, peer: str) -> FakeLink:
        return self.fleet.link("udp", peer)

    def report(self, serial: int = 1, seconds: int = 0, **changes: Any) -> bytes:
        """Where it is, so many seconds later."""
        return binary(0x0200, location(time=MOMENT + timedelta(seconds=seconds), **changes), serial)

    def holder(self) -> Any:
        """Where the lock's session is."""
        session = self.gateway.sessions.get("794308010679")
        return None if session is None else session.origin.peer

    def test_new_address(self) -> None:
        """A lock whose reports come from another address has not moved; the old address is forgotten."""
        old, new = self.link("192.0.2.7:1"), self.link("192.0.2.7:2")
        self.assertEqual(changes(self.fleet.hear(old, self.report())), [("794308010679", "online")])
        contents = (self.fleet.feed(new, self.report(2, 60)), self.fleet.commit())[1]
        self.assertEqual(changes(events_in(contents)), [])
        self.assertEqual(old.closed, ["replaced"])
        # Redis learns of the address all the same.
        self.assertIn("192.0.2.7:2", next(content[6][3] for content in contents if content[6]))
        self.assertEqual((len(new.sent), self.holder()), (1, "192.0.2.7:2"))
        new.connection.closed("idle")
        self.assertEqual(self.changes(), [("794308010679", "offline")])

    def test_heard_but_not_moved(self) -> None:
        """What may be said by anybody is published and answered where it came from, and moves no session."""
        old = self.link("192.0.2.7:1")
        self.fleet.hear(old, self.report())
        said = [
            heartbeat(serial=2),
            self.report(3, -3600),
            self.report(4, 86400),
            self.report(5, 10, latitude=52.0),
            binary(0x0704, b"\x00\x01\x01" + len(location()).to_bytes(2, "big") + location(), 6),
            b"(794308010679,1,007,BASE,1,V9)",
        ]
        for number, data in enumerate(said):
            stranger = self.link(f"198.51.100.1:{number}")
            kinds = [one["kind"] for one in self.fleet.hear(stranger, data)]
            self.assertEqual(len(kinds), 1, data)
            self.assertNotIn("session", kinds)
            self.assertEqual(len(stranger.sent), 0 if data.startswith(b"(") else 1, data)
            # Nothing is kept of the address.
            self.assertEqual(stranger.closed, ["no_session"])
        self.assertEqual((self.holder(), old.closed), ("192.0.2.7:1", []))
        self.assertEqual(len(self.gateway.connections), 1)

    def test_known_report(self) -> None:
        """A report that Redis knows is answered and moves no session: anybody may have seen it."""
        old, stranger = self.link("192.0.2.7:1"), self.link("198.51.100.1:1")
        self.fleet.hear(old, self.report())
        self.fleet.feed(stranger, self.report(2, 60))
        self.fleet.clock.advance(0)
        (content,) = self.fleet.redis.batch()
        self.assertIs(content[11], True)
        self.fleet.redis.reply([0, 0, b"KNOWN"])
        self.assertEqual((len(stranger.sent), self.holder(), old.closed), (1, "192.0.2.7:1", []))
        self.assertEqual(self.gateway.committer.statistics.duplicates, 1)

    def test_tcp_is_not_displaced(self) -> None:
        """A lock that is connected over TCP stays so, whatever datagrams say in its name."""
        tcp = self.fleet.link()
        self.fleet.hear(tcp, self.report())
        for number, data in enumerate([heartbeat(), self.report(2, 60), self.report(3, 120)]):
            stranger = self.link(f"192.0.2.7:{number}")
            self.assertEqual(changes(self.fleet.hear(stranger, data)), [])
            self.assertEqual(len(stranger.sent), 1)
        self.assertEqual((tcp.closed, self.holder()), ([], "192.0.2.7:50112"))
        # Once the connection has ended the next datagram is the lock's.
        tcp.connection.closed("closed")
        self.fleet.commit()
        self.assertEqual(
            changes(self.fleet.hear(self.link("192.0.2.7:9"), heartbeat())), [("794308010679", "online")]
        )
        self.assertEqual(self.holder(), "192.0.2.7:9")

    def test_back_to_tcp(self) -> None:
        """A lock that connects over TCP ends its session over UDP."""
        udp, tcp = self.link("192.0.2.7:1"), self.fleet.link()
        self.fleet.hear(udp, heartbeat())
        self.assertEqual(changes(self.fleet.hear(tcp, heartbeat())), [("794308010679", "replaced")])
        self.assertEqual(udp.closed, ["replaced"])

    def test_elsewhere(self) -> None:
        """When Redis declines, as another gateway has the lock, there is no session, but an answer."""
        link = self.link("192.0.2.7:1")
        self.fleet.feed(link, heartbeat())
        self.fleet.clock.advance(0)
        self.fleet.redis.reply([0, 0, b"DECLINED"])
        self.assertEqual((len(link.sent), self.holder(), link.closed), (1, None, ["no_session"]))

    def test_taken_too_late(self) -> None:
        """A session that Redis takes when its lock has come over TCP meanwhile is given back."""
        udp, tcp = self.link("192.0.2.7:1"), self.fleet.link()
        self.fleet.feed(udp, heartbeat())
        self.fleet.feed(tcp, heartbeat())
        contents = self.fleet.commit()
        given_back = contents[-1][6]
        self.assertEqual((given_back[0], given_back[1]), ("close", contents[0][6][1]))
        self.assertEqual((self.holder(), tcp.closed), ("192.0.2.7:50112", []))

    def test_order_of_what_is_said(self) -> None:
        """A relay's datagram with frames of several locks is heard to its end, whoever is a guest there."""
        first, relay = self.link("192.0.2.7:1"), self.link("192.0.2.8:1")
        self.fleet.hear(first, self.report())
        events = self.fleet.hear(relay, heartbeat(FIRST, 5), heartbeat(SECOND, 6), heartbeat(FIRST, 7))
        self.assertEqual([one["serial"] for one in events if one["kind"] == "heartbeat"], [5, 6, 7])
        self.assertEqual(len(split_frames(relay.sent[0])), 3)
        self.assertEqual((relay.closed, len(self.gateway.sessions)), ([], 2))

    def test_noise(self) -> None:
        """An address from which no lock was heard is not remembered."""
        link = self.link("192.0.2.7:1")
        self.fleet.feed(link, b"\x00noise")
        self.assertEqual(link.closed, ["no_session"])
        self.assertEqual(self.gateway.connections, set())

    def test_split_message_over_addresses(self) -> None:
        """The parts of a split message may come from different addresses, and are answered together."""
        body = location()
        first, second = self.link("192.0.2.7:1"), self.link("192.0.2.7:2")
        self.fleet.hear(first, part(0x0200, body[:20], 7, 2, 1))
        events = self.fleet.hear(second, part(0x0200, body[20:], 8, 2, 2))
        self.assertEqual([one["kind"] for one in events], ["session", "location"])
        self.assertEqual(len(split_frames(second.sent[0])), 2)
