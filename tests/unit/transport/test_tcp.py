"""One TCP connection, on a transport made of a string, and on real sockets where the kernel matters."""

import socket
from typing import Any

from twisted.internet import defer, reactor, task
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.protocol.framing import BinaryFrame, DollarFrame, Frame, Malformed, SentenceFrame
from jt709c_gateway.transport.interfaces import SHUTDOWN
from jt709c_gateway.transport.listeners import ListenError, TcpService
from jt709c_gateway.transport.tcp import DOUBT_TIMEOUT, DirectServer, LockFactory, LockProtocol, address_key
from tests.support import free_port
from tests.vectors import binary, load

#: A master's report.
DOLLAR = next(vector["frame"] for vector in load("real.jsonl") if vector["frame"][:1] == b"$")


class Conversation:
    """Keeps what a transport tells of one link."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.frames: list[Frame] = []
        self.skips: list[int] = []
        self.reasons: list[str] = []
        self.error: Exception | None = None

    def received(self, frames: list[Frame]) -> None:
        self.frames += frames
        if self.error is not None:
            raise self.error

    def skipped(self, count: int) -> None:
        self.skips.append(count)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)


class Handler:
    """Makes connections and keeps them."""

    def __init__(self) -> None:
        self.connections: list[Conversation] = []
        self.drops: list[str] = []

    def open(self, link: Any) -> Conversation:
        self.connections.append(Conversation(link))
        return self.connections[-1]

    def dropped(self, reason: str) -> None:
        self.drops.append(reason)


class Transport(StringTransport):
    """A transport that notes how it is treated."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 50112))
        self.aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keep_alive = enabled

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


class TcpCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.handler: Any = Handler()
        self.clock = task.Clock()
        self.factory = LockFactory(self.handler, 5, 3, self.clock)

    def connect(self, host: str = "192.0.2.7") -> tuple[LockProtocol, Transport, Conversation]:
        protocol = self.factory.buildProtocol(IPv4Address("TCP", host, 50112))
        assert protocol is not None
        transport = Transport()
        protocol.makeConnection(transport)
        return protocol, transport, self.handler.connections[-1]


