"""Streams of several families in which a flag is not what it seems: none of the other frames is lost."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.framing import Framer, Malformed
from tests.unit.protocol.test_dollar_check import BINARIES, RECORDED, SENTENCES, as_datagram, over_tcp
from tests.vectors import binary

HEARTBEAT = binary(0x0002)
(UNESCAPED,) = [frame for frame in BINARIES if b"\x7e" in frame[1:-1]]
#: The rest of a `$` frame that lost its beginning, with a mileage that looks like a flag.
TAIL = bytes.fromhex("0000007e06000000009e9dffc6cdffff0c0892")


class SentenceBehindAFlagTests(SynchronousTestCase):
    """A flag and bytes of no frame, and then sentences: no other flag comes that would close it."""

    def test_given_once_nothing_more_comes(self) -> None:
        """They are held for the moment in which the rest of a `7E` frame could come."""
        for sentence in SENTENCES:
            framer = Framer()
            self.assertEqual(framer.feed(TAIL + sentence)[1:], [])
            self.assertTrue(framer.in_doubt)
            given = framer.settle()
            self.assertEqual([frame.raw for frame in given if not isinstance(frame, Malformed)], [sentence])
            self.assertEqual((framer.in_doubt, framer.pending), (False, 0))

    def test_in_a_datagram(self) -> None:
        """Nothing more comes in a datagram; a sub-lock's report has a binary payload."""
        for sentence in SENTENCES:
            self.assertEqual(as_datagram(RECORDED[0] + TAIL + sentence), [RECORDED[0], sentence])

    def test_swallowed(self) -> None:
        """Where a flag follows that closes nothing, all sentences between are given."""
        stream = TAIL + b"".join(SENTENCES) + HEARTBEAT
        self.assertEqual(over_tcp([stream]), [*SENTENCES, HEARTBEAT])

    def test_frame_with_a_sentence_inside(self) -> None:
        """A `7E` frame of a known id may contain one, and is waited for."""
        for message_id in (0x0200, 0x0104, 0x0900):
            frame = binary(message_id, SENTENCES[0] * 3)
            for cut in range(1, len(frame)):
                framer = Framer()
                self.assertEqual(framer.feed(frame[:cut]), [])
                if message_id != 0x0900:
                    self.assertEqual(framer.settle(), [])
                self.assertEqual([one.raw for one in framer.feed(frame[cut:])], [frame])
                self.assertFalse(framer.in_doubt)


class UnescapedTests(SynchronousTestCase):
    """A 0x5501 without escapes, behind what was damaged."""

    def test_behind_a_frame_cut_short(self) -> None:
        """It is as whole as one with escapes: the `$` frame before it ends where it begins."""
        for raw in RECORDED:
            for cut in range(1, len(raw)):
                stream = RECORDED[0] + raw[:cut] + UNESCAPED + RECORDED[0]
                self.assertEqual(over_tcp([stream]), [RECORDED[0], UNESCAPED, RECORDED[0]], cut)
                self.assertEqual(as_datagram(stream), [RECORDED[0], UNESCAPED, RECORDED[0]], cut)

    def test_its_first_flag_closed_another(self) -> None:
        """A stray flag took its first one: both flags are one then."""
        for pieces in (1, 7, 4096):
            stream = HEARTBEAT + b"\x7e\x51\x82" + TAIL[-12:] + UNESCAPED + HEARTBEAT
            chunks = [stream[at : at + pieces] for at in range(0, len(stream), pieces)]
            self.assertEqual(over_tcp(chunks), [HEARTBEAT, UNESCAPED, HEARTBEAT], pieces)
