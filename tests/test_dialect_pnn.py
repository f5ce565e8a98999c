"""`Pnn` sentences of JT701 masters."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import pnn
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import (
    Heartbeat,
    LockEvent,
    Password,
    Reply,
    TimeRequest,
    Unknown,
    to_json,
)
from jt709c_gateway.protocol.message import Message

from .vectors import fact, load, message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def published(decoded: Message) -> bytes:
    return b"\n".join(to_json(event) for event in wrap_all(decoded, Origin(), NOW))


class SentenceVectorTests(SynchronousTestCase):
    """`Pnn` sentences that real masters sent."""

    def test_answers(self) -> None:
        """Each gets the answer that it waits for, or none."""
        seen = 0
        for vector in load("real.jsonl"):
            if vector["dialect"] != "jt701" or vector["frame"][:1] != b"(":
                continue
            seen += 1
            answer = vector["expect"]["answer"]
            decoded = message(vector["frame"])
            self.assertEqual(decoded.dialect, "jt701")
            expected = answer.replace("<ddMMyyHHmmss UTC>", "020126030405").encode() if answer else None
            self.assertEqual(decoded.answer_at(NOW), expected)
            self.assertEqual(decoded.wire, vector["frame"])
        self.assertEqual(seen, 12)

    def test_lock_reports(self) -> None:
        """Who did what with which result, where and when."""
        found = [
            fact(vector["frame"]) for vector in load("real.jsonl") if b",P45," in vector["frame"]
        ]  # fmt: skip
        self.assertEqual(
            [(e.code, e.method, e.action, e.card, e.fence_id, e.result) for e in found],
            [
                (1, "card", "unlocked", "0008627839", 1, 1),
                (6, "dynamic_password", "unlocked", None, None, 98),
                (4, "password", "unlocked", None, None, 1),
                (1, "card", "refused", "0008627839", None, 99),
                (5, "automatic", "locked", None, None, 0),
                (1, "card", "unlocked", "0012260888", 1, 1),
            ],
        )
        self.assertEqual(found[0].time, datetime(2020, 7, 17, 2, 6, 14, tzinfo=UTC))
        self.assertEqual((found[0].latitude, found[0].longitude), (22.56035, 114.0164))
        self.assertEqual((found[5].latitude, found[5].longitude), (9.861502, -83.950336))


class LockReportTests(SynchronousTestCase):
    """P45."""

    FORM = "(8000620011,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,{},{},{},0,0,{},5)"

    def event(
        self, source: object, verification: object, card: str = "0000000000", serial: object = 24
    ) -> LockEvent:
        found = fact(self.FORM.format(source, verification, card, serial).encode())
        assert isinstance(found, LockEvent)
        return found

    def test_actions(self) -> None:
        """Source and verification together say what happened; what no document names is unknown."""
        for source, verification, method, action, fence in (
            (1, 0, "card", "refused", None),
            (1, 10, "card", "unlocked", 10),
            (1, 11, "card", "unknown", None),
            (1, 98, "card", "unlocked", None),
            (1, 99, "card", "refused", None),
            (2, 0, "card", "refused", None),
            (2, 1, "card", "refused", None),
            (3, 98, "card", "unlocked", None),
            (4, 0, "password", "refused", None),
            (4, 1, "password", "unlocked", None),
            (4, 2, "password", "unknown", None),
            (5, 0, "automatic", "locked", None),
            (6, 3, "dynamic_password", "unlocked", 3),
            (6, 99, "dynamic_password", "refused", None),
            (7, 1, "bluetooth", "unlocked", 1),
            (7, 0, "bluetooth", "refused", None),
            (8, 1, "unknown", "unknown", None),
            (0, 0, "unknown", "unknown", None),
        ):
            found = self.event(source, verification)
            self.assertEqual((found.method, found.action, found.fence_id), (method, action, fence))
            self.assertEqual((found.code, found.result), (source, verification))

    def test_serial(self) -> None:
        """The answer names the field behind the 16th comma, whatever follows it."""
        text = self.FORM.format(1, 1, "0000000000", 255)
        for sentence in (text, text.replace(",5)", ")"), text.replace(",5)", ",5,6,7)")):
            decoded = message(sentence.encode())
            self.assertEqual((decoded.answer_at(NOW), decoded.serial), (b"(P69,0,255)", 255))
            self.assertTrue(decoded.report)

    def test_unreadable(self) -> None:
        """Without a source it is carried and answered; without a serial there is no answer to give."""
        decoded = message(self.FORM.format("x", 1, "", 24).encode())
        self.assertIsInstance(decoded.facts[0][1], Unknown)
        self.assertEqual(decoded.answer_at(NOW), b"(P69,0,24)")
        for text in (
            "(8000620011,P45)",
            "(8000620011,P45,170720,020614,22.5,N)",
            self.FORM.format(1, 1, 0, "x"),
        ):
            decoded = message(text.encode())
            self.assertIsNone(decoded.answer_at(NOW))

    def test_odd_fields(self) -> None:
        """Fields that can't be read are None, and the event is still one."""
        text = "(8000620011,P45,310220,nan,inf,N,114.0,X,V,0,0,1,1,12345,0,0,1,0)"
        found = fact(text.encode())
        self.assertEqual((found.time, found.latitude, found.longitude), (None, None, None))
        self.assertEqual((found.action, found.card), ("unlocked", "0000012345"))


