"""Escapes, check byte, header, ids and answers of the `7E` family."""

from datetime import UTC, datetime

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import answers, bcd, jt808
from jt709c_gateway.protocol.jt808 import FrameError
from tests.vectors import DEVICE, binary

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class EscapeTests(SynchronousTestCase):
    def test_both_bytes(self) -> None:
        """7D and 7E are written as pairs, 7D first, and nothing else is touched."""
        self.assertEqual(jt808.escape(bytes.fromhex("307e087d55")), bytes.fromhex("307d02087d0155"))
        self.assertEqual(jt808.escape(b"\x7d\x02\x7d\x01"), bytes.fromhex("7d01027d0101"))
        self.assertEqual(jt808.unescape(bytes.fromhex("307d02087d0155")), bytes.fromhex("307e087d55"))
        self.assertEqual(jt808.unescape(bytes.fromhex("7d0102")), b"\x7d\x02")

    def test_bad_pairs(self) -> None:
        """7D before anything but 01 and 02, or at the end, is an error of its own kind."""
        for data in (b"\x7d", b"a\x7d", b"\x7d\x00", b"\x7d\x03a", b"\x7d\x7d\x01"):
            error = self.assertRaises(FrameError, jt808.unescape, data)
            self.assertEqual(error.reason, "escape")


class ChecksumTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """It is the XOR of all bytes, whatever their number."""
        for length in (0, 1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 1000):
            data = bytes((index * 37 + 11) & 0xFF for index in range(length))
            expected = 0
            for byte in data:
                expected ^= byte
            self.assertEqual(jt808.checksum(data), expected)

    def test_pack(self) -> None:
        """A frame has its check byte inside its flags, both ways."""
        frame = bytes.fromhex("7e00020000003889311353b818627e")
        self.assertEqual(jt808.pack(frame[1:-2]), frame)
        self.assertEqual(jt808.unpack(frame), frame[1:-2])

    def test_bad_frames(self) -> None:
        """A wrong check byte and a missing header are told apart."""
        frame = bytes.fromhex("7e00020000003889311353b818637e")
        self.assertEqual(self.assertRaises(FrameError, jt808.unpack, frame).reason, "check")
        self.assertEqual(self.assertRaises(FrameError, jt808.unpack, frame[:-3] + b"\x7e").reason, "length")