class ConnectionTests(TcpCase):
    def test_frames(self) -> None:
        """Frames are handed over as soon as they are whole, however the bytes come; the rest is counted."""
        protocol, _, connection = self.connect()
        data = binary(0x0002) + b"xx" + b"(794308010679,@JT)"
        for index in range(len(data)):
            protocol.dataReceived(data[index : index + 1])
        sound = [frame for frame in connection.frames if not isinstance(frame, Malformed)]
        self.assertEqual([type(frame) for frame in sound], [BinaryFrame, SentenceFrame])
        self.assertEqual(sum(connection.skips), 2)

    def test_frame_in_doubt(self) -> None:
        """A `$` frame whose last byte may begin another frame is handed over when nothing follows it."""
        raw = DOLLAR[:-1] + b"$"
        protocol, _, connection = self.connect()
        protocol.dataReceived(raw)
        self.clock.advance(DOUBT_TIMEOUT * 0.9)
        self.assertEqual(connection.frames, [])
        self.clock.advance(DOUBT_TIMEOUT * 0.2)
        self.assertEqual(connection.frames, [DollarFrame(raw)])
        protocol.dataReceived(raw)
        protocol.dataReceived(DOLLAR)
        self.assertEqual(connection.frames, [DollarFrame(raw), DollarFrame(raw), DollarFrame(DOLLAR)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_frame_in_doubt_at_the_end(self) -> None:
        """When the connection ends first, nothing is left to do."""
        for end in (lambda one: one.close("idle"), lambda one: one.connectionLost(Failure(ConnectionDone()))):
            protocol, _, connection = self.connect()
            protocol.dataReceived(DOLLAR[:-1] + b"$")
            self.assertEqual(len(self.clock.getDelayedCalls()), 1)
            end(protocol)
            self.assertEqual((self.clock.getDelayedCalls(), connection.frames), ([], []))

    def test_introduced(self) -> None:
        """The handler learns of a peer when it connects; the socket is tuned."""
        protocol, transport, connection = self.connect()
        self.assertIs(connection.link, protocol)
        self.assertEqual((protocol.transport_name, protocol.peer), ("tcp", "192.0.2.7:50112"))
        self.assertTrue(transport.no_delay and transport.keep_alive)

    def test_send(self) -> None:
        """Bytes are written while the connection is open, and not any more when it is closing or gone."""
        protocol, transport, _ = self.connect()
        self.assertTrue(protocol.send(b"answer"))
        self.assertEqual(transport.value(), b"answer")
        transport.disconnecting = True
        self.assertFalse(protocol.send(b"more"))
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertFalse(protocol.send(b"more"))
        self.assertEqual(transport.value(), b"answer")

    def test_lost(self) -> None:
        """The end of the connection is told once."""
        protocol, _, connection = self.connect()
        protocol.connectionLost(Failure(ConnectionDone()))
        protocol.close("idle")
        self.assertEqual((connection.reasons, self.handler.drops), (["closed"], []))
        self.assertEqual(self.factory.connections, 0)

    def test_closed_by_us(self) -> None:
        """Closing cuts the connection at once, is told and counted once, and nothing is read after it."""
        protocol, transport, connection = self.connect()
        protocol.close("idle")
        protocol.close("idle")
        protocol.dataReceived(binary(0x0002))
        protocol.connectionLost(Failure(ConnectionDone()))
        self.assertTrue(transport.aborted)
        self.assertEqual(connection.frames, [])
        self.assertEqual((connection.reasons, self.handler.drops), (["idle"], ["idle"]))
        self.assertEqual(self.factory.connections, 0)

    def test_shutdown(self) -> None:
        """At shutdown answers on their way still go out."""
        protocol, transport, connection = self.connect()
        protocol.close(SHUTDOWN)
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.aborted)
        self.assertEqual(connection.reasons, [SHUTDOWN])

    def test_error(self) -> None:
        """An error while frames are handled closes this connection and no other."""
        protocol, transport, connection = self.connect()
        other, other_transport, _ = self.connect()
        connection.error = RuntimeError("a bug of ours")
        protocol.dataReceived(binary(0x0002))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertTrue(transport.aborted)
        self.assertFalse(other_transport.disconnecting)
        self.assertTrue(other.send(b"x"))
        self.assertEqual(self.handler.drops, ["error"])

    def test_unix_peer(self) -> None:
        """A peer without host and port has a name all the same."""
        protocol = self.factory.buildProtocol(UNIXAddress(b"/run/x"))
        assert protocol is not None
        transport = StringTransport(peerAddress=UNIXAddress(b"/run/x"))
        protocol.makeConnection(transport)
        self.assertIn("/run/x", protocol.peer)


class PauseTests(TcpCase):
    def test_handler(self) -> None:
        """The handler stops and resumes reading."""
        protocol, transport, _ = self.connect()
        protocol.pause()
        self.assertEqual(transport.producerState, "paused")
        protocol.resume()
        self.assertEqual(transport.producerState, "producing")

    def test_peer_that_does_not_read(self) -> None:
        """While a peer doesn't take its answers, nothing is read from it."""
        protocol, transport, _ = self.connect()
        self.assertIs(transport.producer, protocol)
        self.assertTrue(transport.streaming)
        transport.producer.pauseProducing()
        self.assertEqual(transport.producerState, "paused")
        transport.producer.resumeProducing()
        self.assertEqual(transport.producerState, "producing")

    def test_both(self) -> None:
        """Reading goes on only when neither the handler nor the transport holds it."""
        protocol, transport, _ = self.connect()
        protocol.pause()
        transport.producer.pauseProducing()
        protocol.resume()
        self.assertEqual(transport.producerState, "paused")
        transport.producer.resumeProducing()
        self.assertEqual(transport.producerState, "producing")

    def test_after_the_end(self) -> None:
        """Pausing and resuming what is gone does nothing."""
        protocol, transport, _ = self.connect()
        protocol.close("idle")
        protocol.pause()
        protocol.resume()
        protocol.stopProducing()
        self.assertTrue(transport.aborted)


class CapTests(TcpCase):
    def test_per_address(self) -> None:
        """Only so many connections are taken from one address; one that ends makes room."""
        connections = [self.connect() for _ in range(3)]
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.7", 1)))
        self.assertEqual(self.handler.drops, ["max_per_address"])
        self.connect("192.0.2.8")
        connections[0][0].connectionLost(Failure(ConnectionDone()))
        self.connect()

    def test_ipv6(self) -> None:
        """IPv6 addresses count by their /64 network, which one subscriber has to itself."""

        def comes(host: str) -> LockProtocol | None:
            return self.factory.buildProtocol(IPv6Address("TCP", host, 1))

        for number in range(3):
            self.assertIsNotNone(comes(f"2001:db8:0:7:{number}::1"))
        self.assertIsNone(comes("2001:db8:0:7:ffff::1"))
        self.assertIsNotNone(comes("2001:db8:0:8::1"))
        self.factory.left("2001:db8:0:7::/64")
        self.assertIsNotNone(comes("2001:db8:0:7:ffff::1"))

    def test_names(self) -> None:
        """What an address is counted under."""
        for host, counted in (
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:0:7:1:2:3:4", "2001:db8:0:7::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("/run/locks:1", "/run/locks:1"),
        ):
            self.assertEqual(address_key(host), counted)

    def test_in_all(self) -> None:
        """Only so many connections are taken in all."""
        for number in range(5):
            self.connect(f"192.0.2.{number}")
        self.assertIsNone(self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.9", 1)))
        self.assertEqual(self.handler.drops, ["max_connections"])
        self.assertEqual(self.factory.connections, 5)


class Client(Protocol):
    """Reads only when told to."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: defer.Deferred[None] = defer.Deferred()

    def connectionMade(self) -> None:
        self.transport.pauseProducing()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class RealSocketTests(TestCase):
    timeout = 20

    def setUp(self) -> None:
        self.handler: Any = Handler()

    async def listen(self) -> TcpService:
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        service = TcpService(endpoint, LockFactory(self.handler, 5, 5), "tcp:0")
        service.startService()
        self.addCleanup(service.stopService)
        return service

    async def until(self, predicate: Any) -> None:
        for _ in range(1000):
            if predicate():
                return
            await task.deferLater(reactor, 0.01, lambda: None)
        raise AssertionError("it did not happen")

    async def connect(self, service: TcpService) -> Client:
        endpoint = HostnameEndpoint(reactor, "127.0.0.1", service.port.getHost().port)
        client = await connectProtocol(endpoint, Client())

        async def close() -> None:
            client.transport.abortConnection()
            await client.lost

        self.addCleanup(lambda: defer.Deferred.fromCoroutine(close()))
        await self.until(lambda: self.handler.connections)
        return client

    async def test_back_pressure(self) -> None:
        """A peer that never reads is not read from once its answers fill the buffers; later all arrive."""
        service = await self.listen()
        client = await self.connect(service)
        link = self.handler.connections[0].link
        self.assertIsInstance(link.transport, DirectServer)
        sent = b""
        for number in range(400):
            block = number.to_bytes(2, "big") * 10_000
            link.send(block)
            sent += block
        self.assertTrue(link._held_by_transport)
        await self.until(lambda: link.transport not in reactor.getReaders())
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await self.until(lambda: len(client.data) == len(sent))
        self.assertEqual(client.data, sent)
        await self.until(lambda: link.transport in reactor.getReaders())

    async def test_shutdown_lets_answers_out(self) -> None:
        """What had been written before a shutdown arrives."""
        service = await self.listen()
        client = await self.connect(service)
        link = self.handler.connections[0].link
        data = bytes(3_000_000)
        link.send(data)
        link.close(SHUTDOWN)
        client.transport.resumeProducing()  # type: ignore[union-attr]
        await client.lost
        client.lost = defer.succeed(None)
        self.assertEqual(client.data, data)

    async def test_write_to_a_dead_peer(self) -> None:
        """Writing to a connection that the peer has reset ends it, and harms nobody."""
        service = await self.listen()
        client = await self.connect(service)
        connection = self.handler.connections[0]
        connection.link.pause()
        client.transport.abortConnection()  # type: ignore[union-attr]
        for _ in range(100):
            connection.link.send(b"x" * 100_000)
            await task.deferLater(reactor, 0.01, lambda: None)
            if connection.reasons:
                break
        self.assertEqual(connection.reasons, ["closed"])
        self.assertFalse(connection.link.send(b"x"))

    async def test_taken_port(self) -> None:
        """A port that is taken is an error at once, which names the endpoint."""
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            holder.listen()
            port = holder.getsockname()[1]
            description = f"tcp:{port}:interface=127.0.0.1"
            service = TcpService(serverFromString(reactor, description), Factory(), description)
            error = self.assertRaises(ListenError, service.privilegedStartService)
        self.assertIn(description, str(error))
        await service.stopService()

    async def test_started_once(self) -> None:
        """Binding early, for a privileged port, and starting later binds once; stopping frees the port."""
        port = free_port()
        endpoint = serverFromString(reactor, f"tcp:{port}:interface=127.0.0.1")
        service = TcpService(endpoint, Factory(), "x")
        service.privilegedStartService()
        service.startService()
        self.assertEqual(service.port.getHost().port, port)
        await service.stopService()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
