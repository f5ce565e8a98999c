"""--commit-window: which sockets are read together and when, and which at once."""

import socket
from typing import Any

from twisted.internet import error, reactor, task
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from jt709c_gateway.transport.gathered_reads import ENOUGH, GatheredReads
from jt709c_gateway.transport.listeners import TcpService, UdpService
from jt709c_gateway.transport.tcp import LockFactory
from jt709c_gateway.transport.udp import LockDatagrams
from tests.unit.transport.test_tcp import Handler

WINDOW = 0.01


class FakeReactor(task.Clock):
    """A clock that knows what is to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)


class Batches:
    """Counts what is read for one batch; `read` is the numbers of the transports, batch by batch."""

    def __init__(self) -> None:
        self.read: list[list[int]] = []
        self.batching = False
        self.submitted = 0
        self._reading: list[int] = []

    def note(self, number: int) -> None:
        """A transport was read."""
        if self.batching:
            self._reading.append(number)
            self.submitted += 1

    def send_batch(self) -> None:
        self.batching = False
        if self._reading:
            self.read.append(self._reading)
            self._reading = []


class Transport:
    """One end of a pair of sockets; `say` makes it readable."""

    def __init__(self, number: int, batches: Batches) -> None:
        self.number = number
        self.batches = batches
        self.socket, self.peer = socket.socketpair()
        self.lost: list[str] = []
        self.result: Any = None

    def fileno(self) -> int:
        return self.socket.fileno()

    def say(self) -> None:
        self.peer.send(b"x")

    def doRead(self) -> Any:
        self.socket.recv(100)
        self.batches.note(self.number)
        if isinstance(self.result, ZeroDivisionError):
            raise self.result
        return self.result

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason.type.__name__)

    def readConnectionLost(self, reason: Failure) -> None:
        self.lost.append(f"read {reason.type.__name__}")


class GatheredReadsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = FakeReactor()
        self.batches = Batches()
        self.reads = self.make(WINDOW)

    def make(self, window: float, count: int = 40) -> GatheredReads:
        reads = GatheredReads(self.reactor, window, self.batches)
        self.transports = [Transport(number, self.batches) for number in range(count)]
        for one in self.transports:
            reads.add(one)
            self.addCleanup(one.socket.close)
            self.addCleanup(one.peer.close)
        return reads

    def come(self, *numbers: int) -> None:
        """Bytes come at these transports, and the reactor reads what it is to read."""
        for number in numbers:
            self.transports[number].say()
        self.turn()

    def turn(self) -> None:
        if self.reads in self.reactor.readers:
            self.reads.doRead()

    def hurry(self) -> None:
        """Frames come so fast that it pays to wait for company."""
        self.come(*range(20))
        self.assertNotIn(self.reads, self.reactor.readers)
        self.reactor.advance(WINDOW)
        self.batches.read.clear()

    def test_interface(self) -> None:
        self.assertTrue(verifyObject(IReadDescriptor, self.reads))

    def test_few(self) -> None:
        """Frames that come now and then are read at once: no company is to be expected."""
        for number in range(5):
            self.reactor.advance(1)
            self.come(number)
        self.assertEqual(self.batches.read, [[0], [1], [2], [3], [4]])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_together(self) -> None:
        """Where they come often, what comes within the window is read in one turn, at its end."""
        self.hurry()
        self.come(1)
        self.assertEqual(self.batches.read, [[1]])
        self.come(2, 3)
        self.reactor.advance(WINDOW / 3)
        self.come(4)
        self.assertEqual(self.batches.read, [[1]])
        self.reactor.advance(WINDOW)
        self.assertEqual(self.batches.read[1:], [[2, 3, 4]])

    def test_no_longer_than_the_window(self) -> None:
        """Nothing waits for longer, however few have come."""
        self.hurry()
        self.come(1)
        self.come(2)
        self.reactor.advance(WINDOW * 0.99)
        self.assertEqual(self.batches.read, [[1]])
        self.reactor.advance(WINDOW * 0.01)
        self.assertEqual(self.batches.read, [[1], [2]])

    def test_enough(self) -> None:
        """Pauses are the shorter the faster frames come: a call's worth of records doesn't wait for more."""
        for _ in range(200):
            self.come(*range(40))
            self.reactor.advance(0.002)
        self.batches.read.clear()
        self.come(1)
        self.reactor.advance(0.002)
        self.assertLess(ENOUGH / 20_000, 0.002)
        self.assertEqual(self.batches.read, [[1]])

    def test_silence(self) -> None:
        """A pause in which nothing came is the last; the sockets are watched again."""
        self.hurry()
        self.assertIn(self.reads, self.reactor.readers)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_no_window(self) -> None:
        """--commit-window 0: there is no pause."""
        self.reads = self.make(0.0)
        for _ in range(20):
            self.come(*range(20))
            self.assertIn(self.reads, self.reactor.readers)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_many(self) -> None:
        """The reactor gets its turn after two hundred sockets, and no pause delays the others."""
        self.reads = self.make(WINDOW, 250)
        self.come(*range(250))
        self.turn()
        self.assertEqual([len(read) for read in self.batches.read], [200, 50])
        self.assertEqual(sorted(number for read in self.batches.read for number in read), list(range(250)))

    def test_removed(self) -> None:
        """A transport that is not to be read isn't, until it is added again."""
        self.reads.remove(self.transports[1])
        self.come(1, 2)
        self.reads.add(self.transports[1])
        self.reactor.advance(1)
        self.turn()
        self.assertEqual(self.batches.read, [[2], [1]])

    def test_removed_by_another(self) -> None:
        """One that is removed in the same turn, by the handler of another, is not read in it."""
        first, second = self.transports[:2]
        plain = first.doRead

        def read() -> None:
            plain()
            self.reads.remove(second)

        first.doRead = read  # type: ignore[method-assign]
        self.come(0, 1)
        self.assertEqual(self.batches.read, [[0]])

    def test_last_removed(self) -> None:
        """Without transports nothing is watched and no timer is left, and it starts again with the next."""
        self.hurry()
        self.come(1)
        self.assertEqual(len(self.reactor.getDelayedCalls()), 1)
        for one in self.transports:
            self.reads.remove(one)
        self.assertEqual((self.reactor.getDelayedCalls(), self.reactor.readers), ([], set()))
        self.assertEqual(self.reads.fileno(), -1)
        self.reads.add(self.transports[3])
        self.batches.read.clear()
        self.come(3)
        self.assertEqual(self.batches.read, [[3]])

    def test_lost(self) -> None:
        """A connection ends as the reactor would end it, and the others are read all the same."""
        self.transports[0].result = error.ConnectionDone()
        self.transports[1].result = error.ConnectionLost()
        self.transports[2].result = ZeroDivisionError()
        self.come(0, 1, 2, 3)
        self.assertEqual(
            [one.lost for one in self.transports[:3]],
            [["read ConnectionDone"], ["ConnectionLost"], ["ZeroDivisionError"]],
        )
        self.assertEqual(self.batches.read, [[0, 1, 2, 3]])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.come(0, 1, 2, 3)
        self.reactor.advance(WINDOW)
        self.assertEqual(self.batches.read[1], [3])

    def test_hastened(self) -> None:
        """An urgent transport is read by the reactor itself, also in a pause, and later with the others."""
        self.hurry()
        urgent = self.transports[5]
        self.reads.hasten(urgent, True)
        self.reads.hasten(urgent, True)
        self.assertIn(urgent, self.reactor.readers)
        self.come(1)
        self.come(5)
        self.reactor.advance(WINDOW)
        self.assertEqual(self.batches.read[0], [1])
        self.assertNotIn([5], self.batches.read)
        self.reads.hasten(urgent, False)
        self.reads.hasten(urgent, False)
        self.assertNotIn(urgent, self.reactor.readers)
        self.reactor.advance(WINDOW)
        self.turn()
        self.assertEqual(self.batches.read[-1], [5])

    def test_hastened_and_paused(self) -> None:
        """A transport that is not to be read is not read for being urgent, nor for being so no longer."""
        one = self.transports[5]
        self.reads.remove(one)
        self.reads.hasten(one, True)
        self.assertNotIn(one, self.reactor.readers)
        self.reads.add(one)
        self.assertIn(one, self.reactor.readers)
        self.reads.remove(one)
        self.reads.hasten(one, False)
        self.come(5)
        self.assertEqual(self.batches.read, [])


