"""Playing steps: against a small gateway in this process, and against fake links and clocks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from twisted.internet import defer, reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.cli.replay.ack_tracker import AckTracker, Counts
from jt709c_gateway.cli.replay.player import Pace, Player
from jt709c_gateway.cli.replay.steps import CaptureError, Chunk, End, Step
from jt709c_gateway.protocol import answers, jt808
from jt709c_gateway.protocol.framing import Framer
from tests.support import free_port
from tests.unit.simulator.test_client import EchoDatagrams, EchoFactory
from tests.vectors import MOMENT, binary, decode, location, part


def report(number: int = 1, device: int = 1) -> bytes:
    """A report of a device, with a serial of its own."""
    wire = bytes.fromhex(f"{device:012d}")
    return binary(jt808.LOCATION, location(time=MOMENT + timedelta(seconds=number)), number, wire)


def answer_to(frame: bytes) -> bytes:
    message = decode(frame)
    assert message is not None
    answer = message.answer_at(datetime.now(UTC))  # type: ignore[union-attr]
    assert answer is not None
    return answer


class LedgerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.counts = Counts()
        self.ledger = AckTracker(self.counts)

    def test_answers(self) -> None:
        """Each answer belongs to one frame, in whatever pieces both come; what else comes is no answer."""
        frames = [report(1), report(2), report(1)]
        for at, byte in enumerate(b"".join(frames)):
            self.ledger.sent(bytes([byte]), at / 1000)
        self.assertEqual((self.counts.frames, self.counts.due, self.ledger.awaited), (3, 3, 3))
        answers = answer_to(frames[1]) + b"\x00" + answer_to(frames[0]) + b"(P14)" + answer_to(report(9))
        for byte in answers:
            self.ledger.received(bytes([byte]), 1.0)
        self.assertEqual((self.counts.answered, self.counts.other, self.ledger.awaited), (2, 2, 1))
        self.ledger.received(answer_to(frames[2]), 1.0)
        self.assertEqual((self.counts.answered, self.counts.awaited), (3, 0))

    def test_times(self) -> None:
        """An answer that tells the time is known by all else in it."""
        sent = b"(794308010679,1,007,BASE,2,TIME)", b"(8000010001,P22)", binary(jt808.TIME_REQUEST)
        for frame in sent:
            self.ledger.sent(frame, 0.0)
        due = self.counts.due
        self.assertGreaterEqual(due, 2)
        for frame in sent:
            message = decode(frame)
            later = message.answer_at(datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC))  # type: ignore[union-attr]
            self.ledger.received(later or b"", 1.0)
        self.assertEqual((self.counts.answered, self.counts.other), (due, 0))

    def test_split(self) -> None:
        """The parts of a split message are answered one by one when it is whole."""
        body = location()
        parts = [
            part(jt808.LOCATION, body[:20], 5, 2, 1),
            part(jt808.LOCATION, body[20:], 6, 2, 2),
        ]
        self.ledger.sent(parts[0], 0.0)
        self.assertEqual(self.counts.due, 0)
        self.ledger.sent(parts[1], 0.0)
        self.assertEqual((self.counts.frames, self.counts.due), (2, 2))
        answer = b"".join(
            answers.general_answer(jt808.identify(bytes.fromhex("794308010679")), serial, jt808.LOCATION)
            for serial in (5, 6)
        )
        self.ledger.received(answer, 0.1)
        self.assertEqual(self.counts.answered, 2)

    def test_giving_up(self) -> None:
        """What was sent too long ago, and what a closed connection leaves, counts as unanswered; later
        answers are no answers.
        """
        for number in range(3):
            self.ledger.sent(report(number), float(number))
        self.ledger.expire(1.0)
        self.assertEqual((self.counts.unanswered, self.ledger.awaited), (2, 1))
        self.ledger.received(answer_to(report(0)), 5.0)
        self.assertEqual((self.counts.answered, self.counts.other), (0, 1))
        self.ledger.close()
        self.assertEqual((self.counts.unanswered, self.counts.awaited), (3, 0))

    def test_bounds(self) -> None:
        """Frames whose answers never come don't pile up."""
        for number in range(5000):
            self.ledger.sent(report(number), 0.0)
        self.assertEqual((self.ledger.awaited, self.counts.unanswered), (4096, 904))
        self.assertEqual(len(self.ledger._by_answer), 4096)

    def test_no_frames(self) -> None:
        self.ledger.sent(b"\x01\x02rubbish" + report(1), 0.0)
        self.assertEqual((self.counts.malformed, self.counts.frames), (1, 1))


class PlayerTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.factory = EchoFactory()
        port = reactor.listenTCP(0, self.factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.datagrams = EchoDatagrams([])
        listening = reactor.listenUDP(self.port, self.datagrams, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)

    def player(self, port: int | None = None, **pace: object) -> Player:
        self.counts = Counts()
        given = {"speed": None, "grace": 5.0} | pace
        return Player(reactor, "127.0.0.1", port or self.port, Pace(**given), self.counts)  # type: ignore[arg-type]

    @defer.inlineCallbacks
    def play(self, steps: list[Step], **options: object):  # type: ignore[no-untyped-def]
        self.played = self.player(**options)
        yield defer.Deferred.fromCoroutine(self.played.play(steps))

    @defer.inlineCallbacks
    def test_connections(self):  # type: ignore[no-untyped-def]
        """Each connection of the capture is one, its bytes in order, and it ends when the capture's did."""
        steps: list[Step] = []
        for number in range(40):
            for device in range(1, 6):
                frame = report(number, device)
                steps += [Chunk(f"c{device}", frame[:9]), Chunk(f"c{device}", frame[9:])]
        steps += [End("c1"), Chunk("c1", report(99, 1)), End("nobody")]
        yield self.play(steps)
        self.assertEqual(len(self.factory.protocols), 6)
        self.assertEqual((self.counts.frames, self.counts.answered, self.counts.unanswered), (201, 201, 0))
        self.assertEqual((self.counts.connections, self.counts.closed, self.counts.unsent), (6, 0, 0))
        for device in "12345":
            serials = [one.serial for one in self.factory.seen if one.device == device]
            self.assertEqual(serials, [*range(40), *([99] if device == "1" else [])])
        self.assertEqual((self.played.open, self.played._queued), (0, 0))

    @defer.inlineCallbacks
    def test_transports(self):  # type: ignore[no-untyped-def]
        """As captured, or all over one; a stream over UDP goes in whole frames."""
        frame = report(1)
        steps = [
            Chunk("a", frame[:5], transport="tcp"),
            Chunk("a", frame[5:] + report(2), transport="tcp"),
            Chunk("b", report(3), transport="udp"),
            Chunk("c", report(4)),
        ]
        for transport, streams, datagrams in ((None, 3, 1), ("udp", 0, 4), ("tcp", 4, 0)):
            self.factory.seen.clear()
            self.datagrams.gateway.seen.clear()
            yield self.play(steps, transport=transport)
            self.assertEqual(len(self.factory.seen), streams)
            self.assertEqual(len(self.datagrams.gateway.seen), datagrams)
            self.assertEqual((self.counts.answered, self.counts.malformed), (4, 0))

    @defer.inlineCallbacks
    def test_pace(self):  # type: ignore[no-untyped-def]
        """Real time, divided by the speed; times that go back don't wait."""
        steps = [Chunk("a", report(number), 100.0 + at) for number, at in enumerate((0, 4, 2, 8))]
        began = reactor.seconds()
        yield self.play(steps, speed=20.0)
        taken = reactor.seconds() - began
        self.assertGreaterEqual(taken, 0.4)
        self.assertLess(taken, 4)
        self.assertEqual(self.counts.answered, 4)

    @defer.inlineCallbacks
    def test_silence(self):  # type: ignore[no-untyped-def]
        """A gateway that doesn't answer is waited for no longer than the grace, and gets no more than the
        window meanwhile.
        """
        self.patch(EchoFactory, "buildProtocol", _silent(EchoFactory.buildProtocol))
        began = reactor.seconds()
        steps = [Chunk("a", report(number)) for number in range(40)]
        played = self.player(grace=0.5)
        playing = defer.Deferred.fromCoroutine(played.play(steps))
        most = 0
        while not playing.called:
            most = max(most, self.counts.awaited)
            yield _soon()
        yield playing
        self.assertEqual((self.counts.frames, self.counts.unanswered, most), (40, 40, 16))
        self.assertLess(reactor.seconds() - began, 20)

    @defer.inlineCallbacks
    def test_refused(self):  # type: ignore[no-untyped-def]
        """Nobody listens: what could not be sent is counted."""
        nowhere = free_port()
        yield self.play([Chunk("a", report(1)), Chunk("b", report(2))], port=nowhere)
        sizes = len(report(1)) + len(report(2))
        self.assertEqual((self.counts.refused, self.counts.unsent, self.counts.frames), (2, sizes, 0))
        yield self.play([Chunk("a", report(1), transport="udp")], port=nowhere, grace=0.3)
        self.assertEqual((self.counts.refused, self.counts.unanswered), (1, 1))

    @defer.inlineCallbacks
    def test_closed_by_the_gateway(self):  # type: ignore[no-untyped-def]
        """What comes after the gateway has hung up is not sent."""

        def steps() -> Iterator[Step]:
            yield Chunk("a", report(1))
            yield Chunk("a", report(2), 1.0)
            yield Chunk("a", report(3), 1.5)

        def hang_up(protocol: object, data: bytes) -> None:
            protocol.transport.loseConnection()  # type: ignore[attr-defined]

        from tests.unit.simulator.test_client import EchoGateway

        self.patch(EchoGateway, "dataReceived", hang_up)
        yield self.play([*steps()], speed=1.0)
        self.assertEqual((self.counts.closed, self.counts.connections), (1, 1))
        self.assertEqual(self.counts.unsent, len(report(3)))
        self.assertEqual(self.counts.unanswered, 2)

    @defer.inlineCallbacks
    def test_limit(self):  # type: ignore[no-untyped-def]
        """Of more connections than allowed the quiet ones go, and come back."""
        steps = [Chunk(f"c{n % 7}", report(n, n % 7 + 1)) for n in range(70)]
        played = self.player(connections=3)
        most = 0
        playing = defer.Deferred.fromCoroutine(played.play(steps))
        while not playing.called:
            most = max(most, played.open)
            yield _soon()
        yield playing
        self.assertEqual((self.counts.answered, self.counts.closed), (70, 0))
        self.assertLessEqual(most, 3)
        self.assertGreaterEqual(self.counts.connections, 7)

    @defer.inlineCallbacks
    def test_stopped(self):  # type: ignore[no-untyped-def]
        """When it is cancelled, or the capture breaks off, every connection is closed."""
        played = self.player(speed=1.0)
        steps = [Chunk("a", report(1), 0.0), Chunk("b", report(2), 0.0), Chunk("a", report(3), 500.0)]
        playing = defer.Deferred.fromCoroutine(played.play(steps))
        while self.counts.answered < 2:
            yield _soon()
        playing.cancel()
        yield self.assertFailure(playing, defer.CancelledError)
        self.assertEqual((played.open, len(played._channels)), (0, 0))

        def broken() -> Iterator[Step]:
            yield Chunk("a", report(1))
            raise CaptureError("line 2")

        played = self.player()
        yield self.assertFailure(defer.Deferred.fromCoroutine(played.play(broken())), CaptureError)
        self.assertEqual(len(played._channels), 0)

    @defer.inlineCallbacks
    def test_backpressure(self):  # type: ignore[no-untyped-def]
        """A gateway that doesn't read is not written to without bound, and the file is not read on."""
        from tests.unit.simulator.test_client import EchoGateway

        self.patch(EchoGateway, "connectionMade", lambda protocol: protocol.transport.pauseProducing())
        taken = 0

        def steps() -> Iterator[Step]:
            nonlocal taken
            for _ in range(100_000):
                taken += 1
                yield Chunk("a", b"\x00" * 1000)

        played = self.player(speed=1.0)
        playing = defer.Deferred.fromCoroutine(played.play(steps()))
        before = -1
        while taken != before or not taken:
            before = taken
            yield _soon(0.3)
        self.assertLess(taken, 20_000)
        self.assertEqual(played._queued, 2000)
        playing.cancel()
        yield self.assertFailure(playing, defer.CancelledError)
        self.assertEqual(len(played._channels), 0)


def _silent(build):  # type: ignore[no-untyped-def]
    def silent(factory, address):  # type: ignore[no-untyped-def]
        protocol = build(factory, address)
        protocol.answering = False
        return protocol

    return silent


def _soon(seconds: float = 0.005) -> "defer.Deferred[None]":
    soon: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, soon.callback, None)
    return soon


class FramesTests(SynchronousTestCase):
    def test_answers_of_the_tests(self) -> None:
        """What these tests send is what a lock sends."""
        (frame,) = Framer().feed(report(7, 3))
        self.assertEqual((decode(frame.raw).device, decode(frame.raw).serial), ("3", 7))  # type: ignore[union-attr]
