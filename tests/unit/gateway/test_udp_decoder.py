"""Answers over UDP: all that real locks ask is answered, and nobody can be flooded through them."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.gateway.udp_decoder import DatagramDecoder
from jt709c_gateway.protocol import jt808
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from tests.support.committer import FakeLink, Fleet
from tests.unit.protocol.test_dialect_streams import SOUND
from tests.vectors import DEVICE, binary, load, location, part
from tests.vectors.lines import Line, case, one_test_each, sent

IMEI_WIRE = bytes.fromhex("4d8f3c6e1a2b")
#: Version byte and ten of id, as in a 2019 header.
WIRE_2019 = bytes.fromhex("0199999999999999999999")
LOCATION = location()
#: Every id of the table in docs/protocol.rst, 1: the shortest body with which it means something.
BODIES = {
    jt808.LOCATION: LOCATION,
    jt808.HEARTBEAT: b"",
    jt808.STORED_LOCATIONS: b"\x00\x01\x01" + len(LOCATION).to_bytes(2, "big") + LOCATION,
    # Province, city, maker, model, id, colour of the plate (JT/T 808-2013, and the shorter one of 2011).
    jt808.REGISTRATION: bytes(2 + 2 + 5 + 8 + 7 + 1),
    jt808.AUTHENTICATION: DEVICE.hex().encode(),
    jt808.LOGOUT: b"",
    jt808.ATTRIBUTES: bytes(2 + 5 + 20 + 7 + 10) + b"\x021A\x021B",
    jt808.TIME_REQUEST: b"",
    jt808.TERMINAL_ANSWER: b"\x00\x01\x83\x00\x00",
    jt808.PARAMETERS: b"\x00\x01\x00",
    jt808.LOCATION_ANSWER: b"\x00\x01" + LOCATION,
    0x0F0F: b"",
}
#: Serials whose bytes have to be escaped, and one that need not.
SERIALS = (1, 0x7E7E, 0x7D7E)
SENTENCES = [
    b"(794308010679,1,005,BASE,2,TIME)",
    b"(8130630001,P22,2)",
    b"(8130630001,P52,2,123456)",
    b"(8000620011,P45,170720,020614,22.56035,N,114.01640,E,A,36,270,1,1,0008627839,0,0,24,5)",
    b"(8000620011,@JT)",
]


def parts_of_registrations(count: int) -> list[bytes]:
    return [part(jt808.REGISTRATION, b"", number, count, number) for number in range(1, count + 1)]


class DatagramCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.fleet = Fleet()

    def ask(self, datagram: bytes, link: FakeLink | None = None) -> bytes:
        """What one datagram leads to."""
        link = link or self.fleet.link("udp", "192.0.2.7:1")
        before = len(link.sent)
        self.fleet.feed(link, datagram)
        self.fleet.commit()
        return b"".join(link.sent[before:])

    def withheld(self) -> int:
        return self.fleet.gateway.counters.dropped["long_answer"]


class ExchangeTests(DatagramCase):
    """Whatever a real lock asks over UDP is answered as over TCP."""

    def over_tcp(self, data: bytes) -> bytes:
        (frame,) = Framer().feed(data)
        message: Any = Decoder().decode(frame, 0.0)
        return message.answer_at(self.fleet.wall) or b""

    def check(self, data: bytes) -> None:
        answer = self.ask(data)
        self.assertEqual(answer, self.over_tcp(data), data)
        self.assertTrue(len(answer) <= 2 * len(data), data)
        self.assertEqual(self.withheld(), 0, data)

    def test_every_message_id(self) -> None:
        """Every id of the table, in every kind of header, with serials that are escaped."""
        for message_id, body in BODIES.items():
            for wire in (DEVICE, IMEI_WIRE, WIRE_2019):
                for serial in SERIALS:
                    if wire is not DEVICE and message_id == jt808.REGISTRATION:
                        body = body.ljust(37, b"\x00")
                    self.check(binary(message_id, body, serial, wire))

    def test_jt705(self) -> None:
        """A 0x5501 that wants an answer."""
        for message_id in jt808.ONE_BYTE_SERIAL:
            self.check(jt808.encode_jt705(message_id, DEVICE, 0x7E, bytes(40), answer_wanted=True))

    def test_sentences(self) -> None:
        """Sentences that are answered, and one that isn't."""
        for sentence in SENTENCES:
            self.check(sentence)

    def test_recorded(self) -> None:
        """Every frame that was recorded from a real lock and is sound."""
        checked = 0
        for frame in [*(one["frame"] for one in load("real.jsonl")), *SOUND]:
            found = Framer().feed(frame)
            if len(found) == 1 and isinstance(Decoder().decode(found[0], 0.0), Message):
                self.check(frame)
                checked += 1
        self.assertTrue(checked > 30, checked)

    def test_split(self) -> None:
        """A split message is answered part by part, however short its last part is."""
        item = len(LOCATION).to_bytes(2, "big") + LOCATION
        body = b"\x00\x0c\x01" + item * 12
        pieces = [body[at : at + 100] for at in range(0, len(body), 100)] + [b""]
        link = self.fleet.link("udp", "192.0.2.7:1")
        sent = [self.ask(binary(0x0002), link)]
        for number, piece in enumerate(pieces, 1):
            sent.append(self.ask(part(0x0704, piece, number, len(pieces), number)))
        self.assertEqual([len(one) for one in sent], [20] + [0] * (len(pieces) - 1) + [20 * len(pieces)])


