"""`Pnn` sentences of JT701 masters."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import pnn
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import (
    Cell,
    Heartbeat,
    LockEvent,
    Password,
    Reply,
    TimeRequest,
    Unknown,
    to_json,
)
from jt709c_gateway.protocol.message import Message
from tests.vectors import fact, load, message

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
            (3, 0, "card", "unknown", None),
            (3, 98, "card", "unknown", None),
            (4, 0, "password", "refused", None),
            (4, 1, "password", "unlocked", None),
            (4, 2, "password", "unlocked", 2),
            (4, 98, "password", "unlocked", None),
            (5, 0, "automatic", "locked", None),
            (6, 3, "dynamic_password", "unlocked", 3),
            (6, 99, "dynamic_password", "refused", None),
            (6, 1, "dynamic_password", "unlocked", 1),
            (7, 1, "bluetooth", "unlocked", None),
            (7, 2, "bluetooth", "unlocked", 2),
            (7, 0, "bluetooth", "refused", None),
            (8, 0, "unknown", "unknown", None),
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
        self.assertIsInstance(decoded.events[0][1], Unknown)
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

    def test_old_units(self) -> None:
        """What stands behind the verification may be missing, and the report still counts."""
        whole = "(8000620011,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,4,1,0000000000,1,0,24,5)"
        for count in range(len(whole.split(",")), 12, -1):
            shorter = ",".join(whole.split(",")[:count]).rstrip(")") + ")"
            found = fact(shorter.encode())
            assert isinstance(found, LockEvent), shorter
            self.assertEqual((found.method, found.action), ("password", "unlocked"), shorter)
            decoded = message(shorter.encode())
            self.assertEqual(decoded.answer_at(NOW), b"(P69,0,24)" if count > 16 else None, shorter)

    def test_blanks(self) -> None:
        """Blanks before a field are no part of it."""
        decoded = message(self.FORM.format(" 4", " 1", " 0000000000", " 24").encode())
        self.assertEqual((decoded.answer_at(NOW), decoded.serial), (b"(P69,0,24)", 24))
        event = decoded.events[0][1]
        assert isinstance(event, LockEvent)
        self.assertEqual((event.method, event.action), ("password", "unlocked"))

    def test_fields_of_p94(self) -> None:
        """IMEI, fence and cell stand behind the mileage; that fence goes before the verification's."""
        form = self.FORM.replace(",5)", ",5,{},{},{})")
        imei, cell = "863977039060871", "460:0:19526:584115"
        for source, verification, own, action, fence in (
            (1, 1, "7", "unlocked", 7),
            (1, 1, "0", "unlocked", None),
            (1, 1, "", "unlocked", 1),
            (6, 3, "", "unlocked", 3),
            (6, 3, "9", "unlocked", 9),
            (1, 99, "4", "refused", 4),
            (1, 99, "0", "refused", None),
        ):
            decoded = message(form.format(source, verification, "1", 24, imei, own, cell).encode())
            event = decoded.events[0][1]
            assert isinstance(event, LockEvent)
            self.assertEqual((event.action, event.fence_id), (action, fence))
            self.assertEqual((decoded.imei, event.imei), (imei, imei))
            self.assertEqual(event.cell, Cell(460, 0, 584115, 19526))
        for odd in ("", "86397703906087x", "000000000000000", "12345"):
            decoded = message(form.format(1, 1, "1", 24, odd, "", "460:0").encode())
            event = decoded.events[0][1]
            assert isinstance(event, LockEvent)
            self.assertEqual((decoded.imei, event.imei, event.cell), (None, UNSET, UNSET))

    def test_packed_places(self) -> None:
        """A latitude above 90 or a longitude above 180 tells that both are written as DDMM.MMMM."""
        for north, east, latitude, longitude in (
            ("2233.3218", "11325.3659", 22.555363, 113.422765),
            ("933.3218", "1325.3659", 9.555363, 13.422765),
            ("0033.3218", "00325.3659", 0.555363, 3.422765),
            ("33.3218", "11325.3659", 0.555363, 113.422765),
            ("22.56035", "114.01640", 22.56035, 114.0164),
            ("9.861502", "83.950336", 9.861502, 83.950336),
            ("2275.0", "11325.3659", None, None),
            ("22.5", "190.5", 22.5, None),
            ("9100.5", "11325.3659", None, None),
        ):
            text = self.FORM.replace("22.56035", north).replace("114.01640", east)
            found = fact(text.format(1, 1, "1", 24).encode())
            self.assertEqual((found.latitude, found.longitude), (latitude, longitude), (north, east))
            found = fact(text.replace(",N,", ",S,").replace(",E,", ",W,").format(1, 1, "1", 24).encode())
            signed = tuple(None if one is None else -one for one in (latitude, longitude))
            self.assertEqual((found.latitude, found.longitude), signed, (north, east))

    def test_no_place(self) -> None:
        """0,0 without a fix is no place; with one it is."""
        for form in ("0.00000,N,0.00000,E", "0000.0000,N,00000.0000,E"):
            text = self.FORM.replace("22.56035,N,114.01640,E", form).format(1, 1, "1", 24)
            self.assertEqual((fact(text.encode()).latitude, fact(text.encode()).longitude), (0.0, 0.0))
            event = fact(text.replace(",A,", ",V,").encode())
            self.assertEqual((event.latitude, event.longitude), (None, None))

    def test_clock_never_set(self) -> None:
        """The date 010100, or zeros, is no moment; 0,0 with it is no place, with or without a fix."""
        for date in ("010100", "000000"):
            text = self.FORM.replace("170720", date).format(1, 1, "1", 24)
            found = fact(text.encode())
            self.assertEqual((found.time, found.latitude, found.action), (None, 22.56035, "unlocked"))
            for fix in "AV":
                nowhere = text.replace("22.56035,N,114.01640,E,A", f"0.0,N,0.0,E,{fix}")
                found = fact(nowhere.encode())
                self.assertEqual((found.time, found.latitude, found.longitude), (None, None, None))


