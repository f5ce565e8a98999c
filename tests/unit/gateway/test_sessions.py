"""Who is connected: the newest connection of a device wins, and what is told of that."""

from datetime import timedelta
from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Policy
from tests.support.committer import FakeLink, Fleet, events_in
from tests.vectors import MOMENT, binary, location, part

FIRST = bytes.fromhex("794308010679")
SECOND = bytes.fromhex("794308010680")
IMEI_WIRE = bytes.fromhex("4d8f3c6e1a2b")


def heartbeat(wire: bytes = FIRST, serial: int = 1) -> bytes:
    return binary(0x0002, serial=serial, wire=wire)


def changes(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["device"], one["data"]["state"]) for one in events if one["kind"] == "session"]


class SessionCase(SynchronousTestCase):
    policy = Policy(idle_timeout=100, first_frame_timeout=10, max_sessions=3)

    def setUp(self) -> None:
        self.fleet = Fleet(self.policy)
        self.gateway = self.fleet.gateway

    def changes(self) -> list[tuple[str, str]]:
        return changes(events_in(self.fleet.commit()))

    def dropped(self) -> dict[str, int]:
        return dict(self.gateway.counters.dropped)


class TransitionTests(SessionCase):
    def test_online_once(self) -> None:
        """A lock is online with its first frame, and only once."""
        link = self.fleet.link()
        events = self.fleet.hear(link, heartbeat(), heartbeat(serial=2))
        self.assertEqual([one["kind"] for one in events], ["session", "heartbeat", "heartbeat"])
        self.assertEqual(events[0]["data"], {"state": "online", "reason": "connected", "duration_s": None})
        self.assertEqual(
            (events[0]["device"], events[0]["gateway"], events[0]["transport"], events[0]["peer"]),
            ("794308010679", "gw1", "tcp", "192.0.2.7:50112"),
        )
        self.assertEqual(changes(self.fleet.hear(link, heartbeat(serial=3))), [])
        self.assertEqual(len(self.gateway.sessions), 1)

    def test_offline(self) -> None:
        """A lock is offline when its connection ends, with how long it was there; and only once."""
        link = self.fleet.link()
        self.fleet.hear(link, heartbeat())
        self.fleet.clock.advance(12.5)
        link.connection.closed("closed")
        link.connection.closed("closed")
        (event,) = events_in(self.fleet.commit())
        self.assertEqual(event["data"], {"state": "offline", "reason": "closed", "duration_s": 12.5})
        self.assertEqual(len(self.gateway.sessions), 0)
        self.assertEqual(self.gateway.connections, set())

    def test_nobody(self) -> None:
        """A connection on which no lock spoke comes and goes without an event."""
        link = self.fleet.link()
        self.fleet.feed(link, b"\x7e\x00")
        link.connection.closed("closed")
        self.assertEqual(self.fleet.commit(), [])

    def test_newest_wins(self) -> None:
        """A device on a new connection: `replaced` and nothing else; the old connection is closed."""
        old, new = self.fleet.link(), self.fleet.link(peer="192.0.2.8:1")
        self.fleet.hear(old, heartbeat())
        self.fleet.clock.advance(3)
        events = self.fleet.hear(new, heartbeat(serial=2))
        self.assertEqual(changes(events), [("794308010679", "replaced")])
        self.assertEqual(events[0]["peer"], "192.0.2.8:1")
        self.assertEqual(events[0]["data"]["duration_s"], 3.0)
        self.assertEqual((old.closed, new.closed), (["replaced"], []))
        session = self.gateway.sessions.get("794308010679")
        assert session is not None
        self.assertIs(session.connection, new.connection)
        self.assertEqual(self.changes(), [])

    def test_late_end_of_the_old(self) -> None:
        """The old connection's end, whenever it is noticed, takes nothing from the new one."""
        old, new = self.fleet.link(), self.fleet.link()
        self.fleet.hear(old, heartbeat())
        self.fleet.hear(new, heartbeat())
        old.connection.closed("closed")
        self.assertEqual(self.changes(), [])
        self.assertEqual(len(self.gateway.sessions), 1)
        new.connection.closed("closed")
        self.assertEqual(self.changes(), [("794308010679", "offline")])

    def test_state_goes_along(self) -> None:
        """The new session knows what the old one knew of the lock: dialect and lock state."""
        old, new = self.fleet.link(), self.fleet.link()
        self.fleet.hear(old, binary(0x0200, location()))
        events = self.fleet.hear(new, b"(794308010679,1,001,BASE,1,V1)")
        self.assertEqual(events[-1]["dialect"], "jt709")
        session = self.gateway.sessions.get("794308010679")
        assert session is not None
        self.assertEqual(session.lock_state, "locked")

    def test_told(self) -> None:
        """Whoever asked is told of a lock that comes, moves and goes, before and after in this order."""
        told: list[tuple[str, Any]] = []
        self.gateway.callbacks.online = lambda session: told.append(("online", session.connection))
        self.gateway.callbacks.offline = lambda session, reason: told.append((reason, session.connection))
        old, new = self.fleet.link(), self.fleet.link()
        self.fleet.hear(old, heartbeat())
        self.fleet.hear(new, heartbeat())
        new.connection.closed("idle")
        self.assertEqual(
            told,
            [
                ("online", old.connection),
                ("replaced", old.connection),
                ("online", new.connection),
                ("idle", new.connection),
            ],
        )

    def test_session_in_redis(self) -> None:
        """Coming opens the session's record, a lock that goes on speaking keeps it, its end closes it."""
        link = self.fleet.link()
        self.fleet.feed(link, heartbeat())
        opened = [content[6] for content in self.fleet.commit() if content[6]]
        self.assertEqual([one[0] for one in opened], ["open"])
        self.fleet.clock.advance(59)
        self.fleet.feed(link, heartbeat())
        self.assertEqual([content[6] for content in self.fleet.commit()], [None])
        self.fleet.clock.advance(2)
        self.fleet.feed(link, heartbeat(), heartbeat())
        kept = [content[6] for content in self.fleet.commit()]
        self.assertEqual((kept[0][:2], kept[1]), (["keep", opened[0][1]], None))
        link.connection.closed("closed")
        (closed,) = self.fleet.commit()
        self.assertEqual(closed[6], ["close", opened[0][1]])


