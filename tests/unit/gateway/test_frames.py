"""Frames to committed events and answers; what can't be read; what must not be shown; what has to wait."""

import json
from datetime import timedelta
from typing import Any

from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.protocol.framing import MALFORMED_KEPT, Framer
from jt709c_gateway.protocol.jt808 import pack
from tests.support.committer import FakeLink, Fleet, events_in
from tests.vectors import binary, location, message, part

DEVICE = "794308010679"
#: A lock event with a static password in it, as item 0x0B: accepted.
PASSWORD_EVENT = b"\x0b\x08\x01" + b"427819" + b"\x00"


def heartbeat(serial: int = 1) -> bytes:
    return binary(0x0002, serial=serial)


def report(serial: int = 1, **changes: Any) -> bytes:
    return binary(0x0200, location(**changes), serial)


def impossible_date(serial: int = 1) -> bytes:
    payload = bytearray(report(serial)[1:-2])
    payload[12 + 22 : 12 + 28] = b"\x99" * 6
    return pack(bytes(payload))


def broken(serial: int = 1) -> bytes:
    frame = bytearray(report(serial))
    frame[25] ^= 0x01
    return bytes(frame)


class FrameCase(SynchronousTestCase):
    policy = Policy()
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.fleet = Fleet(self.policy, **self.options)
        self.gateway = self.fleet.gateway
        self.link = self.fleet.link()

    def malformed(self) -> list[Any]:
        return [content for content in self.fleet.committed if content[0] == ""]


class AnswerTests(FrameCase):
    def test_after_the_commit(self) -> None:
        """A report is answered when Redis has accepted it, not before."""
        self.fleet.feed(self.link, report(7))
        self.fleet.clock.advance(30)
        self.assertEqual(self.link.sent, [])
        self.fleet.commit()
        self.assertEqual(self.link.sent, [message(report(7)).answer])

    def test_gone_meanwhile(self) -> None:
        """A lock that has gone by then costs nothing but its answer."""
        self.fleet.feed(self.link, report())
        self.link.connection.closed("closed")
        self.fleet.commit()
        self.assertEqual(self.link.sent, [])
        self.assertEqual(self.gateway.counters.answers, 0)

    def test_time(self) -> None:
        """The time is that of the answer, not of the question."""
        self.fleet.feed(self.link, binary(0x0109), b"(794308010679,1,005,BASE,2,TIME)")
        self.fleet.wall += timedelta(minutes=10, seconds=7)
        self.fleet.commit()
        (written,) = self.link.sent
        frame, sentence = Framer().feed(written)
        self.assertEqual(frame.payload[-7:], bytes([0x07, 0xE9, 11, 18, 11, 40, 7, 0])[-7:])
        self.assertEqual(sentence.raw, b"(794308010679,1,005,BASE,2,20251118114007)")
        kinds = [one["kind"] for one in events_in(self.fleet.committed)]
        self.assertEqual(kinds, ["session", "time_request", "time_request"])

    def test_impossible_date(self) -> None:
        """A report with an impossible date is published without one, answered, counted, and kept."""
        events = self.fleet.hear(self.link, impossible_date(3))
        self.assertIsNone(events[1]["data"]["time"])
        self.assertEqual(events[1]["data"]["latitude"], -25.269608)
        self.assertEqual(self.link.sent, [message(impossible_date(3)).answer])
        self.assertEqual(self.gateway.counters.malformed["date"], 1)
        ((_, peer, reason, raw, _),) = self.malformed()
        self.assertEqual((peer, reason, raw), ("192.0.2.7:50112", "date", impossible_date(3).hex()))

    def test_impossible_dates_close_nothing(self) -> None:
        """A lock whose clock is broken is a lock: its connection stays."""
        self.fleet.feed(self.link, *[impossible_date(serial) for serial in range(1, 101)])
        self.assertEqual(self.link.closed, [])

    def test_counted(self) -> None:
        """Frames are counted by dialect and kind, bytes that belong to none by number."""
        self.fleet.hear(self.link, report(), heartbeat(), heartbeat(2), b"(794308010679,1,001,BASE,11)")
        self.assertEqual(
            dict(self.gateway.counters.frames),
            {("jt709", "location"): 1, ("jt709", "heartbeat"): 2, ("jt709", "reply"): 1},
        )
        self.link.connection.skipped(5)
        self.assertEqual(self.gateway.counters.skipped_bytes, 5)

    def test_last_known_state(self) -> None:
        """Only what the lock reports of now goes into its state; of several positions each does."""
        items = [location(alarm_bits=1 << 7), location(alarm_bits=1 << 1)]
        body = b"".join(len(item).to_bytes(2, "big") + item for item in items)
        for kind in (b"\x00", b"\x01"):
            self.fleet.feed(self.link, binary(0x0704, b"\x00\x02" + kind + body))
        live, stored = (content[5][4] for content in self.fleet.commit() if content[5])
        self.assertEqual([(one[0], one[3]) for one in live], [(0, '["low_battery"]'), (1, '["overspeed"]')])
        self.assertIsNone(stored)


