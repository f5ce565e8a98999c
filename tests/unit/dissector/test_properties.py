"""What holds when any bytes are taken apart."""

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.dissector import Explanation, escapes, explain, explain_all, leaves
from jt709c_gateway.protocol import sublock
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.protocol.framing import Framer, Malformed
from jt709c_gateway.protocol.jt808 import FrameError, pack, unescape
from jt709c_gateway.protocol.message import Message
from tests.unit.protocol.test_properties import FRAMES, lenient, streams
from tests.vectors import binary, load, location, part

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PASSWORD = b"s3cr3t"
EVENT = bytes([0x0B, 8, 0x03]) + PASSWORD + b"\x01"
#: Frames that hold the password, in every place that one can have.
SECRET_FRAMES = [
    binary(0x0200, location(EVENT)),
    binary(0x0200, location(bytes([0x31, 1, 9, 0x0B, 12]) + EVENT[2:] + bytes(4))),
    binary(0x0201, b"\x00\x01" + location(EVENT)),
    binary(0x0704, b"\x00\x01\x01" + len(location(EVENT)).to_bytes(2, "big") + location(EVENT)),
    binary(0x0900, b"\x01" + EVENT),
    binary(0x0102, EVENT),
    binary(0x0104, b"\x00\x01\x01\x00\x00\x00\x12\x06" + PASSWORD),
    binary(0x8103, b"\x01\x00\x00\x00\x16\x06" + PASSWORD),
    binary(0x8105, b"\x02;apn;user;" + PASSWORD),
    binary(0x8300, b"\x04P43," + PASSWORD),
    part(0x0104, b"\x00\x01\x01\x00\x00\x00\x12\x06" + PASSWORD[:2], 5, 2, 1),
    part(0x0104, PASSWORD, 6, 2, 2),
    b"$" + bytes.fromhex("0000620011 19 11 000b") + EVENT + b"x",
    b"(123456,1,001,WLNET,5,2," + bytes(20) + EVENT + bytes(10) + b")",
    b"(123456789012,1,001,ELOCK,3," + PASSWORD + b")",
    b"(8000620011,P52,2," + PASSWORD + b")",
    b"(8000620011,P44," + PASSWORD + b")",
    b"(P43," + PASSWORD + b")",
    b"(P44," + PASSWORD + b",888888)",
    b"(P06,1,host,8888,apn,user," + PASSWORD + b")",
]  # fmt: skip
#: A change of a frame: where, what with, and how.
changes = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255), st.sampled_from("cid")), max_size=4)


