"""Cutting streams and datagrams into frames, whatever the pieces and whatever is between them."""

import time

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import framing
from jt709c_gateway.protocol.dollar_check import MAX_DOLLAR
from jt709c_gateway.protocol.framing import (
    MALFORMED_KEPT,
    MAX_BINARY,
    MAX_SENTENCE,
    BinaryFrame,
    DollarFrame,
    Frame,
    Framer,
    Malformed,
    SentenceFrame,
)
from jt709c_gateway.protocol.jt808 import BODY_LENGTH, pack
from tests.vectors import binary, frames_of, load

HEARTBEAT = binary(0x0002)
LOCATION = load("real.jsonl")[0]["frame"]
SENTENCE = b"(700160818000,1,001,BASE,2,TIME)"
DOLLAR = next(vector["frame"] for vector in load("real.jsonl") if vector["frame"][0] == 0x24)
#: A JT705 sends flags without escapes.
UNESCAPED = next(
    v["frame"] for v in load("real.jsonl") if v["frame"][1:2] == b"\x55" and b"\x7e" in v["frame"][1:-1]
)
#: A sub-lock's report with a bracket in its binary payload.
SUBLOCK = next(v["frame"] for v in load("real.jsonl") if b"WLNET" in v["frame"])
WRONG_CHECK = HEARTBEAT[:-2] + bytes([HEARTBEAT[-2] ^ 1]) + b"\x7e"


def golden() -> list[bytes]:
    return [vector["frame"] for name in ("jt709.jsonl", "real.jsonl") for vector in load(name)]


def sound(frames: list[Frame]) -> list[bytes]:
    return [frame.raw for frame in frames if not isinstance(frame, Malformed)]


def reasons(frames: list[Frame]) -> list[str]:
    return [frame.reason for frame in frames if isinstance(frame, Malformed)]


class GoldenTests(SynchronousTestCase):
    """Every recorded frame, in every kind of piece."""

    def test_whole(self) -> None:
        """A whole frame is one frame, byte for byte, and nothing is left."""
        for raw in golden():
            framer = Framer()
            (frame,) = framer.feed(raw)
            self.assertEqual((frame.raw, framer.pending), (raw, 0))

    def test_byte_by_byte(self) -> None:
        """Single bytes give the same frame, and only the last byte completes it."""
        for raw in golden():
            whole = frames_of(raw)
            if isinstance(whole[0], Malformed):
                continue
            framer = Framer()
            for byte in raw[:-1]:
                self.assertEqual(framer.feed(bytes([byte])), [])
            self.assertEqual(framer.feed(raw[-1:]), whole)

    def test_cut_at_every_point(self) -> None:
        """Two pieces give the same as one, wherever the cut is."""
        for raw in golden():
            whole = frames_of(raw)
            for cut in range(1, len(raw)):
                framer = Framer()
                self.assertEqual(framer.feed(raw[:cut]) + framer.feed(raw[cut:]), whole)

    def test_many_in_one_chunk(self) -> None:
        """All recorded frames in one chunk come out in their order."""
        frames = frames_of(b"".join(golden()))
        whole = [frame for raw in golden() for frame in frames_of(raw)]
        self.assertEqual(frames, whole)

    def test_all_cuts_of_a_mixed_stream(self) -> None:
        """A stream of all families gives the same frames wherever it is cut, and byte by byte."""
        stream = LOCATION + SENTENCE + DOLLAR + UNESCAPED + SUBLOCK + HEARTBEAT + DOLLAR + SENTENCE
        whole = frames_of(stream)
        self.assertEqual(b"".join(sound(whole)), stream)
        for cut in range(len(stream)):
            framer = Framer()
            self.assertEqual(framer.feed(stream[:cut]) + framer.feed(stream[cut:]), whole)
        framer = Framer()
        self.assertEqual([f for i in range(len(stream)) for f in framer.feed(stream[i : i + 1])], whole)