class ManyOnOneTests(SessionCase):
    def test_one_moves_away(self) -> None:
        """Of two devices on one connection one moves away: the connection stays for the other."""
        shared, own = self.fleet.link(), self.fleet.link()
        self.fleet.hear(shared, heartbeat(FIRST), heartbeat(SECOND))
        self.assertEqual(changes(self.fleet.hear(own, heartbeat(FIRST))), [("794308010679", "replaced")])
        self.assertEqual(shared.closed, [])
        self.assertEqual(changes(self.fleet.hear(shared, heartbeat(SECOND, 2))), [])
        shared.connection.closed("closed")
        self.assertEqual(self.changes(), [("794308010680", "offline")])

    def test_last_moves_away(self) -> None:
        """When the last device has moved away the connection is closed."""
        shared = self.fleet.link()
        self.fleet.hear(shared, heartbeat(FIRST), heartbeat(SECOND))
        self.fleet.hear(self.fleet.link(), heartbeat(FIRST), heartbeat(SECOND))
        self.assertEqual(shared.closed, ["replaced"])
        self.assertEqual(len(self.gateway.sessions), 2)

    def test_all_offline(self) -> None:
        """All devices of a connection are offline when it ends."""
        shared = self.fleet.link()
        self.fleet.hear(shared, heartbeat(FIRST), heartbeat(SECOND))
        shared.connection.closed("closed")
        self.assertEqual(self.changes(), [("794308010679", "offline"), ("794308010680", "offline")])

    def test_answers(self) -> None:
        """All answers of a batch go out in one write, in the order of the frames."""
        shared = self.fleet.link()
        self.fleet.hear(shared, heartbeat(FIRST, 1), heartbeat(SECOND, 2), heartbeat(FIRST, 3))
        (written,) = shared.sent
        self.assertEqual([frame[13:15].hex() for frame in _split(written)], ["0001", "0002", "0003"])


def _split(data: bytes) -> list[bytes]:
    return [b"\x7e" + part + b"\x7e" for part in data.strip(b"\x7e").split(b"\x7e\x7e")]


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
        self.assertEqual(len(_split(relay.sent[0])), 3)
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
        self.assertEqual(len(_split(second.sent[0])), 2)


class PartsTests(SessionCase):
    """Parts of split messages take no memory for longer than they have to."""

    def test_silent(self) -> None:
        """What was never completed is let go though its sender says nothing more."""
        for transport in ("tcp", "udp"):
            self.fleet.feed(self.fleet.link(transport), part(0x0200, b"abc", 1, 2, 1))
        self.assertEqual(len(self.gateway.parts), 2)
        self.fleet.clock.advance(60.1)
        self.gateway.sweep()
        self.assertEqual((len(self.gateway.parts), self.gateway.parts.size), (0, 0))

    def test_gone(self) -> None:
        """What a connection held is let go when it ends."""
        link = self.fleet.link()
        self.fleet.feed(link, part(0x0200, b"abc", 1, 2, 1))
        link.connection.closed("closed")
        self.assertEqual(self.gateway.parts.size, 0)


