"""All dialects on one TCP connection: from bytes at the transport to committed events and answers."""

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.jt808 import JT705_LOCATION, LOCATION_ANSWER, encode_jt705
from jt709c_gateway.transport.tcp import LockFactory
from tests.support.committer import Fleet, events_in
from tests.unit.protocol.test_dialect_jt705 import body as jt705_body
from tests.unit.protocol.test_dialect_streams import GARBAGE, SOUND, alone
from tests.vectors import DEVICE, binary, location

#: One of each: a location, a jt705's, `$` frames of both kinds of masters, sentences grouped and `Pnn`, a
#: sub-lock's report.
CHOSEN = [
    SOUND[0],
    next(raw for raw in SOUND if raw[1:3] == b"\x55\x01" and alone(raw)[4]),
    *(raw for raw in SOUND if raw[:1] == b"$"),
    next(raw for raw in SOUND if b",ELOCK," in raw or b",BASE," in raw),
    *(raw for raw in SOUND if b",P45," in raw or b",P52,2," in raw or b",@JT" in raw),
    next(raw for raw in SOUND if b",WLNET,5," in raw),
]


class OneConnection(SynchronousTestCase):
    """The real protocol and gateway, over a Redis that says yes."""

    def heard(self, pieces: list[bytes]) -> tuple[list[dict[str, Any]], bytes]:
        """What is published and what is written when the pieces arrive one by one."""
        fleet = Fleet()
        protocol = LockFactory(fleet.gateway, 10, 10).buildProtocol(IPv4Address("TCP", "192.0.2.7", 50112))
        assert protocol is not None
        transport = StringTransport(peerAddress=IPv4Address("TCP", "192.0.2.7", 50112))
        protocol.makeConnection(transport)
        for piece in pieces:
            protocol.dataReceived(piece)
        fleet.commit()
        self.assertTrue(transport.connected and not transport.disconnecting)
        told = [event for event in events_in(fleet.committed) if event["kind"] != "session"]
        return told, transport.value()

    def check(self, pieces: list[bytes], frames: list[bytes]) -> None:
        told, written = self.heard(pieces)
        expected = [(alone(raw)[1], kind) for raw in frames for kind, _ in alone(raw)[2]]
        self.assertEqual([(event["device"], event["kind"]) for event in told], expected)
        dialects = {event["dialect"] for event in told}
        self.assertEqual(dialects, {"jt709", "jt705", "jt701", "sentence"})
        self.assertEqual(written, b"".join(alone(raw)[4] or b"" for raw in frames))

    def test_all_start_bytes_and_garbage(self) -> None:
        """`7E`, `(` and `$` in one stream, whatever lies between: each heard, each answered."""
        self.assertEqual({raw[:1] for raw in CHOSEN}, {b"\x7e", b"(", b"$"})
        for garbage in GARBAGE:
            stream = garbage + garbage.join(CHOSEN) + garbage
            self.check([stream], CHOSEN)
            self.check([stream[at : at + 1] for at in range(len(stream))], CHOSEN)

    def test_cut_at_every_point(self) -> None:
        """Two pieces, whatever the first ends with."""
        stream = b"\xff\xfe)\r\n".join(CHOSEN)
        for cut in range(len(stream)):
            self.check([stream[:cut], stream[cut:]], CHOSEN)

    def test_answers_are_sound(self) -> None:
        """Answers of two families that leave in one piece can be told apart again."""
        _, written = self.heard([b"".join(CHOSEN)])
        binary = [frame.raw for frame in Framer().feed(written) if frame.raw[:1] == b"\x7e"]
        self.assertEqual(len(binary), 2)
        self.assertEqual(
            written.count(b"(P69,0,"), sum((alone(raw)[4] or b"")[:4] == b"(P69" for raw in CHOSEN)
        )


class WhatALockSpeaks(SynchronousTestCase):
    """Its reports tell; what the whole family says the same way changes nothing."""

    def setUp(self) -> None:
        self.fleet = Fleet()
        self.link = self.fleet.link()

    def told(self, *frames: bytes) -> list[tuple[str, str]]:
        """Kind and dialect of the events that frames give."""
        heard = self.fleet.hear(self.link, *frames)
        return [(event["kind"], event["dialect"]) for event in heard if event["kind"] != "session"]

    def stored(self) -> list[str | None]:
        """The dialects that Redis is told, record by record."""
        states = [content[5] for content in self.fleet.committed if content[0] and content[5] is not None]
        return [state if isinstance(state, str) else state[0] for state in states]

    def test_jt705_with_a_heartbeat(self) -> None:
        """A jt705 stays one when it sends 0x0002, 0x0100, a sentence, or answers where it is."""
        report = encode_jt705(JT705_LOCATION, DEVICE, 1, jt705_body(), answer_wanted=True)
        common = [
            binary(0x0002),
            binary(0x0100, b"x"),
            binary(LOCATION_ANSWER, b"\x00\x01" + location()),
            b"(794308010679,1,001,BASE,1,V1)",
        ]
        self.told(report)
        self.assertEqual({dialect for _, dialect in self.told(*common)}, {"jt705"})
        self.assertEqual(set(self.stored()), {"jt705"})

    def test_pnn_of_a_jt709(self) -> None:
        """A `Pnn` sentence makes no master of a lock whose reports say otherwise."""
        self.told(binary(0x0200, location()))
        self.assertEqual(self.told(b"(794308010679,P14,1)"), [("reply", "jt709")])
        self.assertEqual(set(self.stored()), {"jt709"})

    def test_before_any_report(self) -> None:
        """As long as no report has come the frame's family is the best guess, and Redis isn't told."""
        self.assertEqual(self.told(binary(0x0002)), [("heartbeat", "jt709")])
        self.assertEqual(self.stored(), [None])

    def test_another_firmware(self) -> None:
        """Reports of another dialect count from the first one on."""
        self.told(binary(0x0200, location()))
        frame = encode_jt705(JT705_LOCATION, DEVICE, 1, jt705_body(), answer_wanted=False)
        self.assertEqual(self.told(frame), [("location", "jt705")])