class FlagTests(SynchronousTestCase):
    """How frames of the binary family stand next to each other."""

    def test_shared(self) -> None:
        """Two frames may share one flag; each is given with both of its flags."""
        stream = LOCATION + HEARTBEAT[1:] + LOCATION[1:]
        for cut in range(len(stream)):
            framer = Framer()
            frames = framer.feed(stream[:cut]) + framer.feed(stream[cut:])
            self.assertEqual([frame.raw for frame in frames], [LOCATION, HEARTBEAT, LOCATION])

    def test_doubled_and_more(self) -> None:
        """Any number of flags between two frames gives nothing but the frames."""
        for count in range(6):
            frames = frames_of(LOCATION + b"\x7e" * count + HEARTBEAT)
            self.assertEqual([frame.raw for frame in frames], [LOCATION, HEARTBEAT])

    def test_shared_by_an_unknown_id(self) -> None:
        """Between flags of its own, a frame with any message id is found."""
        strange = binary(0x6006, b"hello")
        self.assertEqual(sound(frames_of(LOCATION + strange + HEARTBEAT)), [LOCATION, strange, HEARTBEAT])

    def test_stray_before_a_frame(self) -> None:
        """A stray flag, with or without bytes behind it, costs no frame."""
        for noise in (b"\x7e", b"\x7eabc", b"\x7e\x02", b"abc\x7e", b"\x7e" + b"x" * 41, b"\x7d\x7e\x7d"):
            self.assertEqual(sound(frames_of(noise + LOCATION + HEARTBEAT)), [LOCATION, HEARTBEAT], noise)

    def test_stray_before_a_sentence(self) -> None:
        """A stray flag right before a sentence or a `$` frame doesn't hold it back."""
        for follower in (SENTENCE, DOLLAR):
            for padding in (b"", b"\r\n", b"\n"):
                for tail in (b"", HEARTBEAT):
                    stream = LOCATION + b"\x7e" + padding + follower + tail
                    expected = [raw for raw in (LOCATION, follower, tail) if raw]
                    self.assertEqual(sound(frames_of(stream)), expected)
                    framer = Framer()
                    given = [f for i in range(len(stream)) for f in framer.feed(stream[i : i + 1])]
                    self.assertEqual(sound(given), expected)

    def test_padding_behind_a_frame(self) -> None:
        """Line ends and zeros behind a frame hold nothing back and are nothing to report."""
        for padding in (b"\r\n", b"\n", b"\x00", b"\x00\x00\r\n", b" \t"):
            for follower in (SENTENCE, DOLLAR, LOCATION):
                frames = frames_of(HEARTBEAT + padding + follower + padding)
                self.assertEqual([frame.raw for frame in frames], [HEARTBEAT, follower])

    def test_swallowed(self) -> None:
        """What a stray flag has swallowed is found again, in order."""
        frames = frames_of(b"\x7ex" + SENTENCE + DOLLAR + SENTENCE + b"x" + LOCATION)
        self.assertEqual(sound(frames), [SENTENCE, DOLLAR, SENTENCE, LOCATION])
        self.assertEqual(reasons(frames), ["truncated", "garbage"])

    def test_unescaped(self) -> None:
        """An unescaped flag inside a 0x5501 frame doesn't end it, in company and alone."""
        self.assertEqual(
            sound(frames_of(HEARTBEAT + UNESCAPED + HEARTBEAT)), [HEARTBEAT, UNESCAPED, HEARTBEAT]
        )
        cut = UNESCAPED[:-3]
        self.assertEqual(sound(frames_of(cut + HEARTBEAT * 60))[-58:], [HEARTBEAT] * 58)


