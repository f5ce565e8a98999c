"""A `$` frame that is cut short or damaged makes up nothing, and costs no other frame."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol import jt701
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.events import Cell, Location
from jt709c_gateway.protocol.framing import DollarFrame, Framer, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.unescaped import is_intact
from tests.unit.protocol.test_dialect_jt701 import CLOSED
from tests.vectors import binary, load, location
from tests.vectors.lines import Line, line_test, lines, sent

#: The same seeds in each run: in one of a thousand, what precedes a damaged frame and what is left of it make
#: another whole frame, which nobody can tell from one that was sent.
SEEDS = settings(max_examples=25, deadline=None, derandomize=True)
#: Also those of sub-locks, whose payload is binary.
SENTENCES = [
    line.frame for file in ("real.jsonl", "field.jsonl") for line in lines(file) if line.frame[:1] == b"("
]
#: The recorded 0x5501, one without escapes: a flag stands inside it. Another was published with a wrong id.
BINARIES = [
    binary(0x0002),
    binary(0x0200, location()),
    *(line.frame for line in lines("real.jsonl") if line.frame[:2] == b"\x7e\x55" and is_intact(line.frame)),
]
RECORDED = [vector["frame"] for vector in load("real.jsonl") if vector["frame"][:1] == b"$"]
FIRST = datetime(2026, 1, 24, 3, 4, 5, tzinfo=UTC)
ASKED = CLOSED | jt701.STATUS_ANSWER_WANTED


def record(random: Random, serial: int, length: int, odd: bool) -> bytes:
    """A record; without `odd`, its end does not look like the beginning of a frame."""
    found = any_record(random, serial, length, odd)
    while not odd and b"$" in found[-12:]:
        found = any_record(random, serial, length, odd)
    return found


def any_record(random: Random, serial: int, length: int, odd: bool) -> bytes:
    return jt701.encode_record(
        time=FIRST + timedelta(seconds=random.randrange(10**8)),
        latitude=random.uniform(-89, 89),
        longitude=random.uniform(-179, 179),
        fix=random.random() < 0.9,
        speed_kmh=random.uniform(0, 400),
        course_deg=random.randrange(0, 360),
        odometer_km=random.choice([random.randrange(2**32), 0x24 if odd else 0x23, 0x7E, 0x28]),
        satellites=random.choice([6, 0x24 if odd else 0x23, 0x28, 0x7E]),
        vehicle_id=random.choice([0, random.randrange(2**32)]),
        status=random.choice([ASKED, CLOSED, random.randrange(65536)]),
        battery=random.choice([40, 0x24, 255] if odd else [40, 255]),
        cell=Cell(
            random.randrange(1000), random.randrange(1000), random.randrange(2**32), 0x2424 if odd else 0xFFFF
        ),
        gsm_signal=random.randrange(32),
        fence_id=random.randrange(11) or None,
        wake_source=random.randrange(11),
        serial=serial,
        length=length,
    )


def frame(random: Random, serial: int, length: int, odd: bool) -> bytes:
    count = random.choice([1, 1, 1, 2, 3])
    records = [record(random, serial, length, odd) for _ in range(count)]
    ids = [random.randrange(10**10), 2424242424 if odd else 2, 1, 105102030]
    device = f"{random.choice(ids):010}"
    return jt701.encode_frame(device, random.choice([0x17, 0x19]), random.choice([1, 2, 3, 4]), records)


def pieces(stream: bytes, random: Random) -> Iterator[list[bytes]]:
    """The stream in one piece, byte by byte, and in pieces of any kind."""
    yield [stream]
    yield [stream[at : at + 1] for at in range(len(stream))]
    for size in (7, 62, 64):
        yield [stream[at : at + size] for at in range(0, len(stream), size)]
    cuts = sorted(random.randrange(len(stream) + 1) for _ in range(4))
    yield [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def over_tcp(chunks: list[bytes]) -> list[bytes]:
    framer = Framer()
    frames = [frame for chunk in chunks for frame in framer.feed(chunk)] + framer.settle()
    return [frame.raw for frame in frames if not isinstance(frame, Malformed)]


def as_datagram(stream: bytes) -> list[bytes]:
    return [frame.raw for frame in Framer().feed_datagram(stream) if not isinstance(frame, Malformed)]


def is_message(raw: bytes) -> bool:
    """Whether a frame can be read: a bracket and another in a broken frame may look like a sentence."""
    if raw[:1] != b"(":
        return True
    return any(isinstance(Decoder().decode(found, 0.0), Message) for found in Framer().feed(raw))


def stream_of(random: Random, odd: bool = True) -> tuple[list[bytes], int]:
    """Whole frames, mostly `$`, and which of the `$` frames is to be damaged; another frame follows it.

    With `odd`, what ends a frame and what begins one may look alike: then nobody can tell whether a frame
    lost its beginning, or the one before it its end.
    """
    length = random.choice([30, 35, 36, 39, 52, 52, 52, 52])
    serials = [0x24, 0x28, 0x7E] if odd else [0xFF]
    frames = [frame(random, random.choice([serial, *serials]), length, odd) for serial in range(4)]
    frames.append(random.choice(RECORDED))
    chosen = random.randrange(4)
    damaged = frames[chosen]
    for other in (random.choice(SENTENCES), random.choice(BINARIES)):
        if random.random() < 0.5:
            frames.insert(random.randrange(len(frames)), other)
    return frames, frames.index(damaged)


class CutTests(SynchronousTestCase):
    """One frame ends too early, and others follow at once."""

    def check(self, frames: list[bytes], index: int, broken: bytes, random: Random, whole: bool) -> None:
        others = frames[:index] + frames[index + 1 :]
        stream = b"".join(frames[:index]) + broken + b"".join(frames[index + 1 :])
        self.assertEqual(as_datagram(stream), others, (frames[index].hex(), broken.hex()))
        for chunks in pieces(stream, random) if whole else [[stream]]:
            self.assertEqual(over_tcp(chunks), others, (frames[index].hex(), broken.hex(), chunks[:1]))

    @given(st.integers(0, 2**32))
    @example(6443)  # Where the next frame's place looks like the IMEI of this one.
    @SEEDS
    def test_cut_at_every_position(self, seed: int) -> None:
        """All others are given, and nothing else, over TCP in any pieces and in a datagram."""
        random = Random(seed)
        frames, index = stream_of(random)
        for cut in range(1, len(frames[index])):
            self.check(frames, index, frames[index][:cut], random, cut % 7 == seed % 7)

    @given(st.integers(0, 2**32))
    @SEEDS
    def test_several_in_a_row(self, seed: int) -> None:
        """Each of which got as far as its position: what is given are the whole frames behind them."""
        random = Random(seed)
        frames = [frame(random, 0xFF, random.choice([30, 35, 36, 39, 52]), False) for _ in range(4)]
        for _ in range(10):
            broken = [each[: random.randrange(27, len(each))] for each in frames]
            whole = random.choice([*RECORDED, *SENTENCES, *BINARIES])
            stream = b"".join([RECORDED[0], *broken, whole, RECORDED[1]])
            told = ([each.hex() for each in broken], whole.hex())
            expected = [RECORDED[0], whole, RECORDED[1]]
            self.assertEqual(as_datagram(stream), expected, told)
            for chunks in pieces(stream, random):
                self.assertEqual(over_tcp(chunks), expected, told)

    @given(st.integers(0, 2**32))
    @example(345759)  # Where what is left has a pair of brackets.
    @SEEDS
    def test_byte_lost_at_every_position(self, seed: int) -> None:
        """Whichever byte got lost, all others are given."""
        random = Random(seed)
        frames, index = stream_of(random, odd=False)
        for at in range(len(frames[index])):
            broken = frames[index][:at] + frames[index][at + 1 :]
            self.others(frames, index, broken)

    @given(st.integers(0, 2**32), st.integers(0, 255))
    @SEEDS
    def test_byte_changed_at_every_position(self, seed: int, value: int) -> None:
        """Whatever byte is another one, all others are given."""
        random = Random(seed)
        frames, index = stream_of(random)
        for at in range(len(frames[index])):
            broken = frames[index][:at] + bytes([value]) + frames[index][at + 1 :]
            self.others(frames, index, broken)

    @given(st.integers(0, 2**32))
    @example(35229603)
    @SEEDS
    def test_beginning_lost(self, seed: int) -> None:
        """However much of its beginning got lost, all others are given."""
        random = Random(seed)
        frames, index = stream_of(random, odd=False)
        for cut in range(1, len(frames[index])):
            self.others(frames, index, frames[index][cut:])

    def others(self, frames: list[bytes], index: int, broken: bytes) -> None:
        """All others are given; beside them at most one message, of the bytes of the broken one alone."""
        stream = b"".join(frames[:index]) + broken + b"".join(frames[index + 1 :])
        for found in (as_datagram(stream), over_tcp([stream])):
            rest = found[len(frames[:index]) : len(found) - len(frames[index + 1 :])]
            told = (frames[index].hex(), broken.hex(), [each.hex() for each in rest])
            self.assertEqual(found[:index], frames[:index], told)
            self.assertEqual(found[len(found) - len(frames[index + 1 :]) :], frames[index + 1 :], told)
            self.assertLessEqual(sum(map(is_message, rest)), 1, told)
            self.assertTrue(all(each in broken for each in rest), told)

    def test_bytes_too_many_before_the_imei(self) -> None:
        """A long record whose fields have been moved makes up nothing, and all others are given."""
        unit = bytes.fromhex("868822040248195f")
        for seed in range(40):
            random = Random(seed)
            records = [record(random, 0xFF, 52, False) for _ in range(3)]
            frames = [
                jt701.encode_frame(f"75003136{n:02}", 0x19, 1, [one[:38] + unit + one[46:]])
                for n, one in enumerate(records)
            ]
            more = bytes(random.randrange(0x80, 0xFF) for _ in range(random.randrange(1, 5)))
            for at in range(10 + 17, 10 + 38):
                broken = frames[1][:at] + more + frames[1][at:]
                self.check(frames, 1, broken, random, at % 7 == seed % 7)

    @line_test("F3")
    def cut_before_whole_ones(self, line: Line) -> None:
        """A frame cut short before three whole ones: they are heard, and nothing of the first."""
        (stream,) = sent(line)
        decoder = Decoder()
        for chunks in pieces(stream, Random(1)):
            framer = Framer()
            frames = [frame for chunk in chunks for frame in framer.feed(chunk)]
            decoded = [decoder.decode(frame, 0.0) for frame in frames]
            heard = [one for one in decoded if isinstance(one, Message)]
            self.assertEqual([one.answer_at(FIRST) for one in heard], [b"(P69,0,%d)" % n for n in (1, 2, 3)])
            for one in heard:
                found = one.events[0][1]
                assert isinstance(found, Location)
                self.assertEqual((found.lock_state, found.alarms, found.battery_percent), ("locked", (), 40))
            self.assertEqual(
                [one.reason for one in decoded if isinstance(one, Malformed)][:1], ["truncated"], chunks[:1]
            )

    def test_end_of_a_datagram(self) -> None:
        """Cut short at the end of its datagram, a frame is malformed."""
        for raw in RECORDED:
            for cut in range(1, len(raw)):
                self.assertEqual(as_datagram(RECORDED[0] + raw[:cut]), RECORDED[:1])


class DollarsInARowTests(SynchronousTestCase):
    """Any number of `$` before a frame is noise."""

    def test_before_any_frame(self) -> None:
        """The frame is given, however it arrives, and no device is made up."""
        for count in range(1, 40):
            for follower in (*RECORDED, *SENTENCES, *BINARIES):
                for random in (Random(1), Random(2)):
                    for chunks in pieces(b"$" * count + follower, random):
                        self.assertEqual(over_tcp(chunks), [follower], (count, chunks[:3]))
                self.assertEqual(as_datagram(b"$" * count + follower), [follower])

    @line_test("P13")
    def before_a_heartbeat(self, line: Line) -> None:
        """Seven of them before a heartbeat: it is heard."""
        self.assertEqual(over_tcp(sent(line)), [sent(line)[0][7:]])


class DoubtTests(SynchronousTestCase):
    """A frame whose last bytes may be the beginning of the next one."""

    def test_held_for_a_moment(self) -> None:
        """It is held until something follows it, or nothing has for a while."""
        for last in b"$(~":
            raw = RECORDED[0][:-1] + bytes([last])
            framer = Framer()
            self.assertEqual((framer.feed(raw), framer.in_doubt), ([], True))
            self.assertEqual(framer.settle(), [DollarFrame(raw)])
            self.assertEqual((framer.in_doubt, framer.pending), (False, 0))
            for follower in (*RECORDED, *SENTENCES, *BINARIES):
                framer = Framer()
                framer.feed(raw)
                given = framer.feed(follower)
                self.assertEqual([frame.raw for frame in given], [raw, follower])
                self.assertFalse(framer.in_doubt)

    def test_no_doubt(self) -> None:
        """Any other frame is given with its last byte."""
        for raw in RECORDED:
            framer = Framer()
            self.assertEqual((framer.feed(raw), framer.in_doubt), ([DollarFrame(raw)], False))

    def test_what_looks_like_a_flag(self) -> None:
        """A course of 252 degrees and a mileage of more than 65,535 km look like the head of a `7E` frame."""
        for length in (30, 35, 36, 39, 52):
            for mileage in (0x00010003, 0x00011170, 0x00020345, 0x0003FFFF):
                flag = record(Random(length), 9, length, False)
                flag = flag[:16] + b"\x7e" + mileage.to_bytes(4, "big") + flag[21:]
                frames = [
                    jt701.encode_frame("7500313620", 0x19, 1, [flag]),
                    jt701.encode_frame("7500313621", 0x19, 1, [record(Random(1), 1, length, False)]),
                ]
                for chunks in pieces(b"".join(frames), Random(2)):
                    self.assertEqual(over_tcp(chunks), frames, (length, mileage))

    def test_too_much_of_another_frame(self) -> None:
        """When a header has been seen inside, the pause is one of the network, not the end."""
        for cut in range(10, 50):
            framer = Framer()
            stream = RECORDED[0][:cut] + RECORDED[1]
            given = framer.feed(stream[:62]) + framer.settle()
            self.assertEqual([frame for frame in given if isinstance(frame, DollarFrame)], [], cut)
            given = framer.feed(stream[62:])
            self.assertEqual([frame.raw for frame in given if isinstance(frame, DollarFrame)], RECORDED[1:2])
