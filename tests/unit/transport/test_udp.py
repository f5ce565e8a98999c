"""Locks over UDP."""

from typing import Any

from twisted.internet import defer, reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.protocol.framing import BinaryFrame, Malformed
from jt709c_gateway.transport.interfaces import SHUTDOWN
from jt709c_gateway.transport.listeners import ListenError, UdpService
from jt709c_gateway.transport.udp import LockDatagrams
from tests.unit.transport.test_tcp import Handler
from tests.vectors import binary

HERE, THERE = ("192.0.2.7", 50112), ("192.0.2.8", 50112)


class Transport:
    """Keeps datagrams."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, Any]] = []
        self.error: Exception | None = None

    def write(self, data: bytes, address: Any) -> None:
        if self.error is not None:
            raise self.error
        self.written.append((data, address))


class DatagramTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handler: Any = Handler()
        self.port = LockDatagrams(self.handler, 3)
        self.port.transport = Transport()

    def link(self, index: int = 0) -> Any:
        return self.handler.connections[index].link

    def test_frames(self) -> None:
        """A datagram's frames go to the connection of its address; the next one to the same."""
        self.port.datagramReceived(binary(0x0002) + binary(0x0002, serial=2), HERE)
        self.port.datagramReceived(binary(0x0002, serial=3), HERE)
        self.port.datagramReceived(binary(0x0002, serial=4), THERE)
        self.assertEqual([len(one.frames) for one in self.handler.connections], [3, 1])
        self.assertEqual((self.link().transport_name, self.link().peer), ("udp", "192.0.2.7:50112"))

    def test_ipv6(self) -> None:
        """An IPv6 peer is written so that its port can be told."""
        self.port.datagramReceived(binary(0x0002), ("2001:db8::7", 50112, 0, 0))
        self.assertEqual(self.link().peer, "[2001:db8::7]:50112")

    def test_cut_datagram(self) -> None:
        """What is left over at the end of a datagram is malformed, and not the next one's beginning."""
        self.port.datagramReceived(binary(0x0002)[:10], HERE)
        self.port.datagramReceived(binary(0x0002)[10:], HERE)
        self.port.datagramReceived(binary(0x0002), HERE)
        frames = self.handler.connections[0].frames
        self.assertIsInstance(frames[0], Malformed)
        self.assertEqual(sum(isinstance(frame, BinaryFrame) for frame in frames), 1)
        self.assertTrue(sum(self.handler.connections[0].skips))

    def test_empty(self) -> None:
        """An empty datagram is nothing."""
        self.port.datagramReceived(b"", HERE)
        self.assertEqual(self.handler.connections[0].frames, [])

    def test_send(self) -> None:
        """Answers go to the address; a port that is closed or a kernel that refuses says so."""
        self.port.datagramReceived(binary(0x0002), HERE)
        self.assertTrue(self.link().send(b"answer"))
        self.assertEqual(self.port.transport.written, [(b"answer", HERE)])
        self.port.transport.error = OSError("no buffer space")
        self.assertFalse(self.link().send(b"answer"))
        self.port.transport = None
        self.assertFalse(self.link().send(b"answer"))

    def test_close(self) -> None:
        """Closing forgets the address, told and counted once; a datagram from it begins anew."""
        self.port.datagramReceived(binary(0x0002), HERE)
        self.link().close("idle")
        self.link().close("idle")
        self.assertEqual(self.handler.drops, ["idle"])
        self.assertEqual(self.handler.connections[0].reasons, ["idle"])
        self.port.datagramReceived(binary(0x0002), HERE)
        self.assertEqual(len(self.handler.connections), 2)
        self.link(0).close("late")
        self.assertEqual(len(self.port._links), 1)

    def test_max_addresses(self) -> None:
        """Only so many addresses are remembered; datagrams of others are let go and counted."""
        for number in range(5):
            self.port.datagramReceived(binary(0x0002), ("192.0.2.7", number))
        self.assertEqual(len(self.handler.connections), 3)
        self.assertEqual(self.handler.drops, ["max_addresses"] * 2)

    def test_error(self) -> None:
        """An error while a datagram is handled forgets this address and no other."""
        self.port.datagramReceived(binary(0x0002), HERE)
        self.port.datagramReceived(binary(0x0002), THERE)
        self.handler.connections[0].error = RuntimeError("a bug of ours")
        self.port.datagramReceived(binary(0x0002), HERE)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(self.handler.connections[0].reasons, ["error"])
        self.assertEqual(self.handler.connections[1].reasons, [])

    def test_pause(self) -> None:
        """Datagrams can't be held back."""
        self.port.datagramReceived(binary(0x0002), HERE)
        self.link().pause()
        self.link().resume()

    def test_stopped(self) -> None:
        """When the port is closed, every connection ends."""
        self.port.datagramReceived(binary(0x0002), HERE)
        self.port.datagramReceived(binary(0x0002), THERE)
        self.port.stopProtocol()
        self.assertEqual([one.reasons for one in self.handler.connections], [[SHUTDOWN], [SHUTDOWN]])


class UdpServiceTests(TestCase):
    async def test_taken_port(self) -> None:
        """A port that is taken is an error at once, which names it; stopping frees it."""
        first = UdpService(reactor, 0, "127.0.0.1", LockDatagrams(Handler(), 1))  # type: ignore[arg-type]
        first.privilegedStartService()
        first.startService()
        number = first.port.getHost().port
        second = UdpService(reactor, number, "127.0.0.1", LockDatagrams(Handler(), 1))  # type: ignore[arg-type]
        error = self.assertRaises(ListenError, second.startService)
        self.assertIn(f"udp 127.0.0.1:{number}", str(error))
        await defer.maybeDeferred(second.stopService)
        await first.stopService()
        third = UdpService(reactor, number, "127.0.0.1", LockDatagrams(Handler(), 1))  # type: ignore[arg-type]
        third.startService()
        await third.stopService()