class HeaderTests(SynchronousTestCase):
    def parse(self, head: str, body: bytes = b"") -> jt808.Header:
        return jt808.parse_header(bytes.fromhex(head) + body)

    def test_usual(self) -> None:
        """Id, device and serial stand where they should, and the body behind them."""
        header = self.parse("0200 0003 794308010679 0138", b"abc")
        self.assertEqual((header.message_id, header.serial, header.body_start), (0x0200, 312, 12))
        self.assertEqual((header.identity.device, header.identity.imei), ("794308010679", None))
        self.assertEqual((header.packets, header.packet), (0, 0))
        self.assertFalse(header.encrypted or header.answer_wanted)

    def test_2019(self) -> None:
        """A 2019 header has a version and ten bytes of id, which answers repeat."""
        header = self.parse("0200 4002 01 00000000013912345678 00ff", b"ab")
        self.assertEqual((header.identity.device, header.serial, header.body_start), ("13912345678", 255, 17))
        answer = answers.general_answer(header.identity, header.serial, header.message_id)
        back = jt808.parse_header(jt808.unpack(answer))
        self.assertEqual((back.message_id, back.attributes), (0x8001, 0x4005))
        self.assertEqual(back.identity.wire, header.identity.wire)

    def test_split(self) -> None:
        """A split message has its number of packets and the packet's own behind the serial."""
        header = self.parse("0704 2002 794308010679 0001 0003 0002", b"ab")
        self.assertEqual((header.packets, header.packet, header.body_start), (3, 2, 16))
        both = self.parse("0704 6001 01 00000000013912345678 0001 0003 0003", b"a")
        self.assertEqual((both.packets, both.packet, both.body_start), (3, 3, 21))

    def test_encrypted(self) -> None:
        """Any of the three encryption bits says so, but not in 0x5501 and 0x5502."""
        for bit in (0x0400, 0x0800, 0x1000):
            self.assertTrue(self.parse(f"0200 {bit:04x} 794308010679 0001").encrypted)
        self.assertFalse(self.parse("5501 8c01 794308010679 01", b"a").encrypted)

    def test_one_byte_serial(self) -> None:
        """0x5501 and 0x5502 have a serial of one byte and may want an answer."""
        header = self.parse("5502 8403 740190311185 09", b"abc")
        self.assertEqual((header.serial, header.body_start, header.answer_wanted), (9, 11, True))
        self.assertFalse(self.parse("5502 0403 740190311185 09", b"abc").answer_wanted)

    def test_wrong_length(self) -> None:
        """A body much longer or shorter than announced, or no room for the header, is an error."""
        for head, body in (
            ("0200 0007 794308010679 0138", b"ab"),
            ("0200 0003 794308010679 0138", b"abcdefgh"),
            ("0200 4000 01 000000000139 1234", b""),
            ("0704 2000 794308010679 0001", b"ab"),
            ("5501 8407 740190311185 09", b"ab"),
        ):
            self.assertEqual(self.assertRaises(FrameError, self.parse, head, body).reason, "length")

    def test_length_a_little_off(self) -> None:
        """By up to four bytes a body may be longer or shorter than announced, which is noted."""
        for size in range(16):
            for announced in range(16):
                head = f"0200 {announced:04x} 794308010679 0138"
                if abs(size - announced) > 4:
                    self.assertRaises(FrameError, self.parse, head, b"x" * size)
                else:
                    self.assertEqual(self.parse(head, b"x" * size).surplus, size - announced)

    def test_bit_of_a_2019_header(self) -> None:
        """It counts where the length fits such a header, not where only one of 2013 does."""
        for announced in (0, 5, 30):
            old = self.parse(f"0102 {announced | 0x4000:04x} 010000000001 0031", b"x" * announced)
            self.assertEqual((old.identity.wire.hex(), old.serial, old.surplus), ("010000000001", 0x31, 0))
            new = self.parse(f"0102 {announced | 0x4000:04x} 01 00000000000012345678 0031", b"x" * announced)
            self.assertEqual((new.identity.device, new.serial, new.surplus), ("12345678", 0x31, 0))

    def test_bit_of_a_2019_header_and_wrong_length(self) -> None:
        """Version and zeros of the id tell which header it is, however the length is off."""
        for surplus in (-4, -3, -2, -1, 1, 2, 3, 4):
            attributes = 0x4000 | 20 - surplus
            for wire, device in (
                ("794308010679", "794308010679"),
                ("013812345678", "13812345678"),
                ("000000000123", "123"),
                ("010000000001", "10000000001"),
            ):
                old = self.parse(f"0200 {attributes:04x} {wire} 00af", b"x" * 20)
                self.assertEqual((old.identity.device, old.serial, old.surplus), (device, 0xAF, surplus))
            new = self.parse(f"0200 {attributes:04x} 01 00000000123456789012 0005", b"x" * 20)
            self.assertEqual((new.identity.device, new.serial, new.surplus), ("123456789012", 5, surplus))


class IdentifyTests(SynchronousTestCase):
    def test_bcd(self) -> None:
        """Decimal digits are shown without leading zeros; all zeros are one."""
        for wire, device in (
            ("794308010679", "794308010679"), ("016150215836", "16150215836"), ("000000000000", "0"),
        ):  # fmt: skip
            identity = jt808.identify(bytes.fromhex(wire))
            self.assertEqual((identity.device, identity.imei, identity.wire.hex()), (device, None, wire))

    def test_imei(self) -> None:
        """A nibble above 9 makes it a number: 14 digits of an IMEI, which its Luhn digit completes."""
        # 490154203237518 is the example of the IMEI's definition: 14 digits and check digit 8.
        self.assertEqual(jt808.luhn_digit("49015420323751"), "8")
        wire = (49015420323751).to_bytes(6, "big")
        self.assertFalse(wire.hex().isdecimal())
        identity = jt808.identify(wire)
        self.assertEqual((identity.device, identity.imei), ("490154203237518", "490154203237518"))
        self.assertEqual(identity.wire, wire)
        self.assertEqual(jt808.luhn_digit("0" * 14), "0")
        # Fewer digits stand behind zeros.
        self.assertEqual(jt808.identify(b"\x00\x00\x00\x00\x00\x0a").device, "000000000000109")

    def test_unreadable(self) -> None:
        """More than 14 digits, or a 2019 id with a nibble above 9, is nobody."""
        for wire in (b"\xff" * 6, (10**14).to_bytes(6, "big"), b"\x01" + b"\x0a" * 10):
            self.assertEqual(self.assertRaises(FrameError, jt808.identify, wire).reason, "terminal_id")