class AnswerTests(SynchronousTestCase):
    """What answers to commands tell besides."""

    def reply(self, text: str) -> Reply:
        found = fact(text.encode())
        assert isinstance(found, Reply)
        return found

    def test_battery(self) -> None:
        """P01 has it behind the firmware, with or without the sign."""
        for said, percent in (("41%", 41), ("98", 98), ("100 %", 100), ("101%", UNSET), ("full", UNSET)):
            self.assertEqual(self.reply(f"(8130630001,P01,JT701D,{said})").battery_percent, percent)
        self.assertEqual(self.reply("(8130630001,P01,JT701D)").battery_percent, UNSET)
        self.assertEqual(self.reply("(8130630001,P01)").battery_percent, UNSET)

    def test_records(self) -> None:
        """P98 counts those that wait; the answer to their deletion counts nothing."""
        self.assertEqual(self.reply("(8130630001,P98,10,0,37,0)").records_waiting, 37)
        for said in ("10,1,0,0", "10,0,x,0", "10,0", ""):
            self.assertEqual(self.reply(f"(8130630001,P98,{said})").records_waiting, UNSET)

    def test_cards(self) -> None:
        """P42 names those that were registered."""
        found = self.reply("(8130630001,P42,2,0008932328,0008933493)")
        self.assertEqual(found.cards, ("0008932328", "0008933493"))
        self.assertEqual(self.reply("(8130630001,P42,0)").cards, ())

    def test_sublocks(self) -> None:
        """The ids of what is bound are known by their looks, with the function in front and without."""
        for said in (
            "1,0,2,E03B60000A,1021220618",
            "1,2,e03b60000a,1021220618",
            "1,1,2,E03B60000A,1021220618",
        ):
            found = self.reply(f"(8054201973,1,007,WLNET,{said})")
            self.assertEqual(found.peripherals, ("E03B60000A", "1021220618"))
        self.assertEqual(self.reply("(8054201973,1,007,WLNET,8,0,E03B60000A)").peripherals, UNSET)

    def test_current_dynamic_password(self) -> None:
        """P52,0 tells it, and nobody sees it or the one before, however long."""
        for last, current in (("000000", "386531"), ("12", "34"), ("", "386531")):
            decoded = message(f"(8130630001,P52,0,{last},{current})".encode())
            self.assertEqual(decoded.secret, current)
            for event in wrap_all(decoded, Origin(), NOW):
                self.assertNotIn(current.encode(), to_json(event).partition(b'"raw"')[2])
            self.assertEqual(decoded.raw, f"(8130630001,P52,0,{'*' * len(last)},{'*' * len(current)})")
        for said in ("P52,0", "P52,0,123456", "P52,1,1,0"):
            self.assertIsNone(message(f"(8130630001,{said})".encode()).secret)
        # There is none any more: they are off.
        for said in ("P52,0,,", "P52,0,123456,", "P52,1,0,0", "P52,1,0"):
            self.assertEqual(message(f"(8130630001,{said})".encode()).secret, "")


