"""What holds for any bytes, any chunking and any corruption."""

import itertools
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import bcd, jt709, jt808, lock_event_item
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import Location, to_json
from jt709c_gateway.protocol.framing import MAX_BINARY, MAX_SENTENCE, BinaryFrame, Frame, Framer, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.redact import mask_malformed
from tests.vectors import binary, load, location, part

#: A slow machine is no failure.
lenient = settings(deadline=None)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
#: Most that a framer may hold back.
BOUND = max(MAX_BINARY, 2 * MAX_SENTENCE)
FRAMES = [vector["frame"] for name in ("real.jsonl", "jt709.jsonl") for vector in load(name)]
#: A recorded sub-lock's report can end where its chunk ends (see the framing tests): not asked for here.
NO_SUBLOCKS = [frame for frame in FRAMES if b"WLNET,5" not in frame]

moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31, 23, 59, 59), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
wires = st.one_of(
    st.text("0123456789", min_size=12, max_size=12).map(bytes.fromhex),
    st.integers(0, 10**14 - 1).map(lambda number: number.to_bytes(6, "big")),
    st.text("0123456789", min_size=20, max_size=20).map(lambda digits: b"\x01" + bytes.fromhex(digits)),
)
#: Bytes that matter to a framer, far more often than chance has them.
noise = st.lists(
    st.one_of(
        st.sampled_from([b"\x7e", b"(", b")", b"$", b"\x7d", b"\x7d\x02", b"\x00", b"\r\n", b"\x02", b"1"]),
        st.sampled_from([b"\x55\x01", b"(123456,", b"(123456,1,001,WLNET,5,2,", b"\x0b\x08\x03"]),
        st.just(b"$\x11\x11\x11\x11\x11\x19\x11\x00\x02"),
        st.binary(max_size=6),
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


def streams(frames: list[bytes]) -> st.SearchStrategy[bytes]:
    return st.lists(st.one_of(st.sampled_from(frames), noise), max_size=8).map(b"".join)


def chunks(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def fed(pieces: list[bytes]) -> tuple[list[Frame], Framer]:
    framer = Framer()
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    return frames, framer


def published(decoded: Message) -> list[bytes]:
    return [to_json(event) for event in wrap_all(decoded, Origin(), NOW)]


class RoundTripTests(SynchronousTestCase):
    @given(st.binary(max_size=300))
    @lenient
    def test_escape(self, data: bytes) -> None:
        """Escaped bytes hold no flag, and unescape gives them back."""
        escaped = jt808.escape(data)
        self.assertNotIn(b"\x7e", escaped)
        self.assertEqual(jt808.unescape(escaped), data)

    @given(moments)
    @lenient
    def test_time(self, moment: datetime) -> None:
        """Six bytes of digits hold any second of the century."""
        self.assertEqual(bcd.time_ymd(bcd.encode_ymd(moment)), moment)

    @given(st.binary(min_size=6, max_size=6))
    @lenient
    def test_any_time(self, digits: bytes) -> None:
        """Six bytes are a moment that is written the same, or none."""
        moment = bcd.time_ymd(digits)
        if moment is not None:
            self.assertEqual(bcd.encode_ymd(moment), digits)

    @given(st.integers(0, 0xFFFF), wires, st.integers(0, 0xFFFF), st.binary(max_size=1023))
    @lenient
    def test_frame(self, message_id: int, wire: bytes, serial: int, body: bytes) -> None:
        """A frame gives back id, device, serial and body, also through the framer."""
        if message_id in jt808.ONE_BYTE_SERIAL:
            message_id = 0x0200
        raw = jt808.encode(message_id, wire, serial, body)
        payload = jt808.unpack(raw)
        header = jt808.parse_header(payload)
        self.assertEqual((header.message_id, header.serial), (message_id, serial))
        self.assertEqual((header.identity.wire, payload[header.body_start :]), (wire, body))
        self.assertEqual(jt808.pack(payload), raw)
        if message_id >> 8 not in (0x24, 0x28, 0x0A, 0x0D):
            self.assertEqual(Framer().feed(raw), [BinaryFrame(raw, payload)])

    @given(
        st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(-90_000_000, 90_000_000),
        st.integers(-180_000_000, 180_000_000), st.integers(-32768, 32767), st.integers(0, 65535),
        st.integers(0, 65535), moments,
        st.dictionaries(st.integers(0, 255), st.binary(max_size=12), max_size=10),
    )  # fmt: skip
    @lenient
    def test_location(
        self, alarm_bits: int, status: int, latitude: int, longitude: int, altitude: int, speed: int,
        course: int, time: datetime, items: dict[int, bytes],
    ) -> None:  # fmt: skip
        """A location gives back what was written, and each item is read or kept as hex."""
        items.pop(0x0B, None)
        body = jt709.encode(
            alarm_bits=alarm_bits, status=status, latitude=latitude / 1e6, longitude=longitude / 1e6,
            altitude_m=altitude, speed_kmh=speed / 10, course_deg=course, time=time, items=items,
        )  # fmt: skip
        found, events = jt709.decode(body)
        place = (latitude / 1e6, longitude / 1e6)
        self.assertEqual(
            (found.latitude, found.longitude), place if any(place) or found.fix == "gnss" else (None, None)
        )
        known = (
            None if altitude == 8000 else altitude,
            None if speed == 0xFFFF else speed / 10,
            None if course > 360 else course,
        )
        self.assertEqual((found.altitude_m, found.speed_kmh, found.course_deg), known)
        self.assertEqual((found.time, found.alarm_bits, events), (time, alarm_bits, []))
        read = {item for item in items if f"{item:02x}" not in found.items}
        self.assertTrue(
            read
            <= {0x30, 0x31, 0xD4, 0xD5, 0xF9, 0xFC, 0xFD, 0xF4, 0xFE, 0xDA, 0xDB, 0x0F, 0xF8}
            | {0x33, 0xF5, 0xFA, 0xEF, 0xF2}
        )
        for item in items.keys() - read:
            self.assertEqual(found.items[f"{item:02x}"], items[item].hex())
        if 0xFE in read:
            self.assertEqual(found.odometer_km, int.from_bytes(items[0xFE], "big"))
        if 0x31 in read:
            self.assertEqual(found.satellites, items[0x31][0])


class StreamTests(SynchronousTestCase):
    """Any bytes in any pieces."""

    @given(streams(FRAMES), st.lists(st.integers(0, 10_000), max_size=10))
    @settings(max_examples=300, deadline=None)
    def test_never_raises(self, stream: bytes, cuts: list[int]) -> None:
        """Framer and decoder take anything, hold little, and all that comes out can be published."""
        framer, decoder = Framer(), Decoder()
        for piece in chunks(stream, cuts):
            for frame in framer.feed(piece):
                decoded = decoder.decode(frame, 0.0)
                if isinstance(decoded, Message):
                    decoded.answer_at(NOW)
                    for line in published(decoded):
                        self.assertEqual(from_json(line)["device"], decoded.device)
                        self.assertNotIn(b"NaN", line)
            self.assertLessEqual(framer.pending, BOUND)
        for frame in Framer().feed_datagram(stream):
            decoder.decode(frame, 0.0)

    @given(streams(NO_SUBLOCKS), st.lists(st.integers(0, 10_000), max_size=10))
    @settings(max_examples=500, deadline=None)
    def test_chunking(self, stream: bytes, cuts: list[int]) -> None:
        """Sound frames, bytes skipped and bytes held back are the same in pieces as in one.

        Only how a run of garbage is divided into reports depends on the pieces.
        """
        whole, one = fed([stream])
        for pieces in (chunks(stream, cuts), [stream[i : i + 1] for i in range(len(stream))]):
            frames, framer = fed(pieces)
            self.assertEqual(
                [frame for frame in frames if not isinstance(frame, Malformed)],
                [frame for frame in whole if not isinstance(frame, Malformed)],
            )
            # What a `$` may begin is held back, or skipped, as soon as the pieces show it.
            self.assertEqual(framer.pending + framer.skipped, one.pending + one.skipped)

    @given(streams(FRAMES))
    @lenient
    def test_sound_frames_survive(self, stream: bytes) -> None:
        """After any stream that ends where a frame ends, two flags apart, a frame is found."""
        frame = FRAMES[0]
        frames = Framer().feed(stream + b"\x7e" * 2 + frame * 40)
        self.assertGreaterEqual(sum(found.raw == frame for found in frames), 10)


no_dollar = st.binary(min_size=1, max_size=1).filter(lambda byte: byte != b"$")
no_start = no_dollar.filter(lambda byte: byte != b"(")


@st.composite
def secret_frames(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A frame with a password among its items, and the password, which occurs there once."""
    password = draw(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=6, max_size=6)).encode()
    code = draw(st.sampled_from(sorted(lock_event_item.WITH_PASSWORD)))
    tail = draw(st.binary(max_size=4))
    length = draw(st.integers(7, 7 + len(tail)))
    before = draw(st.sampled_from([b"", b"\x31\x01\x09", b"\xd4\x01\x64\x30\x01\x1d"]))
    body = location(before + bytes([0x0B, length, code]) + password + tail)
    message_id = draw(st.sampled_from([0x0200, 0x0201, 0x0704, 0x5501]))
    if message_id == 0x0201:
        body = b"\x00\x01" + body
    elif message_id == 0x0704:
        body = b"\x00\x01\x01" + len(body).to_bytes(2, "big") + body
    elif message_id == 0x5501:
        head = b"\x55\x01" + len(body[28:] + bytes(35)).to_bytes(2, "big") + b"\x79\x43\x08\x01\x06\x79\x01"
        return jt808.pack(head + bytes(35) + body[28:]), password
    return binary(message_id, body), password


class SecretTests(SynchronousTestCase):
    """Passwords of lock events."""

    def check(self, frames: list[Frame], password: bytes) -> None:
        decoder = Decoder()
        for frame in frames:
            decoded = decoder.decode(frame, 0.0)
            if isinstance(decoded, Malformed):
                self.assertNotIn(password, decoded.raw)
                self.assertNotIn(password, mask_malformed(frame.raw))
            elif decoded is not None:
                for line in published(decoded):
                    self.assertNotIn(password, line)
                    self.assertNotIn(password.hex().encode(), line)

    @given(secret_frames())
    @lenient
    def test_sound(self, case: tuple[bytes, bytes]) -> None:
        """A sound frame's password is in no event, and everything else in `raw` is as it came."""
        raw, password = case
        (frame,) = Framer().feed(raw)
        self.check([frame], password)
        decoded = Decoder().decode(frame, 0.0)
        assert isinstance(decoded, Message)
        self.assertTrue(decoded.raw_masked)
        check = 2 if raw[-3] == 0x7D else 1
        expected = raw[: -1 - check].replace(password, b"******") + b"*\x7e"
        self.assertEqual(decoded.raw, expected.hex())

    @given(secret_frames(), st.data())
    @settings(max_examples=400, deadline=None)
    def test_corrupted(self, case: tuple[bytes, bytes], data: st.DataObject) -> None:
        """Nor a broken frame's, as long as item id, code and password are whole and in one run of bytes.

        Another family's header in front could cut that run in two, as `(` is a code too: none is forged here.
        """
        raw, password = case
        at = raw.index(password)
        head, kept, tail = raw[: at - 3], raw[at - 3 : at + 6], raw[at + 6 :]
        for _ in range(data.draw(st.integers(1, 4))):
            side = data.draw(st.booleans())
            part_ = bytearray(head if side else tail)
            where = data.draw(st.integers(0, len(part_)))
            step = data.draw(st.sampled_from(["change", "insert", "delete", "cut"]))
            if step == "insert":
                forged = data.draw(noise).replace(b"$", b"").replace(b"(", b"")
                part_[where:where] = forged.replace(b"WLNET", b"")
            elif step == "delete":
                del part_[where : where + data.draw(st.integers(1, 5))]
            elif step == "change":
                part_[where : where + 1] = data.draw(no_start)
            elif side:
                del part_[:where]
            else:
                del part_[where:]
            head, tail = (bytes(part_), tail) if side else (head, bytes(part_))
        if data.draw(st.booleans()):
            kept = (
                kept[:1]
                + data.draw(st.binary(min_size=1, max_size=1).filter(lambda b: b not in b"\x7e\x7d($"))
                + kept[2:]
            )
        broken = head + kept + tail
        self.check(Framer().feed_datagram(broken), password)
        self.check(Framer().feed(broken + FRAMES[0] * 2 + b"\x7e" * 2), password)

    @given(secret_frames(), st.integers(0, 2**16))
    @lenient
    def test_split(self, case: tuple[bytes, bytes], cut: int) -> None:
        """Nor that of a message in two parts, wherever it is cut."""
        raw, password = case
        payload = jt808.unpack(raw)
        if payload[:1] == b"\x55":
            return
        body = payload[12:]
        cut %= len(body) + 1
        message_id = int.from_bytes(payload[:2], "big")
        frames = Framer().feed(part(message_id, body[:cut], 1, 2, 1) + part(message_id, body[cut:], 2, 2, 2))
        decoder = Decoder()
        self.assertIsNone(decoder.decode(frames[0], 0.0))
        decoded = decoder.decode(frames[1], 0.0)
        assert isinstance(decoded, Message)
        self.assertIsInstance(decoded.events[0][1], Location)
        for piece in (password, password[:3], password[3:]):
            self.assertNotIn(piece.hex(), decoded.raw)
