"""TCP segments put together again."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.replay.steps import Chunk, End, LeftOut, Step
from jt709c_gateway.cli.replay.tcp_reassembly import FIN, RST, SYN, Segment, Streams

NAME = "10.0.0.1:4000"
ISN = (1 << 32) - 20


def play(*segments: Segment, left_out: LeftOut | None = None) -> list[Step]:
    """The steps of segments, one a second, and of the end of the capture."""
    streams = Streams(left_out or LeftOut())
    found: list[Step] = []
    for number, segment in enumerate(segments):
        found += streams.feed(segment, float(number))
    return [*found, *streams.finish(float(len(segments)))]


def segment(offset: int, data: bytes = b"", flags: int = 0, name: str = NAME, isn: int = ISN) -> Segment:
    """A segment whose data begin at this offset of the stream; the numbers wrap soon."""
    return Segment(name, (isn + 1 + offset) % (1 << 32), flags, data)


SYN_SEGMENT = Segment(NAME, ISN, SYN, b"")


def bytes_of(steps: list[Step], name: str = NAME) -> bytes:
    """What a connection comes to."""
    return b"".join(step.data for step in steps if isinstance(step, Chunk) and step.connection == name)


class StreamTests(SynchronousTestCase):
    def test_command(self) -> None:
        """Segments out of order wait, what comes again is dropped, overlaps are cut."""
        steps = play(
            SYN_SEGMENT,
            segment(3, b"def"),
            segment(0, b"abc"),
            segment(0, b"abc"),
            segment(4, b"efgh"),
            segment(8, b"", FIN),
        )
        self.assertEqual(
            steps,
            [
                Chunk(NAME, b"abc", 2.0, "tcp"),
                Chunk(NAME, b"def", 2.0, "tcp"),
                Chunk(NAME, b"gh", 4.0, "tcp"),
                End(NAME, 5.0),
            ],
        )

    def test_end_before_its_data(self) -> None:
        """A FIN that overtakes the last segment ends the connection after it."""
        steps = play(SYN_SEGMENT, segment(3, b"", FIN), segment(0, b"abc"))
        self.assertEqual(steps, [Chunk(NAME, b"abc", 2.0, "tcp"), End(NAME, 2.0)])

    def test_begun_before_the_capture(self) -> None:
        """A connection of which the beginning is missing is taken from where it is seen."""
        self.assertEqual(bytes_of(play(segment(50, b"abc"), segment(53, b"def"))), b"abcdef")
        self.assertEqual(play(segment(50)), [])

    def test_gap(self) -> None:
        """What the sniffer has missed is given up at the end, or when too much waits for it."""
        left_out = LeftOut()
        steps = play(SYN_SEGMENT, segment(0, b"abc"), segment(6, b"ghi"), left_out=left_out)
        self.assertEqual((bytes_of(steps), left_out.gaps), (b"abcghi", 1))
        left_out = LeftOut()
        many = [segment(10 + 1000 * number, b"x" * 1000) for number in range(600)]
        streams = Streams(left_out)
        found = [step for one in (SYN_SEGMENT, *many) for step in streams.feed(one, 0.0)]
        self.assertEqual((len(bytes_of(found)), left_out.gaps), (600_000, 1))

    def test_addresses_used_again(self) -> None:
        """A new connection from the same address and port is another connection."""
        steps = play(
            SYN_SEGMENT,
            segment(0, b"abc"),
            Segment(NAME, 5, SYN, b""),
            Segment(NAME, 5, SYN, b""),
            Segment(NAME, 6, 0, b"def"),
            Segment(NAME, 9, RST, b""),
            segment(0, b"ghi"),
        )
        self.assertEqual(
            [step.connection for step in steps],
            [NAME, NAME, f"{NAME} #2", f"{NAME} #2", f"{NAME} #3", f"{NAME} #3"],
        )
        self.assertEqual(bytes_of(steps, f"{NAME} #2"), b"def")

    def test_bounds(self) -> None:
        """Of connections that never end only so many are followed."""
        streams = Streams(LeftOut())
        ended = 0
        for number in range(20_100):
            steps = streams.feed(Segment(f"c{number}", 5, 0, b"x"), 0.0)
            ended += sum(isinstance(step, End) for step in steps)
        self.assertEqual(ended, 100)

    @given(
        st.binary(min_size=1, max_size=200),
        st.lists(st.integers(1, 30), min_size=1, max_size=40),
        st.randoms(use_true_random=False),
    )
    def test_any_command(self, data: bytes, cuts: list[int], random: object) -> None:
        """However segments are cut, doubled and mixed, each byte comes once and in its place."""
        pieces, at = [], 0
        for cut in (*cuts, len(data)):
            if at < len(data):
                # Each reaches back, as retransmissions do that are cut in another way.
                first = max(0, at - cut // 3)
                pieces.append(segment(first, data[first : at + cut]))
                at += cut
        mixed = pieces + pieces[::2]
        random.shuffle(mixed)  # type: ignore[attr-defined]
        left_out = LeftOut()
        steps = play(SYN_SEGMENT, *mixed, left_out=left_out)
        self.assertEqual((bytes_of(steps), left_out.gaps), (data, 0))