@one_test_each([case("F1 ")])
class LoopTests(DatagramCase):
    """Two gateways never answer each other: what goes from a platform to locks gets no answer."""

    def check(self, line: Line) -> None:
        """A case, over both transports."""
        for data in sent(line):
            self.unanswered(data)

    def unanswered(self, data: bytes) -> None:
        for transport in ("udp", "tcp"):
            link = self.fleet.link(transport, "192.0.2.9:1")
            self.assertEqual(self.ask(data, link), b"", data)
            link.close("closed")

    def test_ids_for_locks(self) -> None:
        """Nothing that only platforms send is answered, in any kind of header, whole or split."""
        ids = (0x8000, 0x8001, 0x8100, 0x8103, 0x8109, 0x8300, 0x8F00, 0x9101, 0x9205, 0xA000, 0xFFFF, 0x4401)
        for message_id in ids:
            for wire in (DEVICE, IMEI_WIRE, WIRE_2019):
                self.unanswered(binary(message_id, bytes(5), 1, wire))
            self.unanswered(part(message_id, b"ab", 1, 2, 1) + part(message_id, b"cd", 2, 2, 2))

    def test_answers(self) -> None:
        """No answer that a gateway gives is answered by another."""
        asked = [binary(message_id, body) for message_id, body in BODIES.items()]
        asked += [*SENTENCES, *SOUND, *(one["frame"] for one in load("real.jsonl"))]
        asked.append(jt808.encode_jt705(0x5501, DEVICE, 1, bytes(40), answer_wanted=True))
        answers = {self.ask(one) for one in asked} - {b""}
        self.assertTrue(len(answers) > 10)
        for answer in answers:
            self.unanswered(answer)