class ServiceTests(TestCase):
    """Real ports."""

    timeout = 20

    def setUp(self) -> None:
        self.handler: Any = Handler()
        self.reads = GatheredReads(reactor, WINDOW)

    async def until(self, predicate: Any) -> None:
        for _ in range(1000):
            if predicate():
                return
            await task.deferLater(reactor, 0.01, lambda: None)
        raise AssertionError("it did not happen")

    def peer(self, kind: socket.SocketKind, port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, kind)
        self.addCleanup(made.close)
        made.connect(("127.0.0.1", port))
        return made

    async def test_tcp(self) -> None:
        """Connections are read, also urgent ones, and their end is noticed; nothing of them is left."""
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        service = TcpService(endpoint, LockFactory(self.handler, 5, 5), "tcp:0", self.reads)
        service.startService()
        self.addCleanup(service.stopService)
        port = service.port.getHost().port
        peers = [self.peer(socket.SOCK_STREAM, port) for _ in range(2)]
        await self.until(lambda: len(self.handler.connections) == 2)
        connections = self.handler.connections
        connections[0].link.hasten(True)
        for _ in range(3):
            for one in connections:
                one.skips.clear()
            for peer in peers:
                peer.send(b"noise")
            await self.until(lambda: all(one.skips for one in connections))
        for peer in peers:
            peer.close()
        await self.until(lambda: all(one.reasons for one in connections))
        connections[0].link.hasten(False)
        self.assertEqual(self.reads.fileno(), -1)

    async def test_udp(self) -> None:
        """Datagrams are read, also while one of their senders is urgent."""
        service = UdpService(reactor, 0, "127.0.0.1", LockDatagrams(self.handler, 5), reads=self.reads)
        service.startService()
        port = service.port
        peer = self.peer(socket.SOCK_DGRAM, port.getHost().port)
        peer.send(b"noise")
        await self.until(lambda: self.handler.connections)
        (connection,) = self.handler.connections
        for urgent in (True, False):
            connection.skips.clear()
            connection.link.hasten(urgent)
            self.assertEqual(port in reactor.getReaders(), urgent)
            peer.send(b"noise")
            await self.until(lambda: connection.skips)
        await service.stopService()
        self.assertEqual(self.reads.fileno(), -1)
