"""Captures as text."""

import io
import json

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.cli.replay import text_capture
from jt709c_gateway.cli.replay.steps import CaptureError, Chunk, End, LeftOut, Step

FRAME = "7e0002000079430801067900017e"
BYTES = bytes.fromhex(FRAME)


def read(*text: str, left_out: LeftOut | None = None) -> list[Step]:
    """The steps of these lines."""
    file = io.BytesIO("\n".join(text).encode("utf-8", "surrogateescape"))
    return list(text_capture.read(file, "capture.txt", left_out or LeftOut()))


def event(**changes: object) -> str:
    """An event as watch and history print it."""
    known = {
        "kind": "location",
        "device": "794308010679",
        "serial": 1,
        "received_at": "2026-11-22T10:15:00.250Z",
        "gateway": "gw1",
        "transport": "udp",
        "peer": "203.0.113.7:50112",
        "raw": FRAME,
        "data": {},
    }
    return json.dumps(known | changes)


class LineTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """Time and connection may be left out; hex may be written in any way."""
        spaced = " ".join(FRAME[at : at + 2] for at in range(0, len(FRAME), 2))
        for line, step in (
            (FRAME, Chunk("-", BYTES, 0.0)),
            (f"  {spaced}  ", Chunk("-", BYTES, 0.0)),
            (FRAME.upper() * 2, Chunk("-", BYTES * 2, 0.0)),
            (f"lock1: {spaced}", Chunk("lock1", BYTES, 0.0)),
            (f"203.0.113.7:5011: {FRAME}", Chunk("203.0.113.7:5011", BYTES, 0.0)),
            (f"2026-11-22T10:15:00.250Z {FRAME}", Chunk("-", BYTES, 0.0)),
            (f"2026-11-22T11:15:00.250+01:00 lock1: {FRAME}", Chunk("lock1", BYTES, 0.0)),
            (f"1795342500.25 lock1: {FRAME}", Chunk("lock1", BYTES, 0.0)),
            (f"+2 {FRAME}", Chunk("-", BYTES, 2.0)),
            ("(794308010679,1,001,BASE,2,TIME)", Chunk("-", b"(794308010679,1,001,BASE,2,TIME)", 0.0)),
            ("lock1: (P22, 1)", Chunk("lock1", b"(P22, 1)", 0.0)),
            (json.dumps({"frame": FRAME, "note": "x"}), Chunk("-", BYTES, 0.0)),
        ):
            self.assertEqual(read(line), [step], line)

    def test_times_go_on(self) -> None:
        """A line without a time is right behind the one before; comments and empty lines are nothing."""
        dated, later = f"1795342500.25 {FRAME}", f"2026-11-22T10:15:04.250Z {FRAME}"
        steps = read("# a capture", dated, "", FRAME, f"+1.5 {FRAME}", f"+1 {FRAME}", later)
        self.assertEqual([step.at for step in steps], [0.0, 0.0, 1.5, 2.5, 4.0])
        steps = read(FRAME, f"+500 {FRAME}", dated, later)
        self.assertEqual([step.at for step in steps], [0.0, 500.0, 500.0, 504.0])

    def test_events(self) -> None:
        """A frame is sent once, whatever number of events it made, over the connection that it came by."""
        left_out = LeftOut()
        steps = read(
            event(),
            event(kind="lock"),
            event(received_at="2026-11-22T10:15:01Z"),
            event(kind="command", raw=None),
            event(raw="(8000010001,1,003,WLNET,5,2,\xff\x00)", transport="tcp"),
            event(raw_masked=True, raw="7e2a7e"),
            event(kind="session", raw=None, data={"state": "online"}),
            event(kind="session", raw=None, data={"state": "offline"}),
            left_out=left_out,
        )
        name = "gw1 203.0.113.7:50112"
        self.assertEqual(
            steps,
            [
                Chunk(name, BYTES, 0.0, "udp"),
                Chunk(name, BYTES, 0.75, "udp"),
                Chunk(name, b"(8000010001,1,003,WLNET,5,2,\xff\x00)", 0.0, "tcp"),
                End(name, 0.0),
            ],
        )
        self.assertEqual(left_out.describe(), "1 frames with masked passwords left out")

    def test_a_lock_that_came_anew(self) -> None:
        """What `replaced` a connection is the newer one; the older has ended."""
        session = {"kind": "session", "raw": None}
        steps = read(
            event(**session, data={"state": "online"}),
            event(**session, data={"state": "replaced"}, peer="203.0.113.7:50113"),
            event(**session, data={"state": "replaced"}, device="5"),
        )
        self.assertEqual(steps, [End("gw1 203.0.113.7:50112", 0.0)])

    def test_mistakes(self) -> None:
        """Each says in which line it is, and what is wrong."""
        for line, word in (
            ("zz", "not hex: text of 2 characters"),
            ("7e0", "an odd number of hex digits"),
            (f"2026-13-22T10:15:00Z {FRAME}", "is not a time; expected one such as"),
            ("lock1: ", "not hex: text of 6 characters"),
            ("+1 lock1: 0x", "no frame; expected"),
            ("{", "not JSON"),
            ("{}", 'neither "frame" with hex nor an event'),
            (event(received_at="soon"), "is not a time"),
            (event(raw="x"), "raw: not hex"),
            (event(raw="(\u2192)"), "no bytes"),
            ("\udcff\udcfe", "not hex"),
        ):
            error = self.assertRaises(CaptureError, read, "# first", FRAME, line)
            self.assertTrue(str(error).startswith("capture.txt, line 3: "), error)
            self.assertIn(word, str(error))
            self.assertEqual(str(error).count("\n"), 0)

    def test_bounds(self) -> None:
        """What has no lines is not read into memory."""
        error = self.assertRaises(CaptureError, read, "7e" * (1 << 20))
        self.assertIn("line 1: longer than", str(error))
