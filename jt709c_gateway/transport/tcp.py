"""TCP transport for locks: passes frames to the handler, and writes its answers."""

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
from jt709c_gateway.transport.gathered_reads import GatheredReads
from jt709c_gateway.transport.interfaces import SHUTDOWN, ConnectionHandler, Handler, peer_name
from jt709c_gateway.transport.proxy_protocol import BadHeader, HeaderReader, Source
from jt709c_gateway.util.direct_write import write_at_once

#: Seconds of silence after which a `$` frame counts as complete though its last bytes may begin another.
DOUBT_TIMEOUT: Final = 0.5
#: Bits of an IPv6 address that identify the network; the subscriber chooses the rest freely.
_IPV6_NETWORK: Final = 64


def address_key(host: str) -> str:
    """Return the key for counting connections of a host: its IPv4 address, or its IPv6 /64 network."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host)
    except AddressValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_NETWORK), strict=False))


#: What Twisted's log lines call a connection.
_NAME: Final = "a lock's connection"


class DirectServer(tcp.Server):
    """A server transport that writes at once when nothing is queued, and is read together with others.

    An answer nearly always fits into the socket's buffer, so it costs one system call instead of three.
    """

    #: Bytes per read: dozens of frames, and not more than can be buffered while Redis is unreachable.
    bufferSize = 8192

    def __init__(self, reads: GatheredReads | None, *accepted: Any) -> None:
        """Make it as `tcp.Server` is made; `reads` reads it, or else the reactor."""
        self._reads = reads
        super().__init__(*accepted)
        # Two texts about each connection for logs, 250 bytes, in which nothing of ours looks.
        self.logstr = self.repstr = _NAME

    def startReading(self) -> None:
        """Read it from now on."""
        if self._reads is None:
            super().startReading()  # type: ignore[no-untyped-call]
        else:
            self._reads.add(self)

    def stopReading(self) -> None:
        """Don't read it for now."""
        if self._reads is None:
            super().stopReading()  # type: ignore[no-untyped-call]
        else:
            self._reads.remove(self)

    def hasten(self, urgent: bool) -> None:
        """Have it read at once when something comes, or again together with others."""
        if self._reads is not None and self.connected:
            self._reads.hasten(self, urgent)

    def connectionLost(self, reason: Failure) -> None:
        """End the connection."""
        if self._reads is not None:
            self._reads.hasten(self, False)
        super().connectionLost(reason)

    def write(self, data: bytes) -> None:
        """Write what the kernel accepts now; queue the rest in the usual way."""
        if rest := write_at_once(self, data):
            super().write(rest)  # type: ignore[no-untyped-call]


@implementer(IPushProducer)
class LockProtocol(Protocol):
    """One TCP connection, a `Link` for the handler.

    Reading pauses while a peer doesn't read its answers: when the transport's buffer is full, it pauses its
    producer, which is this protocol.
    """

    log = Logger()
    transport_name = "tcp"
    factory: "LockFactory"
    transport: Any

    def __init__(self, address: str | None) -> None:
        #: The key under which the connection is counted; None while unknown.
        self.address = address
        self.peer = address or ""
        self._framer = Framer()
        self._handler: ConnectionHandler | None = None
        #: Number of reasons to read at once what comes.
        self._urgent = 0
        self._held_by_handler = False
        self._held_by_transport = False
        self._doubt_timer: Any = None

    def connectionMade(self) -> None:
        """Set socket options and open the link at the handler."""
        peer = self.transport.getPeer()
        self.peer = peer_name(peer.host, peer.port) if hasattr(peer, "port") else str(peer)
        for name in ("setTcpNoDelay", "setTcpKeepAlive"):
            if (tune := getattr(self.transport, name, None)) is not None:
                tune(True)
        self.transport.registerProducer(self, True)
        self._handler = self.factory.handler.open(self)

    def dataReceived(self, data: bytes) -> None:
        """Split bytes into frames and pass them to the handler; an exception ends only this connection."""
        handler = self._handler
        if handler is None:
            return
        try:
            framer = self._framer
            self._pass_on(handler, framer.feed(data))
            if framer.in_doubt or self._doubt_timer is not None:
                self._wait_for_more()
        except Exception:
            self.log.failure("handling data from {peer} failed", peer=self.peer)
            self.close("error")

    def _pass_on(self, handler: ConnectionHandler, frames: list[Frame]) -> None:
        if self._framer.skipped:
            handler.skipped(self._framer.skipped)
            self._framer.skipped = 0
        if frames:
            handler.received(frames)

    def _wait_for_more(self) -> None:
        """Schedule the decision about a doubtful frame: it is complete if no bytes follow."""
        self._stop_waiting()
        if self._framer.in_doubt and self._handler is not None:
            self._doubt_timer = self.factory.clock.callLater(DOUBT_TIMEOUT, self._resolve_doubt)

    def _stop_waiting(self) -> None:
        timer, self._doubt_timer = self._doubt_timer, None
        if timer is not None and timer.active():
            timer.cancel()

    def _resolve_doubt(self) -> None:
        self._doubt_timer = None
        handler = self._handler
        if handler is None:
            return
        try:
            self._pass_on(handler, self._framer.settle())
        except Exception:
            self.log.failure("handling data from {peer} failed", peer=self.peer)
            self.close("error")

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Notify the handler, once."""
        self._stop_waiting()
        handler, self._handler = self._handler, None
        self.factory.left(self.address)
        if handler is not None:
            handler.closed("closed")

    def send(self, data: bytes) -> bool:
        """Write to the socket; return False when it is closed or closing."""
        if self._handler is None or not self.transport.connected or self.transport.disconnecting:
            return False
        self.transport.write(data)
        return True

    def close(self, reason: str) -> None:
        """Close at once, or, for a shutdown, after queued answers are written."""
        handler, self._handler = self._handler, None
        if handler is None:
            return
        self._stop_waiting()
        self.factory.handler.dropped(reason)
        self.transport.unregisterProducer()
        if reason == SHUTDOWN:
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()
        handler.closed(reason)

    def hasten(self, urgent: bool) -> None:
        """Count a reason to read at once what comes, or one that has gone."""
        self._urgent += 1 if urgent else -1
        if (hasten := getattr(self.transport, "hasten", None)) is not None:
            hasten(self._urgent > 0)

    def pause(self) -> None:
        """Stop reading on the handler's behalf."""
        self._held_by_handler = True
        self._update_reading()

    def resume(self) -> None:
        """Resume reading on the handler's behalf."""
        self._held_by_handler = False
        self._update_reading()

    def pauseProducing(self) -> None:
        """Pause reading, since the transport's buffer is full."""
        self._held_by_transport = True
        self._update_reading()

    def resumeProducing(self) -> None:
        """Resume reading, since the transport's buffer has drained."""
        self._held_by_transport = False
        self._update_reading()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    def _update_reading(self) -> None:
        if self._handler is None:
            return
        if self._held_by_handler or self._held_by_transport:
            self.transport.pauseProducing()
        else:
            self.transport.resumeProducing()