class PasswordTests(SynchronousTestCase):
    """P52,2."""

    def test_reported(self) -> None:
        """The password is told back to the lock and kept for Redis, and is in no event."""
        for password in ("113271", "a", "s3cr3t", "12345678"):
            decoded = message(f"(8000620011,P52,2,{password})".encode())
            self.assertEqual((decoded.facts, decoded.secret), ([("password", Password())], password))
            self.assertEqual(decoded.answer_at(NOW), f"(P52,2,{password})".encode())
            self.assertEqual(decoded.raw, f"(8000620011,P52,2,{'*' * len(password)})")
            self.assertEqual((decoded.raw_masked, decoded.report), (True, True))
            (event,) = wrap_all(decoded, Origin(), NOW)
            self.assertEqual(from_json(to_json(event))["data"], {"time": None})
        self.assertNotIn(b"113271", published(message(b"(8000620011,P52,2,113271)")))
        open_ = message(b"(8000620011,P52,2,113271)", Decoder(secrets=True))
        self.assertEqual((open_.raw, open_.raw_masked), ("(8000620011,P52,2,113271)", False))

    def test_replies(self) -> None:
        """Other P52 sentences answer orders: no password, no answer."""
        for text in (
            "(8000620011,P52,3,1,0)",
            "(8000620011,P52,1,1,1)",
            "(8000620011,P52,2,)",
            "(8000620011,P52,2)",
        ):
            decoded = message(text.encode())
            self.assertIsInstance(decoded.facts[0][1], Reply)
            self.assertEqual((decoded.secret, decoded.answer_at(NOW), decoded.report), (None, None, False))


class OtherSentenceTests(SynchronousTestCase):
    """Heartbeats, questions for the time, replies."""

    def test_heartbeat(self) -> None:
        """`@JT` is a heartbeat, unanswered, and never taken for one that came before."""
        decoded = message(b"(8000620011,@JT)")
        self.assertEqual((decoded.facts, decoded.report), ([("heartbeat", Heartbeat())], False))
        self.assertIsNone(decoded.answer_at(NOW))

    def test_time(self) -> None:
        """P22,2 is answered with the time in UTC; another P22 is a reply."""
        decoded = message(b"(8000620011,P22,2)")
        self.assertEqual((decoded.facts, decoded.report), ([("time_request", TimeRequest())], False))
        self.assertEqual(decoded.answer_at(NOW), b"(P22,020126030405)")
        self.assertEqual(fact(b"(8000620011,P22,1)"), Reply("P22", ("1",)))

    def test_reply(self) -> None:
        """Everything else is a reply by its word."""
        decoded = message(b"(8130630001,P43,1,0)")
        self.assertEqual((decoded.dialect, decoded.facts), ("jt701", [("reply", Reply("P43", ("1", "0")))]))


class AnyTests(SynchronousTestCase):
    """Any fields."""

    @given(st.lists(st.text("0123456789,.NSEWAVx*-", max_size=12), max_size=24))
    def test_any_sentence(self, parts: list[str]) -> None:
        """Any fields behind P45, P22 and P52 are read, or carried."""
        for word in ("P45", "P22", "P52"):
            decoded = message(("(" + ",".join(["8000620011", word, *parts]) + ")").encode())
            decoded.answer_at(NOW)
            self.assertNotIn(b"NaN", published(decoded))

    @given(st.integers(0, 255))
    def test_acknowledge(self, serial: int) -> None:
        """The serial is written in decimal."""
        self.assertEqual(pnn.acknowledge(serial).decode(), f"(P69,0,{serial})")
