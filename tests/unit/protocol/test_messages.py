"""Messages by their id, and split ones: events, answers, masks."""

from datetime import UTC, datetime
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import answers, jt808, reassembly
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import (
    Attributes,
    Heartbeat,
    Registration,
    Reply,
    Unknown,
)
from jt709c_gateway.protocol.framing import BinaryFrame, Malformed
from jt709c_gateway.protocol.message import Message
from tests.vectors import DEVICE, binary, decode, fact, frames_of, location, message, part

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EVENT = bytes([0x0B, 8, 0x03]) + b"s3cr3t" + b"\x01"
MASKED = bytes([0x0B, 8, 0x03]) + b"******" + b"\x01"


def answered(decoded: Message) -> list[str]:
    """Which serials and ids the answer names."""
    frames = frames_of(decoded.answer_at(NOW) or b"")
    return [frame.payload[12:17].hex() for frame in frames if isinstance(frame, BinaryFrame)]


def masked(raw: bytes, secret: bytes) -> str:
    """The frame as it is published: the check byte would tell of the password."""
    clear = raw[: -3 if raw[-3:-2] == b"}" else -2]
    return (clear.replace(secret, b"*" * len(secret)) + b"*~").hex()


def kinds(decoded: Message) -> list[str]:
    return [kind for kind, _ in decoded.events]


class SimpleTests(SynchronousTestCase):
    """Messages of one frame."""

    def test_heartbeat(self) -> None:
        """Empty or with a body, a heartbeat is answered and is no report."""
        for body, expected in (
            (b"", Heartbeat()),
            (b"\x64\x1d\x02", Heartbeat(100, 29, 2)),
            (b"\x64", Heartbeat()),
        ):
            raw = binary(0x0002, body, 7)
            self.assertEqual(fact(raw), expected)
            self.assertEqual(answered(message(raw)), ["0007000200"])
            self.assertFalse(message(raw).report)

    def test_registration(self) -> None:
        """Registration, authentication and logout carry their bodies; the first has an answer of its own."""
        for message_id, step in ((0x0100, "registration"), (0x0102, "authentication"), (0x0003, "logout")):
            raw = binary(message_id, b"\x01\x02", 7)
            self.assertEqual(fact(raw), Registration(step, "0102"))  # type: ignore[arg-type]
            answer = message(raw).answer
            identity = jt808.identify(DEVICE)
            if message_id == 0x0100:
                self.assertEqual(answer, answers.registration_answer(identity, 7))
            else:
                self.assertEqual(answer, answers.general_answer(identity, 7, message_id))

    def test_terminal_answer(self) -> None:
        """0x0001 names what it answers and gets no answer."""
        raw = binary(0x0001, bytes.fromhex("0007 8103 02"))
        self.assertEqual(fact(raw), Reply("0001", ("7", "8103", "2"), None, 7, "8103", 2))
        self.assertIsNone(message(raw).answer_at(NOW))
        self.assertIsInstance(fact(binary(0x0001, b"\x00")), Unknown)

    def test_time_request(self) -> None:
        """0x0109 is answered with the time alone."""
        decoded = message(binary(0x0109, b"", 7))
        self.assertEqual(kinds(decoded), ["time_request"])
        self.assertEqual(decoded.answer_at(NOW), answers.time_answer(jt808.identify(DEVICE), 7, NOW))

    def test_attributes(self) -> None:
        """0x0107 gives maker, model, id, ICCID and versions; strings that are missing are None."""
        head = (
            b"\x00\x01JOINT" + b"JT709C".ljust(20, b"\0") + b"0106790" + bytes.fromhex("89860012345678901234")
        )
        raw = binary(0x0107, head + b"\x03HW1" + b"\x05V2.01")
        expected = Attributes(1, "JOINT", "JT709C", "0106790", "89860012345678901234", "HW1", "V2.01")
        self.assertEqual((fact(raw), message(raw).firmware), (expected, "V2.01"))
        for tail in (b"", b"\x09HW1"):
            shorter = fact(binary(0x0107, head + tail))
            self.assertEqual((shorter.hardware, shorter.firmware), (None, None))
        self.assertEqual(fact(binary(0x0107, head[:-1])).message_id, "0107")

    def test_parameters(self) -> None:
        """0x0104 maps ids to values in hex."""
        body = bytes.fromhex("0007 02 00000001 04 0000001e 00000013 02 6162")
        reply = fact(binary(0x0104, body))
        self.assertEqual(reply.parameters, {"0001": "0000001e", "0013": "6162"})
        self.assertEqual((reply.answered_serial, reply.arguments), (7, ("7", "2")))
        self.assertEqual(answered(message(binary(0x0104, body, 9))), ["0009010400"])

    def test_secret_parameters(self) -> None:
        """Passwords among the parameters are masked: counted, not counted, or cut off."""
        for tail in (b"s3cr3t", b"s3cr3"):
            for count in (2, 1, 0):
                for parameter in (0x12, 0x16):
                    values = bytes.fromhex("00000001 01 05") + parameter.to_bytes(4, "big") + b"\x06"
                    raw = binary(0x0104, b"\x00\x07" + bytes([count]) + values + tail)
                    decoded = message(raw)
                    self.assertEqual(decoded.raw, masked(raw, tail))
                    self.assertTrue(decoded.raw_masked)
                    parameters = fact(raw).parameters
                    if count == 2 and len(tail) == 6:
                        self.assertEqual(parameters[f"{parameter:04x}"], "2a" * 6)
                    else:
                        self.assertEqual(parameters, {"0001": "05"} if count else {})

    def test_location_answer(self) -> None:
        """0x0201 is a location and a reply to the query, and its passwords are masked."""
        raw = binary(0x0201, b"\x00\x07" + location(EVENT))
        decoded = message(raw)
        self.assertEqual(kinds(decoded), ["location", "lock", "reply"])
        self.assertEqual(decoded.events[-1][1], Reply("0201", ("7",), answered_serial=7))
        self.assertEqual(decoded.raw, masked(raw, b"s3cr3t"))
        self.assertIsInstance(fact(binary(0x0201, b"\x00\x07" + location()[:-1])), Unknown)

    def test_unknown_id(self) -> None:
        """An id that nobody knows is carried and answered."""
        raw = binary(0x0900, b"\x01", 7)
        decoded = message(raw)
        self.assertEqual(fact(raw), Unknown("0900", "no such message id is known"))
        self.assertEqual((decoded.raw, decoded.report), (raw.hex(), True))
        self.assertEqual(answered(decoded), ["0007090000"])

    def test_encrypted(self) -> None:
        """An encrypted body is carried and answered, never guessed at."""
        head = bytes.fromhex("0200041c") + DEVICE + b"\x00\x07"
        raw = jt808.pack(head + location())
        self.assertEqual(fact(raw), Unknown("0200", "the body is encrypted"))
        self.assertEqual(answered(message(raw)), ["0007020000"])

    def test_short_location(self) -> None:
        """A location too short for its fixed part is carried and answered."""
        raw = binary(0x0200, location()[:27], 7)
        self.assertEqual(fact(raw).message_id, "0200")
        self.assertEqual(answered(message(raw)), ["0007020000"])

    def test_impossible_date(self) -> None:
        """The message says that its date is impossible."""
        body = location()[:22] + bytes(6)
        self.assertTrue(message(binary(0x0200, body)).impossible_date)
        self.assertFalse(message(binary(0x0200, location())).impossible_date)

    def test_bad_header(self) -> None:
        """A header that doesn't fit its frame, or an id that is none, is malformed."""
        for payload, reason in (
            (bytes.fromhex("02000009") + DEVICE + b"\x00\x07abc", "length"),
            (bytes.fromhex("02000000") + b"\xff" * 6 + b"\x00\x07", "terminal_id"),
        ):
            decoded = decode(jt808.pack(payload))
            assert isinstance(decoded, Malformed)
            self.assertEqual(decoded.reason, reason)


