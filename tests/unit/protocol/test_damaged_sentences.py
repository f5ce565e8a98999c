"""Sentences with a damaged head or word: what may be a password shows nowhere in what is made of them."""

import re
from itertools import product
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.dissector import explain_all
from jt709c_gateway.protocol import secret_words, sentences
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message

SECRET = b"507192"
WHOLE = (
    b"(794300000077,1,012,ELOCK,3,507192)",
    b"(794300000077,1,012,ELOCK,5,1,507192,507192)",
    b"(8000630001,P43,507192)",
    b"(8000630001,P44,507192,507192)",
    b"(8000630001,P52,2,507192)",
    b"(8000630001,P06,1,gps.example.com,8888,cmnet,507192,507192)",
)
#: Changed to a digit a `Pnn` word is another one, and what is no printable ASCII ends a sentence.
CHANGES = bytes({*range(0x20, 0x7F)} - {*b"0123456789()"})


def shown(raw: bytes, *, secrets: bool = False) -> str:
    """All that is published of these bytes."""
    found = []
    for frame in Framer().feed_datagram(raw):
        message = Decoder(secrets).decode(frame, 0.0)
        if isinstance(message, Message):
            found.append(repr((message.raw, message.events, message.firmware)))
        else:
            found.append(repr(message))
    return "".join(found)


class DamageTests(SynchronousTestCase):
    def assert_hidden(self, raw: bytes) -> None:
        text = shown(raw) + repr(explain_all(raw))
        self.assertNotIn(SECRET.decode(), text, raw)
        self.assertNotIn(SECRET.hex(), text, raw)

    def test_serials_versions_and_words_that_are_almost_right(self) -> None:
        """Whatever stands between the id and the word."""
        for head in (
            *(
                "1,12",
                "1,0x1",
                "1",
                "0,001",
                "1,1234",
                "01,001",
                "a,001",
                "1,001,",
                "1,001,1",
                ",001",
                "1,0 1",
            ),
            *("", "1,001,x", "-1,001", "1;001"),
        ):
            for word in ("ELOCK", "elock", " ELOCK", "ELOCK ", "EL0CK", "ELOC", "ELOCKK", "EL,OCK", "XELOCK"):
                parts = [part for part in (head, word) if part]
                for behind in ("3,507192", "1,1,507192", "5,1,507192,507192"):
                    self.assert_hidden(f"(794300000077,{','.join(parts)},{behind})".encode())

    @given(st.sampled_from(WHOLE), st.data())
    def test_any_damaged_byte_up_to_the_word(self, whole: bytes, data: st.DataObject) -> None:
        """One byte changed, lost or put in."""
        at = data.draw(
            st.integers(1, whole.index(b",", whole.index(b"ELOCK" if b"ELOCK" in whole else b"P")) - 1)
        )
        byte = bytes([data.draw(st.sampled_from(CHANGES))])
        for raw in (
            whole[:at] + byte + whole[at + 1 :],
            whole[:at] + whole[at + 1 :],
            whole[:at] + byte + whole[at:],
        ):
            self.assert_hidden(raw)

    def test_arguments_are_masked_as_raw_is(self) -> None:
        """The event's arguments are those that stand in its raw text."""
        for whole in WHOLE:
            frames = Framer().feed_datagram(whole.replace(b"1,012", b"1,0x2"))
            message = Decoder().decode(frames[0], 0.0)
            assert isinstance(message, Message)
            self.assertTrue(message.raw_masked)
            [(_, fact)] = message.events
            arguments = getattr(fact, "arguments", None)
            if arguments is not None:
                self.assertTrue(message.raw.endswith(",".join((fact.word, *arguments)) + ")"), message.raw)

    def test_with_secrets_all_is_shown(self) -> None:
        """`decode --secrets` shows the password in the arguments, too."""
        for whole in WHOLE[1:3]:
            self.assertEqual(shown(whole, secrets=True).count("507192"), 2 * whole.count(SECRET))

    def test_other_sentences_keep_their_arguments(self) -> None:
        """Nothing is masked in those that are whole and hold no password."""
        for raw in (
            b"(794300000077,1,001,BASE,1,JT709C_2.31_20251101)",
            b"(794300000077,1,001,GSENS,2,0,500,80)",
            b"(794300000077,1,001,CLOCKS,12345678)",
            b"(8000630001,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,1,1,0008627839,0,0,24,5)",
            b"(8000630001,P01,JT701D_20230101,98)",
            b"(8000630001,@JT)",
            b"(P69,0,2410)",
            b"(P22,170720020614)",
        ):
            self.assertEqual(sentences.mask(raw), (raw.decode(), False))

    def test_the_short_way_is_the_long_one(self) -> None:
        """A sentence that begins as nearly all do is passed by only where each of its parts would be."""
        heads = ("8000630001", "8000630001,1,012")
        words = ("P45", "P22", "P4", "@JT", "BASE", "WLNET", "ELOXK", "OTAP", "P045", "LOCK")
        behind = ("7", "170720", "22.56035", ".43", "2.5", "N", "CK", "elock", "P4")
        rests = [rest for count in range(4) for rest in product(behind, repeat=count)]
        some = [
            ",".join([head, word, *rest]).split(",") for head in heads for word in words for rest in rests
        ]
        found = [secret_words.find(parts, sentences.SECRET_WORDS) for parts in some]
        with mock.patch.object(secret_words, "_USUAL", re.compile(r"(?!)")):
            self.assertEqual([secret_words.find(parts, sentences.SECRET_WORDS) for parts in some], found)

    def test_no_parts(self) -> None:
        """A sentence of an id alone has no word."""
        self.assertIsNone(secret_words.find(["794300000077"], sentences.SECRET_WORDS))