class LargeMessageTests(FrameCase):
    """A lock's whole memory in one split message."""

    def memory(self, serial: int = 1) -> list[bytes]:
        item = location()
        count = 1500
        body = count.to_bytes(2, "big") + b"\x01" + (len(item).to_bytes(2, "big") + item) * count
        chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
        return [
            part(0x0704, chunk, serial + index, len(chunks), index + 1) for index, chunk in enumerate(chunks)
        ]

    def test_bytes_once(self) -> None:
        """Its bytes stand in the first of its events only, and the whole grows by a bounded factor."""
        frames = self.memory()
        self.fleet.feed(self.link, *frames)
        _, large = self.fleet.commit()
        events = events_in([large])
        self.assertEqual(len(events), 1500)
        self.assertEqual(bytes.fromhex(events[0]["raw"]), b"".join(frames))
        self.assertEqual({one["raw"] for one in events[1:]}, {None})
        size = sum(len(text) for _, text in large[4])
        self.assertTrue(size < 40 * len(b"".join(frames)), size)
        self.assertEqual(len(self.link.sent), 1)

    def test_bytes_in_every_small_one(self) -> None:
        """The events of an ordinary report have its bytes each."""
        frame = binary(0x0200, location(PASSWORD_EVENT))
        _, position, lock = self.fleet.hear(self.link, frame)
        self.assertEqual(position["raw"], lock["raw"])

    def test_full_by_bytes(self) -> None:
        """What waits is bounded in bytes as well, and goes out in calls of bounded size."""
        self.fleet.committer.max_bytes = 4 << 20
        self.fleet.redis.connected = False
        for serial in range(10):
            self.fleet.feed(self.link, *self.memory(100 * serial))
        self.assertTrue(self.fleet.committer.full)
        self.assertTrue(self.fleet.committer.unacked < 8)
        self.assertFalse(self.link.reading)
        self.fleet.redis.connected = True
        self.fleet.committer.resume()
        self.fleet.commit()
        self.assertTrue(self.link.reading)
        self.assertTrue(max(len(call[8]) for call in self.fleet.redis.calls) < 2 << 20)
        self.assertEqual(len(self.link.sent), 10)

    def test_malformed_is_cut(self) -> None:
        """What is kept of a message whose dates are impossible is cut."""
        item = bytearray(location())
        item[22:28] = b"\x99" * 6
        body = b"\x00\x1e\x01" + (len(item).to_bytes(2, "big") + bytes(item)) * 30
        self.fleet.hear(self.link, part(0x0704, body[:500], 1, 2, 1), part(0x0704, body[500:], 2, 2, 2))
        (kept,) = self.malformed()
        self.assertEqual(len(kept[3]), 2 * MALFORMED_KEPT)


class MalformedTests(FrameCase):
    policy = Policy(max_malformed=5)

    def test_kept_and_counted(self) -> None:
        """What can't be read is kept for a person to look at, counted by its reason, and not answered."""
        self.fleet.feed(self.link, broken(), b"garbage", report())
        self.fleet.commit()
        kept = [(content[2], content[3]) for content in self.malformed()]
        self.assertEqual(kept, [("check", broken().hex()), ("garbage", b"garbage".hex())])
        self.assertEqual(dict(self.gateway.counters.malformed), {"check": 1, "garbage": 1})
        self.assertEqual(self.link.sent, [message(report()).answer])

    def test_too_many_in_a_row(self) -> None:
        """Too many malformed frames in a row close the connection; nothing behind them is read."""
        self.fleet.feed(self.link, *[broken(serial) for serial in range(1, 10)], report())
        self.assertEqual(self.link.closed, ["malformed"])
        self.fleet.commit()
        self.assertEqual(len(self.fleet.committed), 5)

    def test_good_frame_between(self) -> None:
        """A good frame starts the count anew."""
        for _ in range(3):
            self.fleet.hear(self.link, *[broken(serial) for serial in range(1, 5)], heartbeat())
        self.assertEqual(self.link.closed, [])


