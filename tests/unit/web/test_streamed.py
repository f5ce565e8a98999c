"""A long answer that is sent as fast as its client reads."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web.streamed import PATIENCE, StreamedBody


class FakeRequest:
    """A request that keeps what is written."""

    def __init__(self) -> None:
        self.channel = self
        self.written: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.finished = self.aborted = False
        self.lost: Deferred[None] = Deferred()

    def setHeader(self, name: bytes, value: bytes) -> None:
        self.headers[name] = value

    def notifyFinish(self) -> "Deferred[None]":
        return self.lost

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming

    def unregisterProducer(self) -> None: ...

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def finish(self) -> None:
        self.finished = True

    def forceAbortClient(self) -> None:
        self.aborted = True


class StreamedBodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.request, self.clock = FakeRequest(), Clock()
        self.body = StreamedBody(self.request, self.clock)
        self.body.begin("text/csv", "a.csv")

    def write(self, data: bytes) -> "Deferred[None]":
        return Deferred.fromCoroutine(self.body.write(data))

    def test_waits_for_the_client(self) -> None:
        """While the client reads slowly, one piece more is written, and its writer waits."""
        self.successResultOf(self.write(b"1"))
        self.body.pauseProducing()
        waiting = self.write(b"2")
        self.assertNoResult(waiting)
        self.body.resumeProducing()
        self.successResultOf(waiting)
        self.body.end()
        self.assertEqual((self.request.written, self.request.finished), ([b"1", b"2"], True))
        self.assertEqual(self.request.headers[b"content-disposition"], b'attachment; filename="a.csv"')

    def test_client_that_goes(self) -> None:
        """Who waits goes on, and nothing more is written."""
        self.body.pauseProducing()
        waiting = self.write(b"1")
        self.request.lost.errback(ConnectionError())
        self.successResultOf(waiting)
        self.successResultOf(self.write(b"2"))
        self.body.end()
        self.assertEqual((self.request.written, self.request.finished), ([b"1"], False))
        self.assertTrue(self.body.gone)

    def test_client_that_reads_nothing(self) -> None:
        """It is disconnected after a minute, so that others get their turn."""
        self.body.pauseProducing()
        waiting = self.write(b"1")
        self.clock.advance(PATIENCE - 1)
        self.assertNoResult(waiting)
        self.clock.advance(1)
        self.successResultOf(waiting)
        self.assertEqual((self.request.aborted, self.body.gone), (True, True))
