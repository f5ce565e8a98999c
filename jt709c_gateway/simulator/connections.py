"""A lock's way to the gateway: one TCP connection or one UDP socket, as its owner sees it."""

from typing import Any, Final, Protocol

from attrs import define
from twisted.internet import defer
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, DatagramProtocol
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.python.failure import Failure

#: Seconds an attempt to connect may take.
CONNECT_TIMEOUT: Final = 15


@define(frozen=True)
class Target:
    """Where the gateway listens: `transport` is `tcp` or `udp`, `host` an address (UDP) or a name."""

    transport: str
    host: str
    port: int


class LinkUser(Protocol):
    """Who has a link, and is told by it."""

    def link_up(self) -> None:
        """The link is there."""

    def received(self, data: bytes, *, datagram: bool = False) -> None:
        """Bytes from the gateway."""

    def link_down(self) -> None:
        """The link that was there is gone."""

    def link_failed(self) -> None:
        """An attempt came to nothing."""

    def link_refused(self) -> None:
        """A datagram found nobody; the socket stays open."""


class Link(Protocol):
    """The way from a lock to the gateway."""

    def open(self) -> None:
        """Begin to connect; the client's `link_up` or `link_failed` tells how it went."""

    def write(self, frames: list[bytes]) -> None:
        """Send frames, in order."""

    def close(self) -> None:
        """Hang up, or give up connecting; `link_down` or `link_failed` follows."""

    def abort(self) -> None:
        """Hang up without waiting for what is still to be sent."""


class _TcpProtocol(StreamProtocol):
    def __init__(self, link: "TcpLink") -> None:
        self._link = link

    def connectionMade(self) -> None:
        self._link.made(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._link.client.received(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._link.lost()


class TcpLink(ClientFactory):
    """A connection, and the factory of its protocol: one object per lock, as there may be thousands."""

    noisy = False

    def __init__(self, client: LinkUser, reactor: Any, target: Target) -> None:
        self.client = client
        self._reactor = reactor
        self._target = target
        self._connector: Any = None
        self._transport: Any = None

    def open(self) -> None:
        """See `Link`."""
        self._connector = self._reactor.connectTCP(
            self._target.host, self._target.port, self, CONNECT_TIMEOUT
        )

    def buildProtocol(self, addr: IAddress | None) -> _TcpProtocol:
        """The protocol of the one connection."""
        return _TcpProtocol(self)

    def made(self, transport: Any) -> None:
        """The connection is there."""
        self._transport = transport
        transport.setTcpNoDelay(True)
        self.client.link_up()

    def lost(self) -> None:
        """The connection is gone."""
        self._transport = None
        self.client.link_down()

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """There was none."""
        self.client.link_failed()

    def write(self, frames: list[bytes]) -> None:
        """See `Link`."""
        if self._transport is not None:
            self._transport.write(b"".join(frames))

    def close(self) -> None:
        """See `Link`."""
        if self._transport is not None:
            self._transport.loseConnection()
        else:
            self._connector.stopConnecting()

    def abort(self) -> None:
        """See `Link`."""
        if self._transport is not None:
            self._transport.abortConnection()


class UdpLink(DatagramProtocol):
    """A socket of its own, since the gateway knows a lock on UDP by its address."""

    noisy = False

    def __init__(self, client: LinkUser, reactor: Any, target: Target) -> None:
        self.client = client
        self._reactor = reactor
        self._target = target
        self._port: Any = None

    def open(self) -> None:
        """See `Link`."""
        interface = "::" if ":" in self._target.host else ""
        try:
            self._port = self._reactor.listenUDP(0, self, interface=interface)
        except CannotListenError:
            self.client.link_failed()
            return
        # Connected, so that nobody else's datagrams are taken for the gateway's.
        self._port.connect(self._target.host, self._target.port)
        self.client.link_up()

    def stopProtocol(self) -> None:
        """The socket is closed: by us, or by the reactor, for which an answer of ICMP is an end."""
        if self._port is not None:
            self._port = None
            self.client.link_refused()
            self.client.link_down()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Bytes from the gateway."""
        self.client.received(datagram, datagram=True)

    def connectionRefused(self) -> None:
        """An earlier datagram found nobody."""
        self.client.link_refused()

    def write(self, frames: list[bytes]) -> None:
        """See `Link`."""
        if self._port is not None:
            for frame in frames:
                self._port.write(frame)

    def close(self) -> None:
        """See `Link`."""
        port, self._port = self._port, None
        if port is not None:
            defer.maybeDeferred(port.stopListening).addBoth(lambda _: self.client.link_down())

    def abort(self) -> None:
        """See `Link`."""
        self.close()