class NoiseTests(SynchronousTestCase):
    """Garbage between frames costs no frame."""

    def test_between(self) -> None:
        """Frames between garbage are found, and the garbage is reported once and counted."""
        for noise in (b"GET / HTTP/1.1\r\n", b"\xff" * 30, b")", b"(abc", b"$$$", b"($(", b"(12", b"$\x12"):
            framer = Framer()
            frames = framer.feed(LOCATION + noise + SENTENCE + noise + DOLLAR + noise + LOCATION)
            self.assertEqual(sound(frames), [LOCATION, SENTENCE, DOLLAR, LOCATION], noise)
            self.assertEqual(len(reasons(frames)), 3, noise)
            self.assertEqual(framer.skipped, 3 * len(noise))

    def test_reasons(self) -> None:
        """Each way of being no frame has its own reason."""
        for raw, reason in (
            (WRONG_CHECK, "check"),
            (b"\x7e" + b"\x7d" * 14 + b"\x7e", "escape"),
            (b"\x7eabc\x7e", "length"),
            (b"abc", "garbage"),
            (b"(800\x80", "sentence"),
            (b"(800" + b"1" * MAX_SENTENCE, "too_long"),
            (b"\x7e" + b"1" * MAX_BINARY, "too_long"),
        ):
            self.assertEqual(reasons(frames_of(raw))[:1], [reason])

    def test_broken_sentence(self) -> None:
        """A sentence that breaks off at the next one's bracket, or at a binary frame, is reported alone."""
        self.assertEqual(sound(frames_of(b"(8000620" + SENTENCE)), [SENTENCE])
        self.assertEqual(sound(frames_of(b"(8000620" + LOCATION)), [LOCATION])
        self.assertEqual(sound(frames_of(b"(8000620" + DOLLAR + SENTENCE)), [DOLLAR, SENTENCE])

    def test_long_garbage_is_cut(self) -> None:
        """However long the garbage, only its beginning is kept."""
        (frame,) = frames_of(b"x" * 100_000)
        self.assertEqual(frame.raw, b"x" * MALFORMED_KEPT)


