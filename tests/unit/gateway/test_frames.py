"""Frames to committed events and answers; what can't be read; messages in parts."""

from datetime import timedelta

from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.protocol.framing import MALFORMED_KEPT, Framer
from tests.support.committer import events_in
from tests.support.gateway_frames import PASSWORD_EVENT, FrameCase, broken, heartbeat, impossible_date, report
from tests.vectors import binary, location, message, part


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
