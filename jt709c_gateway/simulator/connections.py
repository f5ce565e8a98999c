"""The link of a lock to the gateway: a TCP connection or a UDP socket behind one interface."""

from typing import Any, Final, Protocol

from attrs import define
from twisted.internet import defer
from twisted.internet.error import CannotListenError, ConnectionRefusedError, NoRouteError, TimeoutError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, DatagramProtocol
from twisted.internet.protocol import Protocol as StreamProtocol
from twisted.python.failure import Failure

#: Timeout of an attempt to connect, in seconds.
CONNECT_TIMEOUT: Final = 15
#: Reasons of failed attempts, by class of the error.
_REASONS: Final = {
    ConnectionRefusedError: "connection refused",
    TimeoutError: f"no answer within {CONNECT_TIMEOUT} s",
    NoRouteError: "no route to this address",
}


@define(frozen=True)
class Target:
    """The address of the gateway: `transport` is `tcp` or `udp`, `host` an address (UDP) or a name."""

    transport: str
    host: str
    port: int


class LinkUser(Protocol):
    """The owner of a link, which it notifies."""

    def link_up(self) -> None:
        """The link is open."""

    def received(self, data: bytes, *, datagram: bool = False) -> None:
        """Bytes from the gateway."""

    def link_down(self) -> None:
        """The open link was closed."""

    def link_failed(self, reason: str) -> None:
        """An attempt to connect failed; `reason` is for people."""

    def link_refused(self) -> None:
        """A datagram was rejected; the socket stays open."""


class Link(Protocol):
    """A link from a lock to the gateway."""

    def open(self) -> None:
        """Connect; the client's `link_up` or `link_failed` is called."""

    def write(self, frames: list[bytes]) -> None:
        """Send frames, in order."""

    def close(self) -> None:
        """Close the link or stop connecting; `link_down` or `link_failed` follows."""

    def abort(self) -> None:
        """Close the link and discard unsent bytes."""


def _describe(reason: Failure) -> str:
    """Describe why an attempt to connect failed."""
    for kind, text in _REASONS.items():
        if isinstance(reason.value, kind):
            return text
    failed = getattr(reason.value, "osError", None)
    return str(getattr(failed, "strerror", None) or reason.getErrorMessage())


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
    """A TCP link, also the factory of its protocol to save memory: there may be thousands."""

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
        """Build the protocol of the connection."""
        return _TcpProtocol(self)

    def made(self, transport: Any) -> None:
        """Handle the open connection."""
        self._transport = transport
        transport.setTcpNoDelay(True)
        self.client.link_up()

    def lost(self) -> None:
        """Handle the closed connection."""
        self._transport = None
        self.client.link_down()

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Handle a failed attempt."""
        self.client.link_failed(_describe(reason))

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
    """A UDP link with its own socket, since the gateway identifies locks on UDP by address."""

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
        except CannotListenError as failure:
            self.client.link_failed(f"no local socket: {failure.socketError}")
            return
        # Connected, so that datagrams of others are not received.
        self._port.connect(self._target.host, self._target.port)
        self.client.link_up()

    def stopProtocol(self) -> None:
        """Handle a socket that was closed by `close`, or by the reactor after an ICMP error."""
        if self._port is not None:
            self._port = None
            self.client.link_refused()
            self.client.link_down()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Bytes from the gateway."""
        self.client.received(datagram, datagram=True)

    def connectionRefused(self) -> None:
        """Handle a rejected datagram."""
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
