"""Services that bind ports: a port that is taken stops the start."""

from typing import Any

from twisted.application.service import Service
from twisted.internet import defer, tcp
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from .tcp import DirectServer, LockFactory


class ListenError(Exception):
    """A port could not be bound: which, and why."""


class TcpService(Service):
    """Listens on one stream endpoint from `privilegedStartService` until `stopService`."""

    def __init__(self, endpoint: Any, factory: Any, description: str) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._description = description
        self.port: Any = None

    def privilegedStartService(self) -> None:
        """Bind; ListenError when that fails. TCP endpoints answer at once."""
        failures: list[Failure] = []
        listening = self._endpoint.listen(self._factory)
        listening.addCallbacks(self._bound, failures.append)
        if failures:
            raise ListenError(f"{self._description}: {failures[0].getErrorMessage()}")

    def startService(self) -> None:
        """Bind, unless that is done."""
        super().startService()  # type: ignore[no-untyped-call]
        if self.port is None:
            self.privilegedStartService()

    def _bound(self, port: Any) -> None:
        self.port = port
        if isinstance(port, tcp.Port) and isinstance(self._factory, LockFactory):
            port.transport = DirectServer

    def stopService(self) -> "defer.Deferred[Any]":
        """Stop listening; open connections stay."""
        super().stopService()  # type: ignore[no-untyped-call]
        port, self.port = self.port, None
        return defer.maybeDeferred(port.stopListening) if port is not None else defer.succeed(None)


class UdpService(Service):
    """Listens on one UDP port from `privilegedStartService` until `stopService`."""

    def __init__(self, reactor: Any, port: int, interface: str, protocol: DatagramProtocol) -> None:
        self._reactor = reactor
        self._number = port
        self._interface = interface
        self._protocol = protocol
        self.port: Any = None

    def privilegedStartService(self) -> None:
        """Bind; ListenError when that fails."""
        try:
            self.port = self._reactor.listenUDP(
                self._number, self._protocol, interface=self._interface, maxPacketSize=65536
            )
        except Exception as error:
            raise ListenError(f"udp {self._interface or '*'}:{self._number}: {error}") from error

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