class EndlessTests(SynchronousTestCase):
    """Frames that never end are given up, and what comes behind them is found."""

    def feed(self, start: bytes, filler: bytes, bound: int, count: int = 40) -> None:
        framer = Framer()
        framer.feed(start)
        for _ in range(count):
            framer.feed(filler * 100)
            self.assertLessEqual(framer.pending, bound)
        self.assertGreater(framer.skipped, 0)
        frames = framer.feed(b"\x7e" + LOCATION + SENTENCE + DOLLAR + LOCATION)
        self.assertEqual(sound(frames)[-4:], [LOCATION, SENTENCE, DOLLAR, LOCATION])

    def test_binary(self) -> None:
        """No closing flag."""
        self.feed(b"\x7e\x02\x00", b"x", MAX_BINARY)

    def test_binary_behind_a_frame(self) -> None:
        """No closing flag behind one that closed a frame."""
        self.feed(LOCATION + b"\x02\x00", b"x", MAX_BINARY)

    def test_sentence(self) -> None:
        """No closing bracket."""
        self.feed(b"(8000620011,", b"1", MAX_SENTENCE)

    def test_sublock(self) -> None:
        """No closing bracket behind a sub-lock's payload."""
        self.feed(b"(8000620011,1,001,WLNET,5,2,", b"\x01", 2 * MAX_SENTENCE)

    def test_dollar(self) -> None:
        """A length that is never reached is waited for only as long as it is a fair one."""
        framer = Framer()
        framer.feed(DOLLAR[:8] + MAX_DOLLAR.to_bytes(2, "big"))
        frames = framer.feed(b"x" * (MAX_DOLLAR - 1))
        self.assertEqual((frames, framer.pending), ([], MAX_DOLLAR + 9))
        self.assertEqual(len(framer.feed(b"x" + LOCATION)), 2)
        self.assertEqual(sound(frames_of(DOLLAR[:8] + b"\x04\x01" + LOCATION)), [LOCATION])

    def test_unescaped(self) -> None:
        """A 0x5501 frame that announces more than arrives is waited for up to that length."""
        self.feed(b"\x7e\x55\x01\x03\xff" + bytes(6) + b"\x7e", b"x", MAX_BINARY)

    def test_limits(self) -> None:
        """The longest frames there can be are taken, one byte more is too long."""
        longest = pack(bytes.fromhex("090043ff01794308010679000000017e7e") + b"\x7e" * BODY_LENGTH)
        self.assertGreater(len(longest), MAX_BINARY - 2 * 22)
        self.assertEqual(sound(frames_of(longest)), [longest])
        too_long = b"\x7e" + b"\x7d\x02" * (MAX_BINARY // 2 - 1) + b"x\x7e"
        self.assertEqual(reasons(frames_of(too_long))[0], "too_long")
        sentence = b"(" + b"1" * (MAX_SENTENCE - 2) + b")"
        self.assertEqual(frames_of(sentence), [SentenceFrame(sentence)])
        self.assertEqual(reasons(frames_of(sentence[:-1] + b"1)"))[0], "too_long")
        dollar = DOLLAR[:8] + MAX_DOLLAR.to_bytes(2, "big") + bytes(MAX_DOLLAR)
        self.assertEqual(frames_of(dollar), [DollarFrame(dollar)])


class DatagramTests(SynchronousTestCase):
    """Datagrams hold whole frames."""

    def test_several(self) -> None:
        """One datagram may hold several frames of several families."""
        framer = Framer()
        frames = framer.feed_datagram(LOCATION + SENTENCE + HEARTBEAT)
        self.assertEqual(sound(frames), [LOCATION, SENTENCE, HEARTBEAT])
        self.assertEqual(reasons(frames), [])

    def test_leftover(self) -> None:
        """What is left over is malformed, and no part of the next datagram."""
        for raw in (LOCATION, SENTENCE, DOLLAR, SUBLOCK):
            framer = Framer()
            frames = framer.feed_datagram(HEARTBEAT + raw[:-1])
            self.assertEqual((sound(frames), reasons(frames)), ([HEARTBEAT], ["truncated"]))
            self.assertEqual((framer.pending, framer.skipped), (0, len(raw) - 1))
            self.assertEqual(framer.feed_datagram(raw[-1:] + LOCATION)[-1].raw, LOCATION)

    def test_frames_in_the_leftover(self) -> None:
        """An unfinished binary frame doesn't take sentences and `$` frames of its datagram with it."""
        frames = Framer().feed_datagram(LOCATION[:30] + SENTENCE + DOLLAR)
        self.assertEqual((sound(frames), reasons(frames)), ([SENTENCE, DOLLAR], ["truncated"]))

    def test_no_shared_flag_across_datagrams(self) -> None:
        """A flag at a datagram's end opens nothing in the next one."""
        framer = Framer()
        framer.feed_datagram(HEARTBEAT)
        self.assertEqual(reasons(framer.feed_datagram(HEARTBEAT[1:])), ["garbage", "truncated"])


class SublockTests(SynchronousTestCase):
    """Sentences with a binary payload."""

    HEAD = b"(8054201973,1,168,WLNET,5,2,"

    def lock(self, tail: bytes) -> bytes:
        return self.HEAD + b"\x01" * 33 + b"\x04" + tail + b")"

    def test_brackets_inside(self) -> None:
        """Brackets in the payload don't end it; its type's length does."""
        for tail in (b"\x01" * 7, b")" * 7, b"((((()(", b"\x01)" * 3 + b"12345", b"\x3d\x14" * 7):
            raw = self.lock(tail)
            self.assertEqual(frames_of(raw + LOCATION), [SentenceFrame(raw), *frames_of(LOCATION)])
            framer = Framer()
            self.assertEqual(
                [frame.raw for i in range(len(raw)) for frame in framer.feed(raw[i : i + 1])], [raw]
            )

    def test_escapes_before_a_bracket(self) -> None:
        """Escaped bytes before the type don't make a bracket right behind it the end."""
        raw = self.HEAD + b"\x3d\x14" * 5 + b"\x01" * 23 + b")" * 5 + b"\x04" + b"\x01" * 7 + b")"
        self.assertEqual(frames_of(raw), [SentenceFrame(raw)])

    def test_bracket_as_card(self) -> None:
        """A card that begins with a bracket doesn't end the report where one without a card would.

        That shows only in what follows: a chunk that ends right behind this bracket is taken for the report.
        """
        for tail in (b"\x01" * 7 + b")abc", b"\x01)" * 5 + b"\x01", b")" * 11):
            raw = self.lock(tail)
            self.assertEqual(sound(frames_of(raw + LOCATION)), [raw, LOCATION])
        shorter = self.lock(b"\x01" * 7)
        self.assertEqual(sound(frames_of(shorter + b"(1,A)")), [shorter, b"(1,A)"])
        self.assertEqual(sound(frames_of(shorter + SENTENCE)), [shorter, SENTENCE])

    def test_other_lengths(self) -> None:
        """A payload of a length or type that nobody knows ends at its bracket and holds nothing back."""
        for tail in (b"\x01" * 9, b"\x01" * 20, b"\x01" * 3):
            raw = self.lock(tail)
            self.assertEqual(sound(frames_of(raw + SENTENCE)), [raw, SENTENCE])
        for kind in (b"\x02", b"\x05", b"\x06", b"\x09", b"\xff"):
            unknown = self.HEAD + b"\x01" * 33 + kind + b"\x01" * 5 + b")"
            for behind in (b"", SENTENCE, LOCATION, DOLLAR):
                self.assertEqual(sound(frames_of(unknown + behind)), [unknown, *sound(frames_of(behind))])

    def test_valves(self) -> None:
        """Valves are as long as locks, so that a bracket inside ends none of them."""
        for kind in (b"\x05", b"\x06", b"\x09"):
            for tail in (
                b"\x01" * 7,
                b"\x01" * 11,
                b"\x00\x01\x00\x00\x00)\x00",
                b"\x01" * 7 + b"\x00)\x00\x01",
            ):
                raw = self.HEAD + b"\x01" * 33 + kind + tail + b")"
                for behind in (b"", SENTENCE, LOCATION):
                    self.assertEqual(sound(frames_of(raw + behind)), [raw, *sound(frames_of(behind))])

    def test_heads(self) -> None:
        """Any version and serial of one to three digits, and WLNET,7 like WLNET,5."""
        for version in (b"1", b"2", b"23", b"123"):
            for serial in (b"7", b"29", b"168"):
                for number in (b"5", b"7"):
                    head = b"(8054201973,%b,%b,WLNET,%b,2," % (version, serial, number)
                    raw = head + b"\x01" * 33 + b"\x04" + b")" * 7 + b")"
                    self.assertEqual(sound(frames_of(raw + SENTENCE)), [raw, SENTENCE])


class LoadTests(SynchronousTestCase):
    """A chunk full of nothing costs no more than one full of frames."""

    def test_hostile_chunks(self) -> None:
        """64 KiB of any start byte, or of near frames, are done within milliseconds, and with few reports."""
        for pattern in (
            b"(", b"$", b"\x7e", b"\x7e\x00", b"\x7e\x02", b"(1", b"(1,", b"$(", b"\x7e(", b"\x7e$", b"$\x11",
            b"\x7e" + b"$" * 2092, b"\x7e" + b"(" * 2092, b"\x7e" + b"(1" * 1046, b"\x7e" + b"\x7d" * 20,
            SublockTests.HEAD, SublockTests.HEAD + b"a" * 33 + b"\x04" + b")" * 900,
        ):  # fmt: skip
            chunk = (pattern * (65536 // len(pattern) + 1))[:65536]
            best = 1.0
            for _ in range(3):
                framer = Framer()
                started = time.perf_counter()
                frames = framer.feed(chunk)
                best = min(best, time.perf_counter() - started)
            # About 12 ms at most on a small machine; far from the seconds that quadratic work would take.
            self.assertLess(best, 0.1, pattern[:20])
            self.assertLess(len(frames), 5000, pattern[:20])
            self.assertLessEqual(framer.pending, MAX_BINARY)

    def test_hostile_bytes(self) -> None:
        """A frame that comes byte by byte is not looked at anew in all its length for long."""
        for raw in (SublockTests.HEAD + b"a" * 33 + b"\x04" + b")" * 900, b"\x7e" + b"$" * 2000):
            framer = Framer()
            started = time.perf_counter()
            for index in range(len(raw)):
                framer.feed(raw[index : index + 1])
            self.assertLess(time.perf_counter() - started, 0.5)

    def test_frames_are_values(self) -> None:
        """Frames compare by what they hold."""
        self.assertEqual(frames_of(HEARTBEAT), [BinaryFrame(HEARTBEAT, HEARTBEAT[1:-2])])
        self.assertEqual(framing.MAX_BINARY, 2094)