class LimitTests(DatagramCase):
    def test_withheld(self) -> None:
        """An answer more than twice as long as its question is counted instead; the event is published."""
        question = binary(jt808.REGISTRATION, b"", wire=IMEI_WIRE)
        self.assertEqual((len(question), len(self.over(question))), (15, 33))
        self.assertEqual(self.ask(question), b"")
        self.assertEqual(self.withheld(), 1)
        self.assertEqual(self.fleet.gateway.counters.frames["jt709", "registration"], 1)

    def over(self, question: bytes) -> bytes:
        (frame,) = Framer().feed(question)
        message: Any = Decoder().decode(frame, 0.0)
        return message.answer

    def test_others_answered(self) -> None:
        """The other frames of the datagram are answered all the same."""
        datagram = binary(jt808.REGISTRATION, b"", wire=IMEI_WIRE) + binary(0x0002, wire=IMEI_WIRE)
        self.assertEqual(len(self.ask(datagram)), 20)

    def test_time(self) -> None:
        """So it is with an answer that is made later, when the time is known."""
        told: list[str] = []
        decoder = DatagramDecoder(withheld=lambda: told.append("withheld"))
        (frame,) = Framer().feed(binary(jt808.TIME_REQUEST))
        message: Any = decoder.decode(frame, 0.0)
        self.assertEqual(len(message.answer_at(datetime(2026, 1, 2, tzinfo=UTC))), 23)
        limited = decoder._limited(lambda now: bytes(31), 30)
        self.assertIsNone(limited(datetime(2026, 1, 2, tzinfo=UTC)))
        self.assertIsNone(decoder._limited(lambda now: None, 30)(datetime(2026, 1, 2, tzinfo=UTC)))
        self.assertEqual(told, ["withheld"])

    def test_shared_flags(self) -> None:
        """Frames that share their flags don't count the same byte twice."""
        frames = [binary(jt808.REGISTRATION, b"", serial) for serial in range(1, 60)]
        datagram = b"\x7e" + b"".join(frame[1:] for frame in frames)
        self.assertTrue(len(self.ask(datagram)) <= 2 * len(datagram))
        heartbeats = [binary(0x0002, b"", serial) for serial in range(1, 60)]
        datagram = b"\x7e" + b"".join(frame[1:] for frame in heartbeats)
        answers = self.ask(datagram)
        self.assertEqual(len(answers), 59 * 20)
        self.assertTrue(len(answers) <= 2 * len(datagram))


#: Anything that may be answered, and much that may be made of it.
QUESTIONS = st.one_of(
    st.sampled_from([*SENTENCES, *SOUND, *(one["frame"] for one in load("real.jsonl"))]),
    st.builds(
        binary,
        st.sampled_from([*BODIES, 0x7D7E]),
        st.one_of(st.binary(max_size=20), st.sampled_from([*BODIES.values()])),
        st.sampled_from(SERIALS),
        st.sampled_from([DEVICE, IMEI_WIRE, WIRE_2019, b"\x7d" * 6, b"\x01" + b"\x7e" * 10]),
    ),
    st.binary(max_size=10),
    st.sampled_from([b"\x7e", b"(", b"$", b")"]),
)
CUT = st.tuples(st.integers(0, 30), st.integers(0, 30))


class FloodTests(SynchronousTestCase):
    """Whatever comes in one datagram, what goes back is at most twice as long."""

    @settings(max_examples=300, deadline=None)
    @given(st.lists(st.tuples(QUESTIONS, st.booleans()), max_size=12), CUT)
    def test_one_datagram(self, questions: list[tuple[bytes, bool]], cut: tuple[int, int]) -> None:
        """Frames in any number and command, some sharing a flag, cut at both ends, with noise between."""
        datagram = b""
        for question, shares in questions:
            both = shares and datagram.endswith(b"\x7e") and question.startswith(b"\x7e")
            datagram += question[1:] if both else question
        datagram = datagram[cut[0] : len(datagram) - cut[1]]
        fleet = Fleet()
        link = fleet.link("udp", "192.0.2.7:1")
        fleet.feed(link, datagram)
        fleet.commit()
        self.assertTrue(sum(map(len, link.sent)) <= 2 * len(datagram), datagram.hex())

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from(range(30)), max_size=60), st.integers(1, 30))
    def test_split_messages(self, command: list[int], per_datagram: int) -> None:
        """Parts in any order and number: what goes back is at most twice all that came."""
        frames = [one for count in (2, 5, 23) for one in parts_of_registrations(count)]
        fleet = Fleet()
        received = 0
        links = [
            fleet.link("udp", f"192.0.2.7:{number}") for number in range(len(command) // per_datagram + 1)
        ]
        for number, link in enumerate(links):
            chosen = command[number * per_datagram : (number + 1) * per_datagram]
            datagram = b"\x7e" + b"".join(frames[index][1:] for index in chosen) if chosen else b""
            received += len(datagram)
            fleet.feed(link, datagram)
            fleet.commit()
        self.assertTrue(sum(len(b"".join(link.sent)) for link in links) <= 2 * received)