class PasswordTests(SynchronousTestCase):
    """P52,2."""

    def test_reported(self) -> None:
        """The password is told back to the lock and kept for Redis, and is in no event."""
        for password in ("113271", "a", "s3cr3t", "12345678"):
            decoded = message(f"(8000620011,P52,2,{password})".encode())
            self.assertEqual((decoded.events, decoded.secret), ([("password", Password())], password))
            self.assertEqual(decoded.answer_at(NOW), f"(P52,2,{password})".encode())
            self.assertEqual(decoded.raw, f"(8000620011,P52,2,{'*' * len(password)})")
            self.assertEqual((decoded.raw_masked, decoded.report), (True, True))
            (event,) = wrap_all(decoded, Origin(), NOW)
            self.assertEqual(from_json(to_json(event))["data"], {"time": None})
        self.assertNotIn(b"113271", published(message(b"(8000620011,P52,2,113271)")))
        open_ = message(b"(8000620011,P52,2,113271)", Decoder(secrets=True))
        self.assertEqual((open_.raw, open_.raw_masked), ("(8000620011,P52,2,113271)", False))

    def test_replies(self) -> None:
        """Other P52 sentences answer commands: no password, no answer."""
        for text in (
            "(8000620011,P52,3,1,0)",
            "(8000620011,P52,1,1,1)",
            "(8000620011,P52,2,)",
            "(8000620011,P52,2)",
        ):
            decoded = message(text.encode())
            self.assertIsInstance(decoded.events[0][1], Reply)
            self.assertEqual((decoded.secret, decoded.answer_at(NOW), decoded.report), (None, None, False))


class OtherSentenceTests(SynchronousTestCase):
    """Heartbeats, questions for the time, replies."""

    def test_heartbeat(self) -> None:
        """`@JT` is a heartbeat, unanswered, and never taken for one that came before."""
        decoded = message(b"(8000620011,@JT)")
        self.assertEqual((decoded.events, decoded.report), ([("heartbeat", Heartbeat())], False))
        self.assertIsNone(decoded.answer_at(NOW))

    def test_time(self) -> None:
        """P22,2 is answered with the time in UTC; another P22 is a reply."""
        decoded = message(b"(8000620011,P22,2)")
        self.assertEqual((decoded.events, decoded.report), ([("time_request", TimeRequest())], False))
        self.assertEqual(decoded.answer_at(NOW), b"(P22,020126030405)")
        self.assertEqual(fact(b"(8000620011,P22,1)"), Reply("P22", ("1",), time_taken=True))

    def test_reply(self) -> None:
        """Everything else is a reply by its word."""
        decoded = message(b"(8130630001,P43,1,0)")
        self.assertEqual((decoded.dialect, decoded.events), ("jt701", [("reply", Reply("P43", ("1", "0")))]))


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