class SkippedTests(FrameCase):
    def test_too_much(self) -> None:
        """Tens of kilobytes without a sound frame close the connection, reported or not."""
        for _ in range(65):
            self.link.connection.skipped(1024)
        self.assertEqual(self.link.closed, ["skipped"])
        self.fleet.feed(self.link, heartbeat())
        self.assertEqual(self.fleet.commit(), [])
        self.assertEqual(self.gateway.counters.skipped_bytes, 65 * 1024)

    def test_now_and_then(self) -> None:
        """A little noise between good frames closes nothing, however long it lasts."""
        for _ in range(100):
            self.link.connection.skipped(1024)
            self.fleet.hear(self.link, heartbeat())
        self.assertEqual(self.link.closed, [])


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


class SecrecyTests(FrameCase):
    """Passwords stand in no event, no log, no state; a dynamic one goes to its own key only."""

    SECRETS = ("427819", "529439", "apnpass")

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []

        def observe(event: dict[str, Any]) -> None:
            self.lines.append(f"{formatEvent(event)} {event!r}")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def check(self, *frames: bytes) -> list[Any]:
        self.fleet.feed(self.link, *frames)
        contents = self.fleet.commit()
        shown = [list(content) for content in contents]
        for content in shown:
            if content[0] and content[5]:
                content[5] = [*content[5][:3], content[5][4]]
        written = json.dumps(shown) + "".join(self.lines) + repr(self.gateway.sessions)
        for secret in self.SECRETS:
            self.assertNotIn(secret, written)
            self.assertNotIn(secret.encode().hex(), written)
        return contents

    def test_lock_event(self) -> None:
        """A password typed at the lock."""
        contents = self.check(binary(0x0200, location(PASSWORD_EVENT)))
        _, position, lock = events_in(contents)
        self.assertTrue(position["raw_masked"] and lock["raw_masked"])
        self.assertIn("2a" * 6, position["raw"])
        self.assertEqual(lock["data"]["method"], "password")

    def test_impossible_date(self) -> None:
        """A password in a report that is kept for its impossible date."""
        payload = bytearray(binary(0x0200, location(PASSWORD_EVENT))[1:-2])
        payload[12 + 22 : 12 + 28] = b"\x99" * 6
        self.check(pack(bytes(payload)))
        self.assertEqual(len(self.malformed()), 1)

    def test_malformed(self) -> None:
        """A password in a frame that did not arrive intact, also in the log."""
        frame = bytearray(binary(0x0200, location(PASSWORD_EVENT)))
        frame[16] ^= 1
        self.check(bytes(frame), b"(794308010679,P43,427819,\xff)")
        self.assertEqual(set(self.gateway.counters.malformed), {"check", "sentence", "garbage"})
        self.assertTrue(any("malformed" in line for line in self.lines))

    def test_sentences(self) -> None:
        """Passwords in sentences; the dynamic one is kept for unlocking."""
        contents = self.check(
            b"(794308010679,1,001,ELOCK,3,529439)",
            b"(794308010679,P44,1,427819)",
            b"(794308010679,P06,host,1234,apn,user,apnpass)",
        )
        kept = [content[5][3] for content in contents if content[0] and content[5]]
        self.assertEqual(kept, ["529439", None, None])

    def test_error(self) -> None:
        """An error while a message with a password is handled."""
        self.fleet.feed(self.link, heartbeat())

        class Executor:
            def process_message(self, message: Any, moment: Any) -> None:
                raise RuntimeError("a bug of ours")

        session = self.gateway.sessions.get(DEVICE)
        assert session is not None
        session.executor = Executor()  # type: ignore[assignment]
        try:
            self.fleet.feed(self.link, binary(0x0200, location(PASSWORD_EVENT)))
        except RuntimeError:
            self.link.connection.log.failure("as the transport does it")
        self.check()
        self.flushLoggedErrors(RuntimeError)


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