class ProxiedLockProtocol(LockProtocol):
    """One connection through a load balancer; its PROXY header names the original peer.

    It is counted under an address after the header. Health checks of a balancer send no header, or one
    without a peer, and close: they are ignored.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self._header: HeaderReader | None = HeaderReader()

    def dataReceived(self, data: bytes) -> None:
        """Read the header, then frames as from a lock."""
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
        """Set the original peer; return False when there are too many connections from its address."""
        host = source.host
        if host is None:
            host = str(getattr(self.transport.getPeer(), "host", ""))
        else:
            self.peer = peer_name(host, source.port)
        address = address_key(host)
        if self.factory.count_address(address):
            self.address = address
            return True
        self.close("max_per_address")
        return False

    def _refuse(self, raw: bytes) -> None:
        handler = self._handler
        if handler is not None:
            handler.received([Malformed("proxy_header", raw)])
        self.close("proxy_header")


def _reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class LockFactory(Factory):
    """Makes a LockProtocol for each connection, within limits in total and per address (IPv6: per /64)."""

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
        #: Maximum number of connections; further ones are closed.
        self.max_connections = max_connections
        self._max_per_address = max_per_address
        self._count = 0
        self._per_address: Counter[str] = Counter()

    def logPrefix(self) -> str:
        """Name the port in Twisted's line about its start."""
        return "TCP for locks"

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return self._count

    def buildProtocol(self, addr: IAddress | None) -> LockProtocol | None:  # type: ignore[override]
        """Return a protocol, or None, which closes the connection, when there are too many."""
        address = address_key(str(getattr(addr, "host", addr)))
        if not self._has_room():
            return None
        if not self.count_address(address):
            self.handler.dropped("max_per_address")
            return None
        return self._count_in(LockProtocol(address))

    def build_proxied(self) -> LockProtocol | None:
        """Make a protocol for a connection through a load balancer, before its header."""
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

    def count_address(self, address: str) -> bool:
        """Count a connection from this address; return False if the address has reached its limit."""
        if self._per_address[address] >= self._max_per_address:
            return False
        self._per_address[address] += 1
        return True

    def left(self, address: str | None) -> None:
        """Count an ended connection from this address."""
        self._count -= 1
        if address is None:
            return
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]


class ProxiedLockFactory(Factory):
    """Makes protocols for connections through a load balancer, within the limits of `locks`."""

    noisy = False

    def __init__(self, locks: LockFactory) -> None:
        self._locks = locks

    def logPrefix(self) -> str:
        """Name the port in Twisted's line about its start."""
        return "TCP for locks, behind a load balancer,"

    def buildProtocol(self, addr: IAddress | None) -> LockProtocol | None:  # type: ignore[override]
        """Return a protocol, or None, which closes the connection, when there are too many."""
        return self._locks.build_proxied()
