"""All dialects together: golden frames in any pieces, mixed on one connection, and corrupted."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.json import decode as from_json
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.dollar_check import MAX_DOLLAR
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.events import KINDS, to_json
from jt709c_gateway.protocol.framing import MAX_BINARY, MAX_SENTENCE, Framer, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.reassembly import MAX_BYTES
from tests.vectors import load

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VECTORS = [*load("real.jsonl"), load("jt709.jsonl")[0]]
#: Published with a check byte that doesn't fit.
CHANGED_ID = "858012030003"
SOUND = [vector["frame"] for vector in VECTORS if vector.get("expect", {}).get("device") != CHANGED_ID]
#: A recorded sub-lock's report can end where its chunk ends (see the framing tests).
NO_SUBLOCKS = [raw for raw in SOUND if b"WLNET" not in raw]
#: Most that a framer may hold back, bytes.
BOUND = max(MAX_BINARY, MAX_SENTENCE, 10 + MAX_DOLLAR)
#: Before a sentence, a bracket of garbage would open one.
GARBAGE = [
    b"\r\n",
    b"\x00" * 7,
    b"GET / HTTP/1.1\r\n\r\n",
    b"\xff\xfe\xfd",
    b"$$$",
    b"(abc",
    b")",
    b"\x7d\x02",
]

Outcome = tuple[str, str, list[tuple[str, Any]], str, bytes | None]


def outcome(decoded: Message) -> Outcome:
    return decoded.dialect, decoded.device, decoded.events, decoded.raw, decoded.answer_at(NOW)


def heard(pieces: list[bytes]) -> list[Outcome]:
    """What one connection hears: the messages among all that its frames are decoded to."""
    framer, decoder = Framer(), Decoder()
    decoded = [decoder.decode(frame, 0.0) for piece in pieces for frame in framer.feed(piece)]
    return [outcome(message) for message in decoded if isinstance(message, Message)]


def alone(raw: bytes) -> Outcome:
    (found,) = heard([raw])
    return found


def dialect_of(raw: bytes) -> str:
    return alone(raw)[0]


class GoldenTests(SynchronousTestCase):
    """Every recorded frame of every dialect."""

    def test_dialects(self) -> None:
        """Each is of the dialect that its recording names."""
        for vector in VECTORS:
            if vector["frame"] in SOUND:
                self.assertEqual(dialect_of(vector["frame"]), vector.get("dialect", "jt709"))
        self.assertEqual({dialect_of(raw) for raw in SOUND}, {"jt709", "jt705", "jt701", "sentence"})

    def test_no_unknown(self) -> None:
        """None is merely carried; each says something by a kind that consumers know."""
        for raw in SOUND:
            for kind, _ in alone(raw)[2]:
                self.assertIn(kind, KINDS)
                self.assertNotEqual(kind, "unknown")

    def test_any_pieces(self) -> None:
        """Whole, byte by byte and cut at every point, a frame says the same."""
        for raw in SOUND:
            whole = alone(raw)
            self.assertEqual(heard([raw[at : at + 1] for at in range(len(raw))]), [whole])
            for cut in range(1, len(raw)):
                self.assertEqual(heard([raw[:cut], raw[cut:]]), [whole])

    def test_changed_id(self) -> None:
        """The recording whose id was changed is malformed for its check byte."""
        (vector,) = [v for v in VECTORS if v.get("expect", {}).get("device") == CHANGED_ID]
        (frame,) = Framer().feed(vector["frame"])
        decoded = Decoder().decode(frame, 0.0)
        assert isinstance(decoded, Malformed)
        self.assertEqual(decoded.reason, "check")


class MixedTests(SynchronousTestCase):
    """One TCP connection that carries all families."""

    def test_all_start_bytes(self) -> None:
        """Frames of all three start bytes, with garbage between, are each heard, whatever the garbage."""
        expected = [alone(raw) for raw in SOUND]
        self.assertEqual({raw[:1] for raw in SOUND}, {b"\x7e", b"(", b"$"})
        for garbage in GARBAGE:
            stream = garbage + garbage.join(SOUND) + garbage
            self.assertEqual(heard([stream]), expected, garbage)
            self.assertEqual(heard([stream[at : at + 1] for at in range(len(stream))]), expected, garbage)

    def test_cut_at_every_point(self) -> None:
        """One frame of each dialect and garbage between, cut anywhere."""
        chosen = [next(raw for raw in SOUND if dialect_of(raw) == name) for name in ("jt709", "jt705")]
        chosen += [next(raw for raw in SOUND if raw[:1] == start) for start in (b"$", b"(")]
        chosen += [next(raw for raw in SOUND if b"WLNET" in raw)]
        stream = b"\xff\xfe)".join([*chosen, *reversed(chosen)])
        expected = heard([stream])
        self.assertEqual(expected, [alone(raw) for raw in [*chosen, *reversed(chosen)]])
        for cut in range(len(stream)):
            self.assertEqual(heard([stream[:cut], stream[cut:]]), expected)

    @given(
        st.lists(st.tuples(st.sampled_from(SOUND), st.sampled_from([b"", *GARBAGE])), max_size=12),
        st.lists(st.integers(0, 4000), max_size=12),
    )
    @settings(max_examples=200)
    def test_any_command(self, parts: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
        """Any frames in any order, with or without garbage, in any pieces."""
        stream = b"".join(raw + garbage for raw, garbage in parts)
        edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
        pieces = [stream[a:b] for a, b in pairwise(edges)]
        self.assertEqual(heard(pieces), [alone(raw) for raw, _ in parts])


class FuzzTests(SynchronousTestCase):
    """Corrupted frames, dialect by dialect."""

    def check(self, dialect: str, data: st.DataObject) -> None:
        raw = bytearray(data.draw(st.sampled_from([raw for raw in SOUND if dialect_of(raw) == dialect])))
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(0, len(raw) - 1)) if raw else 0
            step = data.draw(st.sampled_from(["change", "insert", "delete", "cut"]))
            if step == "change":
                raw[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            elif step == "insert":
                raw[at:at] = data.draw(st.binary(max_size=8))
            elif step == "delete":
                del raw[at : at + data.draw(st.integers(1, 8))]
            else:
                del raw[at:]
        self.harmless(bytes(raw))
        self.bounded(bytes(raw), data)
        self.followed(bytes(raw), data.draw(st.sampled_from(NO_SUBLOCKS)))

    def harmless(self, broken: bytes) -> None:
        """Nothing is raised, and all that comes of it can be published."""
        decoder = Decoder()
        for frame in [*Framer().feed(broken), *Framer().feed_datagram(broken + SOUND[0])]:
            decoded = decoder.decode(frame, 0.0)
            if isinstance(decoded, Message):
                decoded.answer_at(NOW)
                for event in wrap_all(decoded, Origin(), NOW):
                    line = to_json(event)
                    self.assertEqual(from_json(line)["kind"], event.kind)
                    self.assertNotIn(b"NaN", line)

    def bounded(self, broken: bytes, data: st.DataObject) -> None:
        """However often it comes and wherever it is cut, little is held back."""
        framer, decoder = Framer(), Decoder()
        size = data.draw(st.integers(1, 50))
        stream = broken * (3 * BOUND // max(len(broken), 1) + 1)
        for at in range(0, len(stream), size):
            for frame in framer.feed(stream[at : at + size]):
                decoder.decode(frame, 0.0)
            self.assertLessEqual(framer.pending, BOUND)
        self.assertLessEqual(decoder.parts.size, MAX_BYTES)

    def followed(self, broken: bytes, sound: bytes) -> None:
        """A sound frame behind it is heard: the next datagram at once, in a stream after `BOUND` bytes."""
        framer, expected = Framer(), alone(sound)
        framer.feed_datagram(broken)
        self.assertEqual(framer.feed_datagram(sound), Framer().feed_datagram(sound))
        behind = [sound] * (BOUND // len(sound) + 3)
        self.assertEqual(heard([broken, *behind])[-2:], [expected, expected])

    @given(st.data())
    @settings(max_examples=300)
    def test_jt709(self, data: st.DataObject) -> None:
        """0x0200 and its kin."""
        self.check("jt709", data)

    @given(st.data())
    @settings(max_examples=300)
    def test_jt705(self, data: st.DataObject) -> None:
        """0x5501 and 0x5502."""
        self.check("jt705", data)

    @given(st.data())
    @settings(max_examples=400)
    def test_jt701(self, data: st.DataObject) -> None:
        """`$` frames, `Pnn` sentences and sub-locks."""
        self.check("jt701", data)

    @given(st.data())
    @settings(max_examples=200)
    def test_sentences(self, data: st.DataObject) -> None:
        """The grouped form."""
        self.check("sentence", data)
