"""Locks over TCP: bytes to frames to the handler, answers back."""

from collections import Counter
from ipaddress import AddressValueError, IPv6Address, IPv6Network
from typing import Any, Final

from twisted.internet import tcp
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from jt709c_gateway.protocol.framing import Frame, Framer, Malformed
from jt709c_gateway.transport.interfaces import SHUTDOWN, ConnectionHandler, Handler, peer_name
from jt709c_gateway.transport.proxy_protocol import BadHeader, HeaderReader, Source
from jt709c_gateway.util.direct_write import write_at_once

#: Seconds of silence after which a `$` frame counts as whole whose last bytes may begin another one.
SETTLING: Final = 0.5
#: Bits of an IPv6 address that its network chooses; the rest the subscriber does, anew whenever it likes.
_IPV6_NETWORK: Final = 64


def limited_as(host: str) -> str:
    """What connections from a host are counted under: its address, or the /64 network of an IPv6 address."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_NETWORK), strict=False))


class DirectServer(tcp.Server):
    """A server transport that writes at once when nothing is queued.

    An answer nearly always fits into the socket's buffer: so it costs one system call instead of three.
    """

    #: Bytes that are read at once: dozens of frames, and no more than has to be held back when Redis is away.
    bufferSize = 8192

    def write(self, data: bytes) -> None:
        """Send what the kernel takes now; the rest goes the usual way."""
        if rest := write_at_once(self, data):
            super().write(rest)  # type: ignore[no-untyped-call]


@implementer(IPushProducer)
class LockProtocol(Protocol):
    """One TCP connection. A `Link` for the handler.

    A peer that doesn't read its answers is not read from either: once the transport's buffer is full, it
    pauses us, its producer, and we pause reading.
    """

    log = Logger()
    transport_name = "tcp"
    factory: "LockFactory"
    transport: Any

    def __init__(self, address: str | None) -> None:
        #: What the connection is counted under; None while that isn't known.
        self.address = address
        self.peer = address or ""
        self._framer = Framer()
        self._conversation: ConnectionHandler | None = None
        self._held_by_handler = False
        self._held_by_transport = False
        self._settling: Any = None

    def connectionMade(self) -> None:
        """Tune the socket and introduce the link to the handler."""
        peer = self.transport.getPeer()
        self.peer = peer_name(peer.host, peer.port) if hasattr(peer, "port") else str(peer)
        for name in ("setTcpNoDelay", "setTcpKeepAlive"):
            if (tune := getattr(self.transport, name, None)) is not None:
                tune(True)
        self.transport.registerProducer(self, True)
        self._conversation = self.factory.handler.open(self)

    def dataReceived(self, data: bytes) -> None:
        """Cut frames and pass them on; an error of ours ends this connection and no other."""
        connection = self._conversation
        if connection is None:
            return
        try:
            framer = self._framer
            self._pass_on(connection, framer.feed(data))
            if framer.in_doubt or self._settling is not None:
                self._wait_for_more()
        except Exception:
            self.log.failure("handling what {peer} sent failed", peer=self.peer)
            self.close("error")

    def _pass_on(self, connection: ConnectionHandler, frames: list[Frame]) -> None:
        if self._framer.skipped:
            connection.skipped(self._framer.skipped)
            self._framer.skipped = 0
        if frames:
            connection.received(frames)

    def _wait_for_more(self) -> None:
        """Only what follows a frame in doubt can tell whether it is whole; or that nothing follows."""
        self._stop_waiting()
        if self._framer.in_doubt and self._conversation is not None:
            self._settling = self.factory.clock.callLater(SETTLING, self._settle)

    def _stop_waiting(self) -> None:
        settling, self._settling = self._settling, None
        if settling is not None and settling.active():
            settling.cancel()

    def _settle(self) -> None:
        self._settling = None
        connection = self._conversation
        if connection is None:
            return
        try:
            self._pass_on(connection, self._framer.settle())
        except Exception:
            self.log.failure("handling what {peer} sent failed", peer=self.peer)
            self.close("error")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Say goodbye to the handler, once."""
        self._stop_waiting()
        connection, self._conversation = self._conversation, None
        self.factory.left(self.address)
        if connection is not None:
            connection.closed("closed")

    def send(self, data: bytes) -> bool:
        """Write to the socket; False when it is closed or closing."""
        if self._conversation is None or not self.transport.connected or self.transport.disconnecting:
            return False
        self.transport.write(data)
        return True

    def close(self, reason: str) -> None:
        """Close at once, but for a shutdown, in which answers on their way still go out."""
        connection, self._conversation = self._conversation, None
        if connection is None:
            return
        self._stop_waiting()
        self.factory.handler.dropped(reason)
        self.transport.unregisterProducer()
        if reason == SHUTDOWN:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
        connection.closed(reason)

    def pause(self) -> None:
        """Stop reading on the handler's behalf."""
        self._held_by_handler = True
        self._update_reading()

    def resume(self) -> None:
        """Read on, as far as the handler is concerned."""
        self._held_by_handler = False
        self._update_reading()

    def pauseProducing(self) -> None:
        """The transport's buffer is full."""
        self._held_by_transport = True
        self._update_reading()

    def resumeProducing(self) -> None:
        """The transport's buffer has drained."""
        self._held_by_transport = False
        self._update_reading()

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    def _update_reading(self) -> None:
        if self._conversation is None:
            return
        if self._held_by_handler or self._held_by_transport:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()


