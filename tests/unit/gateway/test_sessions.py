"""Who is connected: the newest connection of a device wins, and what is told of that."""

from typing import Any

from twisted.logger import LogLevel, formatEvent, globalLogPublisher

from tests.support.committer import events_in
from tests.support.sessions import FIRST, SECOND, SessionCase, changes, heartbeat, split_frames
from tests.vectors import binary, location, part

IMEI_WIRE = bytes.fromhex("4d8f3c6e1a2b")


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
        self.assertEqual([frame[13:15].hex() for frame in split_frames(written)], ["0001", "0002", "0003"])


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