class LimitTests(SessionCase):
    def test_idle(self) -> None:
        """A connection that is silent for too long is closed; one that speaks isn't."""
        silent, lively = self.fleet.link(), self.fleet.link()
        self.fleet.hear(silent, heartbeat(FIRST))
        self.fleet.hear(lively, heartbeat(SECOND))
        for _ in range(3):
            self.fleet.clock.advance(34)
            self.gateway.sweep()
            self.fleet.hear(lively, heartbeat(SECOND))
        self.assertEqual((silent.closed, lively.closed), (["idle"], []))
        states = [one["data"] for one in events_in(self.fleet.committed) if one["kind"] == "session"]
        self.assertEqual(states[-1]["reason"], "idle")

    def test_first_frame(self) -> None:
        """A connection on which no lock speaks is closed early, noise or not; a lock's isn't."""
        mute, noisy, lock = self.fleet.link(), self.fleet.link(), self.fleet.link()
        self.fleet.hear(lock, heartbeat())
        self.fleet.clock.advance(9)
        self.fleet.feed(noisy, b"noise")
        self.gateway.sweep()
        self.assertEqual((mute.closed, noisy.closed), ([], []))
        self.fleet.clock.advance(2)
        self.gateway.sweep()
        self.assertEqual((mute.closed, noisy.closed, lock.closed), (["no_frame"], ["no_frame"], []))

    def test_limit_told(self) -> None:
        """The log names a limit that turns locks away, at most every ten minutes, and nothing everyday."""
        lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            if event["log_level"] is LogLevel.warn:
                lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        for reason in ("max_per_address", "max_per_address", "idle", "max_connections"):
            self.gateway.dropped(reason)
        self.fleet.clock.advance(600)
        self.gateway.dropped("max_per_address")
        said = " is reached, so locks are turned away"
        self.assertEqual(
            lines,
            [
                f"--max-connections-per-address{said} (max_per_address, so far 1)",
                f"--max-connections{said} (max_connections, so far 1)",
                f"--max-connections-per-address{said} (max_per_address, so far 3)",
            ],
        )

    def test_max_sessions(self) -> None:
        """With as many locks as allowed a further one is turned away; those that are there may move."""
        links = []
        for number in range(4):
            links.append(self.fleet.link())
            self.fleet.feed(links[-1], heartbeat(bytes.fromhex(f"79430801068{number}")))
        self.assertEqual([link.closed for link in links], [[], [], [], ["max_sessions"]])
        self.fleet.commit()
        self.assertEqual(links[3].sent, [])
        moved = self.fleet.link()
        self.fleet.hear(moved, heartbeat(bytes.fromhex("794308010680")))
        self.assertEqual((moved.closed, links[0].closed), ([], ["replaced"]))
        self.assertEqual(len(self.gateway.sessions), 3)

    def test_shut_down(self) -> None:
        """A shutdown closes every link and says offline for every lock."""
        links = [self.fleet.link(), self.fleet.link(), self.fleet.link("udp", "192.0.2.9:1")]
        for link, wire in zip(links, (FIRST, SECOND, bytes.fromhex("794308010681")), strict=True):
            self.fleet.hear(link, heartbeat(wire))
        self.gateway.close_connections()
        self.assertEqual([link.closed for link in links], [["shutdown"]] * 3)
        self.assertEqual({state for _, state in self.changes()}, {"offline"})
        self.assertEqual(len(self.gateway.sessions), 0)


class LookUpTests(SessionCase):
    def test_by_imei(self) -> None:
        """A session is found by the device's IMEI too, until it ends."""
        link = self.fleet.link()
        (event, *_) = self.fleet.hear(link, heartbeat(IMEI_WIRE))
        session = self.gateway.sessions.get(event["imei"])
        assert session is not None
        self.assertEqual(session.device, event["device"])
        link.connection.closed("closed")
        self.assertIsNone(self.gateway.sessions.get(event["imei"]))

    def test_unknown(self) -> None:
        """What isn't there isn't found."""
        self.assertIsNone(self.gateway.sessions.get("794308010679"))
        self.assertIsNone(self.gateway.sessions.get(""))
        self.assertEqual(list(self.gateway.sessions), [])