class ProxiedLockProtocol(LockProtocol):
    """One connection by way of a load balancer: a PROXY header says at its start from whom it comes.

    Only then is it counted under an address. A balancer that looks whether somebody listens sends no header,
    or one that names nobody, and closes: nothing is made of that.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._header: HeaderReader | None = HeaderReader()

    def dataReceived(self, data: bytes) -> None:
        """The header first, and then as from a lock."""
        if self._header is not None:
            try:
                found = self._header.feed(data)
            except BadHeader as error:
                self._refuse(error.raw)
                return
            if found is None:
                return
            self._header = None
            source, data = found
            if not self._comes_from(source) or not data:
                return
        super().dataReceived(data)

    def _comes_from(self, source: Source) -> bool:
        """Take in whom the balancer speaks for; False when there are too many connections from there."""
        host = source.host
        if host is None:
            host = str(getattr(self.transport.getPeer(), "host", ""))
        else:
            self.peer = peer_name(host, source.port)
        address = limited_as(host)
        if self.factory.may_come_from(address):
            self.address = address
            return True
        self.close("max_per_address")
        return False

    def _refuse(self, raw: bytes) -> None:
        connection = self._conversation
        if connection is not None:
            connection.received([Malformed("proxy_header", raw)])
        self.close("proxy_header")


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class LockFactory(Factory):
    """Makes a LockProtocol for each connection, within limits in all and per address (IPv6: per /64)."""

    noisy = False

    def __init__(
        self,
        handler: Handler,
        max_connections: int,
        max_per_address: int,
        clock: Any = None,
    ) -> None:
        self.handler = handler
        self.clock = clock or _reactor()
        #: Beyond so many a new connection is closed.
        self.max_connections = max_connections
        self._max_per_address = max_per_address
        self._count = 0
        self._per_address: Counter[str] = Counter()

    @property
    def connections(self) -> int:
        """Open connections."""
        return self._count

    def buildProtocol(self, addr: IAddress | None) -> LockProtocol | None:  # type: ignore[override]
        """None, which closes the connection, when there are too many."""
        address = limited_as(str(getattr(addr, "host", addr)))
        if not self._has_room():
            return None
        if not self.may_come_from(address):
            self.handler.dropped("max_per_address")
            return None
        return self._count_in(LockProtocol(address))

    def build_proxied(self) -> LockProtocol | None:
        """The same by way of a load balancer, who has yet to say for which address."""
        return self._count_in(ProxiedLockProtocol()) if self._has_room() else None

    def _has_room(self) -> bool:
        if self._count < self.max_connections:
            return True
        self.handler.dropped("max_connections")
        return False

    def _count_in(self, protocol: LockProtocol) -> LockProtocol:
        self._count += 1
        protocol.factory = self
        return protocol

    def may_come_from(self, address: str) -> bool:
        """Count one more connection from this address; False when it has as many as it may."""
        if self._per_address[address] >= self._max_per_address:
            return False
        self._per_address[address] += 1
        return True

    def left(self, address: str | None) -> None:
        """A connection from this address is gone."""
        self._count -= 1
        if address is None:
            return
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]


class ProxiedLockFactory(Factory):
    """Connections by way of a load balancer, under the limits that `locks` has for all."""

    noisy = False

    def __init__(self, locks: LockFactory) -> None:
        self._locks = locks

    def buildProtocol(self, addr: IAddress | None) -> LockProtocol | None:  # type: ignore[override]
        """None, which closes the connection, when there are too many."""
        return self._locks.build_proxied()