def changed(frame: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    """The frame with bytes changed, inserted or deleted."""
    raw = bytearray(frame)
    for place, byte, how in edits:
        at = place % (len(raw) + 1)
        if how == "d":
            del raw[at : at + 1 + byte % 3]
        else:
            raw[at : at + (how == "c")] = bytes([byte])
    return bytes(raw)


anything = st.one_of(
    st.builds(changed, st.sampled_from(FRAMES), changes),
    st.builds(bytes.__add__, st.sampled_from([b"", b"\x7e", b"(", b"(P43,", b"$"]), st.binary(max_size=80)),
    st.builds(lambda frame, length: frame[:length], st.sampled_from(FRAMES), st.integers(0, 120)),
)  # fmt: skip


class EveryByteTests(SynchronousTestCase):
    """Each byte is in one leaf, whatever the bytes."""

    def check(self, explanation: Explanation, raw: bytes, secrets: bool) -> None:
        at = 0
        for leaf in leaves(explanation.fields):
            self.assertEqual(leaf.offset, at)
            at += len(leaf.raw) // 2
        self.assertEqual((at, explanation.length), (len(raw), len(raw)))
        if secrets:
            self.assertEqual("".join(leaf.raw for leaf in leaves(explanation.fields)), raw.hex())
        self.assertEqual(explanation.broken, '"problem":"' in to_json(explanation).decode())

    @given(anything, st.booleans())
    @settings(max_examples=500, deadline=None)
    def test_one_frame(self, raw: bytes, secrets: bool) -> None:
        """The leaves follow each other without a gap and are the frame, sound or not."""
        self.check(explain(raw, secrets), raw, secrets)

    @given(streams([*FRAMES, b"(P69,0,24)"]), st.booleans())
    @settings(max_examples=300, deadline=None)
    def test_streams(self, data: bytes, secrets: bool) -> None:
        """Frames and what stands between them are all of the input; only a flag may be shared by two."""
        position = 0
        pieces = []
        for explanation in explain_all(data, secrets):
            shared = explanation.offset == position - 1 and data[explanation.offset] == 0x7E
            self.assertTrue(explanation.offset == position or shared)
            position = explanation.offset + explanation.length
            pieces.append(data[explanation.offset : position])
            self.check(explanation, pieces[-1], secrets)
        self.assertEqual(position, len(data))
        for frame in Framer().feed_datagram(data):
            if not isinstance(frame, Malformed):
                self.assertIn(frame.raw, pieces)

    @given(anything)
    @settings(max_examples=500, deadline=None)
    def test_what_the_gateway_refuses_is_broken(self, raw: bytes) -> None:
        """Bytes that the gateway calls malformed have a problem somewhere; only its own commands have
        none."""
        frames = Framer().feed_datagram(raw)
        explanation = explain(raw)
        if len(frames) != 1 or frames[0].raw != raw or explanation.direction == "down":
            return
        masked = any(leaf.meaning.startswith("can't be checked") for leaf in leaves(explanation.fields))
        if isinstance(Decoder().decode(frames[0], 0.0), Malformed) and not masked:
            self.assertTrue(explanation.broken)
            self.assertEqual((explanation.events, explanation.answer), ([], None))

    @given(st.binary(max_size=60))
    @lenient
    def test_escapes(self, data: bytes) -> None:
        """Escapes are undone as the codec undoes them, and each byte's place is where it came from."""
        frame = b"\x7e" + data.replace(b"\x7e", b"\x7d\x02") + b"\x7e"
        found = escapes.binary(frame, len(frame) - 1)
        try:
            self.assertEqual(found.data[1:-1], unescape(frame[1:-1]))
            self.assertEqual(found.faults, {})
        except FrameError:
            self.assertTrue(found.faults)
        payload = escapes.payload(b"(" + data + b")", 1, 1 + len(data))
        self.assertEqual(payload.data[1:-1], sublock.unescape(data))
        for each, raw in ((found, frame), (payload, b"(" + data + b")")):
            self.assertEqual((len(each.at), each.at[-1]), (len(each.data) + 1, len(raw)))
            for index, start in enumerate(each.at[:-1]):
                if each.at[index + 1] == start + 1:
                    self.assertEqual(each.data[index], raw[start])


class SecretTests(SynchronousTestCase):
    """Passwords are shown only when asked for."""

    def shows(self, explanation: Explanation) -> bool:
        text = to_json(explanation).decode()
        return PASSWORD.hex() in text or PASSWORD.decode() in text

    def test_sound(self) -> None:
        """No field, title or answer has a password, in sound frames and commands of every kind."""
        for frame in SECRET_FRAMES:
            self.assertFalse(self.shows(explain(frame)), frame)
            for each in explain_all(frame + b"\r\n" + frame):
                self.assertFalse(self.shows(each), frame)
            if PASSWORD in frame:
                self.assertTrue(self.shows(explain(frame, secrets=True)), frame)

    def test_split(self) -> None:
        """A password that is spread over two parts is hidden in both, and in the whole."""
        body = b"\x00\x01\x01\x00\x00\x00\x12\x06" + PASSWORD
        frames = [part(0x0104, body[:10], 5, 2, 1), part(0x0104, body[10:], 6, 2, 2)]
        first, second = explain_all(b"".join(frames))
        (value,) = [leaf for leaf in leaves(second.whole) if leaf.name == "value"]
        self.assertEqual((value.offset, value.raw, value.meaning), (8, "2a" * 6, "******"))
        for explanation in (first, second):
            text = to_json(explanation).decode()
            self.assertNotIn(PASSWORD[:2].hex(), text)
            self.assertNotIn(PASSWORD[2:].hex(), text)
        _, open_ = explain_all(b"".join(frames), secrets=True)
        self.assertEqual("".join(leaf.raw for leaf in leaves(open_.whole)), body.hex())

    @given(st.sampled_from(SECRET_FRAMES[:5]), st.data(), st.binary(max_size=8))
    @settings(max_examples=300, deadline=None)
    def test_broken(self, frame: bytes, data: st.DataObject, noise: bytes) -> None:
        """Nor has a frame that is broken anywhere but in the bytes that tell a password from others."""
        at = frame.index(PASSWORD)
        places = [place for place in range(len(frame)) if place < at - 5 or place > at + 6]
        edit = data.draw(st.tuples(st.sampled_from(places), st.integers(0, 255), st.sampled_from("cid")))
        raw = changed(frame, [edit])
        for explanation in (explain(raw), *explain_all(noise.replace(b"\x7e", b"") + raw)):
            self.assertFalse(self.shows(explanation), (raw, explanation))

    def test_hidden_as_published(self) -> None:
        """What is hidden in recorded frames is what the gateway masks."""
        for name in ("jt709.jsonl", "real.jsonl"):
            for vector in load(name):
                (frame,) = Framer().feed(vector["frame"])
                message = Decoder().decode(frame, 0.0)
                if isinstance(message, Message):
                    shown = "".join(leaf.raw for leaf in leaves(explain(vector["frame"]).fields))
                    binary_ = vector["frame"][:1] != b"("
                    raw = message.raw if binary_ else message.raw.encode("latin-1").hex()
                    self.assertEqual(shown, raw)

    def test_published_frames(self) -> None:
        """The `raw` of an event, whose password is masked, is no broken frame: nobody can check it."""
        frame = SECRET_FRAMES[0]
        explanation = explain(frame.replace(PASSWORD, b"******")[:-2] + b"*\x7e")
        self.assertFalse(explanation.broken)
        (check,) = [leaf for leaf in leaves(explanation.fields) if leaf.name == "check"]
        self.assertEqual(check.meaning, "can't be checked: a password is masked")

    def test_json(self) -> None:
        """An explanation goes through JSON as it is."""
        explanation = explain(pack(bytes.fromhex("0002000079430801067900 07")), now=NOW)
        decoded = from_json(to_json(explanation))
        self.assertEqual(
            [child["name"] for child in decoded["fields"][1]["children"]],
            ["message_id", "attributes", "terminal_id", "serial"],
        )
        self.assertEqual((decoded["title"], decoded["events"]), ("heartbeat", ["heartbeat"]))
