"""ASCII sentences: their parts, the answers, the masks."""

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import sentences
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import Password, Reply
from jt709c_gateway.protocol.framing import Malformed
from jt709c_gateway.protocol.message import Message
from tests.vectors import decode, message

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def kinds(decoded: Message) -> list[str]:
    return [kind for kind, _ in decoded.events]


class SentenceTests(SynchronousTestCase):
    """ASCII sentences."""

    def test_forms(self) -> None:
        """The grouped form has a serial, the other has none; ids lose their leading zeros."""
        grouped = sentences.parse(b"(0012345678,1,007,BASE,1,V2,x)")
        self.assertEqual((grouped.device, grouped.serial, grouped.word), ("12345678", 7, "BASE"))
        self.assertEqual(grouped.arguments, ("1", "V2", "x"))
        short = sentences.parse(b"(8000620011,P43,1,0)")
        self.assertEqual((short.serial, short.word, short.arguments), (None, "P43", ("1", "0")))

    def test_heads(self) -> None:
        """A version and a serial of one to three digits and a word that begins with a letter make a head."""
        for head, version, serial in (
            ("2,001", 2, 1), ("23,29", 23, 29), ("1,7", 1, 7), ("123,999", 123, 999), ("23,029", 23, 29),
        ):  # fmt: skip
            found = sentences.parse(f"(100170110019,{head},BASE,11)".encode())
            self.assertEqual((found.version, found.serial), (version, serial))
            self.assertEqual((found.word, found.arguments), ("BASE", ("11",)))
        for text in ("1234,001,BASE", "1,0001,BASE", "1,001,11", "1,,BASE", "x,001,BASE", "P41,1,A"):
            found = sentences.parse(f"(100170110019,{text})".encode())
            self.assertEqual((found.version, found.serial), (None, None))
            self.assertEqual((found.word, *found.arguments), tuple(text.split(",")))

    def test_no_sentence(self) -> None:
        """Without a device id or a word there is no sentence."""
        for raw in (b"(123)", b"(12a,P43)", b"(,P43)", b"(123,)", b"(123,\xff)", b"(" + b"1" * 21 + b",P43)"):
            self.assertRaises(sentences.SentenceError, sentences.parse, raw)
        self.assertIsInstance(decode(b"(123)"), Malformed)

    def test_encode(self) -> None:
        """The grouped form is written with three digits of serial."""
        self.assertEqual(sentences.grouped("123456", 1007, "BASE", "1"), b"(123456,1,007,BASE,1)")

    def test_firmware(self) -> None:
        """`BASE,1` tells the firmware."""
        self.assertEqual(message(b"(794308010679,1,001,BASE,1,V2.01,JT709C)").firmware, "V2.01,JT709C")

    def test_heartbeat(self) -> None:
        """`@JT` is a heartbeat."""
        self.assertEqual(kinds(message(b"(8000620011,@JT)")), ["heartbeat"])

    def test_time_request(self) -> None:
        """Whatever follows TIME, the answer is head and time."""
        for tail in (b"", b",1"):
            decoded = message(b"(007,1,001,BASE,2,TIME" + tail + b")")
            self.assertEqual(decoded.answer_at(NOW), b"(007,1,001,BASE,2,20260102030405)")

    def test_masks(self) -> None:
        """Passwords in sentences are masked in `raw` and in the arguments; results stay readable."""
        for sentence, shown in (
            ("8130630001,P44,123456", "8130630001,P44,******"),
            ("8130630001,P52,3,12345678", "8130630001,P52,3,********"),
            ("8130630001,P43,1,12", "8130630001,P43,1,12"),
            ("8130630001,P06,1,h.com,80,apn,me,pw,0", "8130630001,P06,1,h.com,80,apn,**,**,0"),
            ("8130630001,P06,h.com,80,apn,me,pw,1", "8130630001,P06,h.com,80,apn,**,**,1"),
            ("8130630001,P06,h.com,80,apn,,,1", "8130630001,P06,h.com,80,apn,,,1"),
            ("8130630001,P06,h.com,80,apn,me,pw,x,0", "8130630001,P06,h.com,80,apn,**,**,*,*"),
            ("8130630001,P52,0,12,34", "8130630001,P52,0,**,**"),
            (
                "8130630001,1,001,OTA,9,1,f.com,21,me,pw,a.bin,9,77,0",
                "8130630001,1,001,OTA,9,1,f.com,21,**,**,a.bin,9,77,0",
            ),
            ("8130630001,1,001,OTA,9,1,2", "8130630001,1,001,OTA,9,1,2"),
            ("8130630001,P14,869999040159249", "8130630001,P14,869999040159249"),
            ("8130630001,1,001,ELOCK,1,1", "8130630001,1,001,ELOCK,1,1"),
            ("8130630001,1,001,ELOCK,2,s3cr3t,1", "8130630001,1,001,ELOCK,2,******,1"),
        ):
            decoded = message(f"({sentence})".encode())
            self.assertEqual((decoded.raw, decoded.raw_masked), (f"({shown})", sentence != shown))
            reply = decoded.events[0][1]
            assert isinstance(reply, Reply)
            self.assertTrue(shown.endswith(",".join((reply.word, *reply.arguments))))
            open_ = message(f"({sentence})".encode(), Decoder(secrets=True))
            self.assertEqual((open_.raw, open_.raw_masked), (f"({sentence})", False))

    def test_dynamic_password(self) -> None:
        """A dynamic password of any length is masked; an empty one is none."""
        for password in ("1", "123", "123456", "12345678"):
            decoded = message(f"(123456,1,001,ELOCK,3,{password})".encode())
            self.assertEqual((decoded.events, decoded.secret), ([("password", Password())], password))
            self.assertEqual(decoded.raw, f"(123456,1,001,ELOCK,3,{'*' * len(password)})")
        empty = message(b"(123456,1,001,ELOCK,3,)")
        self.assertEqual((empty.secret, kinds(empty)), (None, ["reply"]))