class StoredTests(SynchronousTestCase):
    """0x0704, several locations in one message."""

    def stored(self, *items: bytes, count: int | None = None, kind: int = 1) -> bytes:
        head = (len(items) if count is None else count).to_bytes(2, "big") + bytes([kind])
        return head + b"".join(len(item).to_bytes(2, "big") + item for item in items)

    def test_good(self) -> None:
        """Each item is a location; type 1 is from memory."""
        for kind in (0, 1):
            raw = binary(0x0704, self.stored(location(), location(EVENT), kind=kind), 7)
            decoded = message(raw)
            self.assertEqual(kinds(decoded), ["location", "location", "lock"])
            self.assertEqual((decoded.stored, decoded.report), (kind == 1, True))
            self.assertEqual(decoded.raw, masked(raw, b"s3cr3t"))
            self.assertEqual(answered(decoded), ["0007070400"])

    def test_not_all(self) -> None:
        """What can be read is kept, what can't is said, and everything is answered and masked."""
        good, event = location(), location(EVENT)
        for body, read in (
            (self.stored(good, event)[:-1], 1),
            (self.stored(good, event)[:-5], 1),
            (self.stored(good, good[:20], event), 2),
            (self.stored(good[:20], good), 1),
            (self.stored(good, count=2), 1),
            (self.stored(), 0),
            (self.stored(event)[:10], 0),
        ):
            raw = binary(0x0704, body, 7)
            decoded = message(raw)
            self.assertEqual(kinds(decoded).count("location"), read)
            self.assertEqual(kinds(decoded)[-1], "unknown")
            self.assertEqual(answered(decoded), ["0007070400"])
            self.assertNotIn(b"s3c".hex(), decoded.raw)
        self.assertIsInstance(fact(binary(0x0704, b"\x00\x01")), Unknown)

    def test_more_than_counted(self) -> None:
        """Items beyond the count are read and masked like the others."""
        raw = binary(0x0704, self.stored(location(), location(EVENT), count=1))
        decoded = message(raw)
        self.assertEqual(kinds(decoded), ["location", "location", "lock"])
        self.assertIn(MASKED.hex(), decoded.raw)


