"""Passwords stay out of everything that is published, whatever carries them."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt808
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.framing import MALFORMED_KEPT, Malformed
from jt709c_gateway.protocol.redact import mask_malformed
from tests.vectors import binary, decode, location, message

EVENT = bytes([0x0B, 8, 0x03]) + b"s3cr3t" + b"\x01"
MASKED = bytes([0x0B, 8, 0x03]) + b"******" + b"\x01"


class MaskTests(SynchronousTestCase):
    """Frames that are read, carried or broken."""

    def test_location_masks(self) -> None:
        """Whatever the length of an event item, whole or cut off, its password is masked in `raw`."""
        for length in range(1, 14):
            for kept in range(1, length + 1):
                value = (b"\x03s3cr3t" + b"\x01" * 6)[:kept]
                raw = binary(0x0200, location(bytes([0x31, 1, 9, 0x0B, length]) + value))
                secret = value[1:7]
                decoded = message(raw)
                at = raw.index(b"\x0b" + bytes([length]) + value) + 3
                expected = raw[:at] + b"*" * len(secret) + raw[at + len(secret) :]
                if secret:
                    expected = expected[: -3 if raw[-3:-2] == b"}" else -2] + b"*~"
                self.assertEqual(decoded.raw, expected.hex())
                self.assertEqual(decoded.raw_masked, bool(secret))
                location_ = decoded.events[0][1]
                assert isinstance(location_, Location)
                self.assertEqual(location_.satellites, 9)
                self.assertNotIn(b"s3".hex(), "".join(location_.items.values()))

    def test_escaped_password(self) -> None:
        """A password with bytes that are escaped, before a check byte that is, is masked whole."""
        for password in (b"}~}~}~", b"12345~", b"}23456"):
            for last in range(256):
                body = location(bytes([0x0B, 8, 0x03]) + password + bytes([last]))
                decoded = message(binary(0x0200, body))
                payload = jt808.unescape(bytes.fromhex(decoded.raw)[1:-1])
                self.assertEqual(payload[12:-1], body.replace(password, b"******"))
                self.assertEqual(payload[-1:], b"*")

    def test_cut_off_where_the_check_byte_fits(self) -> None:
        """A frame that ends within the password, whose last character is the right check byte by chance."""
        refused = binary(0x0200, location(bytes([0x0B, 7, 0x29]) + b"s3cr3t"))
        for left in range(3, 7):
            payload = bytearray(jt808.unescape(refused[1:-1])[: -1 - 6 + left])
            # A byte of the altitude makes the last character the check byte.
            payload[12 + 17] ^= jt808.checksum(bytes(payload))
            raw = b"\x7e" + jt808.escape(bytes(payload)) + b"\x7e"
            decoded = message(raw)
            self.assertEqual(decoded.events[0][0], "unknown")
            at = len(raw) - 1 - left
            self.assertEqual(decoded.raw, (raw[:at] + b"*" * left + b"~").hex())
            self.assertTrue(decoded.raw_masked)

    def test_dollar(self) -> None:
        """A `$` frame is carried with its master's id, unanswered."""
        raw = b"$" + bytes.fromhex("0000620011 19 11 0003") + b"abc"
        decoded = message(raw)
        self.assertEqual((decoded.device, decoded.dialect, decoded.raw), ("620011", "jt701", raw.hex()))
        self.assertIsNone(decoded.answer)

    def test_malformed(self) -> None:
        """Broken frames keep everything but what may be a password."""
        frame = binary(0x0200, location(EVENT))
        broken = frame[:-2] + bytes([frame[-2] ^ 1]) + b"\x7e"
        masked = decode(broken)
        assert isinstance(masked, Malformed)
        self.assertEqual(
            (masked.reason, masked.raw), ("check", broken.replace(b"s3cr3t", b"******")[:-2] + b"*~")
        )
        clear = decode(broken, Decoder(secrets=True))
        assert isinstance(clear, Malformed)
        self.assertEqual(clear.raw, broken)

    def test_malformed_is_cut(self) -> None:
        """However long a broken frame, only its beginning is kept."""
        raw = jt808.pack(bytes.fromhex("02000005") + bytes(8) + b"x" * 900)
        broken = decode(raw)
        assert isinstance(broken, Malformed)
        self.assertEqual((broken.reason, broken.raw), ("length", raw[:MALFORMED_KEPT]))

    def test_mask_malformed(self) -> None:
        """Items are found in any run, at any cut, escaped or not, also behind what only looks like one."""
        item = b"\x0b\x08\x03"
        for raw, expected in (
            (item + b"s3cr3t", item + b"******"),
            (b"\x7e" + item + b"s3cr3t\x01\x55\x7e", b"\x7e" + item + b"******\x01*\x7e"),
            (b"\x7e" + item + b"s3cr3t\x01}\x02\x7e", b"\x7e" + item + b"******\x01**\x7e"),
            (b"garbage" + item + b"s3cr3t\x01", b"garbage" + item + b"*******"),
            (b"\x7e" + item + b"s3c", b"\x7e" + item + b"***"),
            (item + b"}\x02}\x01cr3t\x01", item + b"*********"),
            (b"\x7e\x0b}\x01\x03s3cr3t\x01", b"\x7e\x0b}\x01\x03*******"),
            (b"\x7e}\x05" + item + b"s3cr3t", b"\x7e}\x05" + item + b"******"),
            (b"\x0b\x01\x06" + item + b"s3cr3t\x01", b"\x0b\x01\x06" + b"*" * 10),
            (b"\x0b\x08\x22s3cr3t", b"\x0b\x08\x22s3cr3t"),
            (b"(ELOCK,3,529439)", b"(ELOCK,3,******)".replace(b"3,", b"*,")),
            (b"xELOCK,3,52943", b"xELOCK,*,*****"),
            (b"(8130630001,P44,12\x8034", b"(8130630001,P44,*****"),
            (b"nothing", b"nothing"),
        ):
            self.assertEqual(mask_malformed(raw), expected)

    def test_event_in_unknown(self) -> None:
        """What looks like an event's password is masked in messages that nobody reads, too."""
        raw = binary(0x0900, b"\x01" + EVENT)
        self.assertEqual(
            (message(raw).raw, message(raw).raw_masked),
            (raw.replace(EVENT, MASKED)[:-2].hex() + "2a7e", True),
        )
        self.assertEqual(message(raw, Decoder(secrets=True)).raw, raw.hex())
        dollar = b"$" + bytes.fromhex("0000620011 19 11 000b") + EVENT + b"x"
        self.assertEqual(message(dollar).raw, dollar.replace(EVENT, MASKED).hex())
        self.assertEqual(message(dollar, Decoder(secrets=True)).raw, dollar.hex())

    def test_event_in_items(self) -> None:
        """An unknown item that holds another with a password, or begins inside of one, shows none of it."""
        for items in (bytes([0xEE, len(EVENT)]) + EVENT, bytes([0xEE]) + EVENT + bytes(8)):
            decoded = message(binary(0x0200, location(items)))
            found = decoded.events[0][1]
            assert isinstance(found, Location)
            self.assertIn("ee", found.items)
            self.assertIn(b"******".hex(), found.items["ee"])
            self.assertNotIn(b"s3cr3t".hex(), found.items["ee"] + decoded.raw)

    def test_event_in_sublock_report(self) -> None:
        """A sub-lock's report that has swallowed part of a broken frame shows no password of it."""
        raw = b"(123456,1,001,WLNET,5,2," + bytes(20) + EVENT + bytes(10) + b")"
        for decoder, expected in ((Decoder(), raw.replace(EVENT, MASKED)), (Decoder(secrets=True), raw)):
            decoded = message(raw, decoder)
            self.assertEqual(decoded.raw, expected.decode("latin-1"))
            self.assertEqual((decoded.raw_masked, decoded.wire), (expected != raw, raw))