class AnswerTests(SynchronousTestCase):
    """Every answer, byte by byte."""

    identity = jt808.identify(DEVICE)

    def test_general(self) -> None:
        """0x8001 repeats serial and id with result 0."""
        answer = answers.general_answer(self.identity, 0x0138, 0x0200)
        self.assertEqual(answer.hex(), "7e80010005794308010679" + "0138" + "0138020000" + "ca" + "7e")
        self.assertEqual(answer, jt808.encode(0x8001, DEVICE, 0x0138, bytes.fromhex("0138020000")))

    def test_general_escapes(self) -> None:
        """Serial, id and check byte are escaped where they need it."""
        for wire in (DEVICE, bytes.fromhex("7e7d7e7d0a0f"), b"\x01" + bytes.fromhex("00000000000000000079")):
            try:
                identity = jt808.identify(wire)
            except FrameError:
                identity = jt808.Identity("x", None, wire)
            for serial in (0, 0x7E, 0x7D00, 0x7D7E, 0x7E7E, 0xFFFF):
                for message_id in (0x0200, 0x027D, 0x7E02):
                    body = serial.to_bytes(2, "big") + message_id.to_bytes(2, "big") + b"\x00"
                    expected = jt808.encode(0x8001, wire, serial, body)
                    self.assertEqual(answers.general_answer(identity, serial, message_id), expected)
                    self.assertNotIn(b"\x7e", expected[1:-1])
        # Some id brings the check byte to 7E and to 7D.
        checks = {
            answers.general_answer(self.identity, 1, message_id)[-3:-1].hex() for message_id in range(256)
        }
        self.assertTrue({"7d01", "7d02"} <= checks)

    def test_registration(self) -> None:
        """0x8100 gives result 0 and the id as authentication code."""
        payload = jt808.unpack(answers.registration_answer(self.identity, 7))
        self.assertEqual(payload.hex(), "8100000f794308010679" + "0007" + "000700" + b"794308010679".hex())

    def test_time(self) -> None:
        """0x8109 gives the time in UTC and result 0."""
        payload = jt808.unpack(answers.time_answer(self.identity, 7, NOW))
        self.assertEqual(payload.hex(), "81090008794308010679" + "0007" + "07ea010203040500")

    def test_jt705(self) -> None:
        """0x4401 has the one-byte serial 01, the answered id and result 0."""
        payload = jt808.unpack(answers.jt705_answer(self.identity, 0x5502))
        self.assertEqual(payload.hex(), "44010003794308010679" + "01" + "550200")

    def test_encode_limits(self) -> None:
        """A body has at most 1023 bytes, and a serial wraps."""
        self.assertRaises(ValueError, jt808.encode, 0x8300, DEVICE, 0, bytes(1024))
        longest = jt808.parse_header(jt808.unpack(binary(0x8300, bytes(1023), 0x10002)))
        self.assertEqual((longest.serial, longest.attributes), (2, 1023))


class TimeTests(SynchronousTestCase):
    def test_moments(self) -> None:
        """Six bytes of digits are a moment in UTC, of this century."""
        self.assertEqual(bcd.time_ymd(bytes.fromhex("260102030405")), NOW)
        self.assertEqual(bcd.encode_ymd(NOW).hex(), "260102030405")
        self.assertEqual(
            bcd.time_ymd(bytes.fromhex("000229235959")), datetime(2000, 2, 29, 23, 59, 59, tzinfo=UTC)
        )

    def test_impossible(self) -> None:
        """Days, hours and digits that don't exist are no moment."""
        for digits in (
            "000000000000", "261302030405", "260230030405", "260102240405", "260102036005", "260102030460",
            "2601020304fa", "ff0102030405", "2a0102030405", "260a02030405",
        ):  # fmt: skip
            self.assertIsNone(bcd.time_ymd(bytes.fromhex(digits)), digits)