class SplitTests(SynchronousTestCase):
    """Messages that come in parts."""

    body = StoredTests.stored(StoredTests(), location(EVENT), location())  # type: ignore[arg-type]

    def parts(self, cuts: list[int], serial: int = 100) -> list[bytes]:
        edges = [0, *cuts, len(self.body)]
        pieces = [self.body[a:b] for a, b in pairwise(edges)]
        return [
            part(0x0704, piece, (serial + number) & 0xFFFF, len(pieces), number + 1)
            for number, piece in enumerate(pieces)
        ]

    def check(self, raws: list[bytes], command: list[int], serial: int = 100) -> None:
        decoder = Decoder()
        for index in command[:-1]:
            self.assertIsNone(decode(raws[index], decoder))
        decoded = message(raws[command[-1]], decoder)
        self.assertEqual(kinds(decoded), ["location", "lock", "location"])
        whole = [f"{(serial + number) & 0xFFFF:04x}070400" for number in range(len(raws))]
        self.assertEqual(answered(decoded), whole)
        self.assertEqual(decoded.wire, b"".join(raws))
        self.assertEqual(len(decoded.raw), 2 * len(decoded.wire))
        self.assertEqual(decoder.parts.dropped, 0)

    def test_commands(self) -> None:
        """Parts in order, out of order and doubled give the message; every part is answered."""
        raws = self.parts([20, 60])
        for command in ([0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 0, 1, 1, 2]):
            self.check(raws, command)
        self.check(self.parts([20, 60], 0xFFFE), [2, 0, 1], 0xFFFE)
        self.check(self.parts([]), [0])

    def test_masked_wherever_it_is_cut(self) -> None:
        """A password is masked also when it lies in two parts."""
        at = self.body.index(b"s3cr3t")
        for cut in range(at - 1, at + 8):
            first, second = self.parts([cut])
            decoder = Decoder()
            decode(first, decoder)
            raw = bytes.fromhex(message(second, decoder).raw)
            masked = self.body.replace(b"s3cr3t", b"******")
            self.assertIn(masked[:cut], raw)
            self.assertIn(masked[cut:], raw)
            self.assertEqual(len(raw), len(first) + len(second))

    def test_timeout(self) -> None:
        """Parts that wait too long are let go unanswered."""
        first, second = self.parts([50])
        decoder = Decoder()
        for raw, now in ((first, 0.0), (second, reassembly.TIMEOUT + 0.1)):
            (frame,) = frames_of(raw)
            self.assertIsNone(decoder.decode(frame, now))
        self.assertEqual(decoder.parts.dropped, 1)

    def test_bad_numbers(self) -> None:
        """A part numbered outside its message completes nothing: it is carried raw, and answered."""
        decoder = Decoder()
        for packets, packet in ((0, 0), (0, 1), (2, 0), (2, 3)):
            raw = part(0x0704, b"abc", 1, packets, packet)
            odd = message(raw, decoder)
            self.assertEqual(odd.events, [("unknown", Unknown("0704", f"it is part {packet} of {packets}"))])
            self.assertEqual((odd.raw, answered(odd)), (raw.hex(), ["0001070400"]))
        self.assertEqual(decoder.parts.dropped, 0)

    def test_wrong_length(self) -> None:
        """A part whose length field is off is one nevertheless: the whole is carried raw, and answered."""
        for surplus in (-4, -1, 1, 4):
            raws = self.parts([20, 60])
            payload = bytearray(jt808.unpack(raws[1]))
            payload[3] -= surplus
            raws[1] = jt808.pack(bytes(payload))
            for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
                decoder = Decoder()
                for index in order[:-1]:
                    self.assertIsNone(decode(raws[index], decoder))
                whole = message(raws[order[-1]], decoder)
                self.assertEqual((kinds(whole), whole.wrong_length), (["unknown"], True))
                self.assertEqual(answered(whole), ["0064070400", "0065070400", "0066070400"])
                self.assertEqual(len(whole.raw), 2 * len(b"".join(raws)))
                self.assertNotIn(b"s3cr3t".hex(), whole.raw)

    def test_no_part_after_all(self) -> None:
        """With the bit of a split message and a wrong length, and no numbers of parts, it is carried raw."""
        head = (0x0200).to_bytes(2, "big") + (len(location()) | jt808.BIT_SPLIT).to_bytes(2, "big") + DEVICE
        raw = jt808.pack(head + b"\x00\x07" + location())
        odd = message(raw)
        self.assertEqual((kinds(odd), odd.raw, odd.wrong_length), (["unknown"], raw.hex(), True))
        self.assertEqual(answered(odd), ["0007020000"])
