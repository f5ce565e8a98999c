"""Services that bind ports; a port in use fails the start."""

import os
from functools import partial
from typing import Any, Final

from attrs import frozen
from twisted.application.service import Service
from twisted.internet import defer, tcp
from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from jt709c_gateway.transport.accept_errors import AcceptErrors
from jt709c_gateway.transport.gathered_reads import GatheredReads, gather_datagrams
from jt709c_gateway.transport.tcp import DirectServer, LockFactory, ProxiedLockFactory

_MAX_DATAGRAM: Final = 65_536
#: A new lock's connection with its first report takes up to a millisecond.
_ACCEPTED_AT_ONCE: Final = 32


class ListenError(Exception):
    """A port could not be bound; the message names port and reason."""


def _accept_some(port: tcp.Port) -> None:
    """Limit the connections accepted per reactor turn, so that other events are not delayed.

    Twisted adapts the number to the load, up to hundreds; each connection brings a report, and Redis's
    replies wait while these are processed.
    """
    port.numberAccepts = _ACCEPTED_AT_ONCE
    tcp.Port.doRead(port)  # type: ignore[no-untyped-call]


def address_text(address: Any) -> str:
    """Return a bound address for people: `tcp 127.0.0.1:8888`, `udp [::]:8888`, or the path of a socket."""
    if not hasattr(address, "port"):
        return str(getattr(address, "name", address))
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{address.type.lower()} {host}:{address.port}"


class TcpService(Service):
    """Listens on one stream endpoint from `privilegedStartService` until `stopService`."""

    def __init__(
        self, endpoint: Any, factory: Any, description: str, reads: GatheredReads | None = None
    ) -> None:
        self._reads = reads
        self._endpoint = endpoint
        self._factory = factory
        self._description = description
        self._errors: AcceptErrors | None = None
        self.port: Any = None

    def privilegedStartService(self) -> None:
        """Bind the port; ListenError when that fails. TCP endpoints bind synchronously."""
        failures: list[Failure] = []
        listening = self._endpoint.listen(self._factory)
        listening.addCallbacks(self._bound, failures.append)
        if failures:
            raise ListenError(f"{self._description}: {failures[0].getErrorMessage().rstrip('.')}")

    def startService(self) -> None:
        """Bind, unless that is done."""
        super().startService()  # type: ignore[no-untyped-call]
        if self.port is None:
            self.privilegedStartService()

    def _bound(self, port: Any) -> None:
        self.port = port
        if isinstance(port, tcp.Port):
            self._errors = AcceptErrors(port.reactor, address_text(port.getHost()))  # type: ignore[no-untyped-call]
            port._logger = self._errors.logger
        if isinstance(port, tcp.Port) and isinstance(self._factory, LockFactory | ProxiedLockFactory):
            port.transport = partial(DirectServer, self._reads)  # type: ignore[assignment]
            port.doRead = partial(_accept_some, port)  # type: ignore[method-assign]

    def stopService(self) -> "defer.Deferred[Any]":
        """Stop listening; open connections stay."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._errors is not None:
            self._errors.stop()
        port, self.port = self.port, None
        return defer.maybeDeferred(port.stopListening) if port is not None else defer.succeed(None)


class UdpService(Service):
    """Listens on one UDP port from `privilegedStartService` until `stopService`."""

    def __init__(
        self,
        reactor: Any,
        port: int,
        interface: str,
        protocol: DatagramProtocol,
        description: str = "",
        reads: GatheredReads | None = None,
    ) -> None:
        self._reads = reads
        self._reactor = reactor
        self._number = port
        self._interface = interface
        self._protocol = protocol
        self._description = description or f"udp {interface or '*'}:{port}"
        self.port: Any = None

    def privilegedStartService(self) -> None:
        """Bind; ListenError when that fails."""
        try:
            self.port = self._listen()
        except Exception as error:
            raise ListenError(f"{self._description}: {str(error).rstrip('.')}") from error
        if self._reads is not None:
            gather_datagrams(self.port, self._reads)

    def _listen(self) -> Any:
        return self._reactor.listenUDP(
            self._number, self._protocol, interface=self._interface, maxPacketSize=_MAX_DATAGRAM
        )

    def startService(self) -> None:
        """Bind, unless that is done."""
        super().startService()  # type: ignore[no-untyped-call]
        if self.port is None:
            self.privilegedStartService()

    def stopService(self) -> "defer.Deferred[Any]":
        """Stop listening."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self.port = self.port, None
        return defer.maybeDeferred(port.stopListening) if port is not None else defer.succeed(None)


class _AdoptedUdpService(UdpService):
    """The same on a socket that is bound already."""

    def __init__(
        self, reactor: Any, inherited: "Inherited", protocol: DatagramProtocol, reads: GatheredReads | None
    ) -> None:
        super().__init__(reactor, 0, "inherited", protocol, reads=reads)
        self._inherited = inherited

    def _listen(self) -> Any:
        descriptor = self._inherited.descriptor
        port = self._reactor.adoptDatagramPort(
            descriptor, self._inherited.family, self._protocol, maxPacketSize=_MAX_DATAGRAM
        )
        # The port has a duplicate, whose end must be the socket's.
        os.close(descriptor)
        return port


@frozen
class Inherited:
    """A socket that this process was started with: bound and, when it is a stream's, listening."""

    descriptor: int
    #: AF_INET or AF_INET6, SOCK_STREAM or SOCK_DGRAM.
    family: int
    kind: int
    #: Whether a load balancer's PROXY header comes first on each connection.
    proxied: bool = False

    def stream_service(self, reactor: Any, factory: Any, reads: GatheredReads | None = None) -> TcpService:
        """A service that takes connections from it."""
        endpoint = AdoptedStreamServerEndpoint(reactor, self.descriptor, self.family)  # type: ignore[no-untyped-call]
        return TcpService(endpoint, factory, "inherited", reads)

    def datagram_service(
        self, reactor: Any, protocol: DatagramProtocol, reads: GatheredReads | None = None
    ) -> UdpService:
        """A service that takes datagrams from it."""
        return _AdoptedUdpService(reactor, self, protocol, reads)
