"""Ports that several processes share: one socket for each, and the kernel spreads the locks over them.

With SO_REUSEPORT Linux chooses the socket by a hash of both addresses: a new TCP connection goes to any of
them with the same chance, and the datagrams of one address go to the same socket as long as none is added or
taken away. All sockets are bound here, by the process that starts the others and keeps a copy of each. So a
process that is started again gets its predecessor's socket with all that has come to it meanwhile, and the
addresses keep their process.
"""

import socket
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.abstract import isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import CannotListenError

from jt709c_gateway.transport.backlog import listening_endpoint
from jt709c_gateway.transport.listeners import ListenError
from jt709c_gateway.transport.proxy_protocol import split_proxied

#: Kinds of endpoints that can be shared.
SHARED_ENDPOINTS: Final = ("tcp", "tcp6")


class SharedPort:
    """One port and its sockets, by the number of the process that each is for."""

    def __init__(
        self,
        kind: socket.SocketKind,
        port: int,
        interface: str,
        description: str,
        backlog: int = 0,
        proxied: bool = False,
    ) -> None:
        self.kind = kind
        self.proxied = proxied
        self.family = socket.AF_INET6 if isIPv6Address(interface) else socket.AF_INET
        self._port = port
        self._interface = interface
        self._description = description
        self._backlog = backlog
        self._sockets: dict[int, socket.socket] = {}

    @classmethod
    def tcp(cls, description: str) -> "SharedPort":
        """A port for what a server endpoint of one of the SHARED_ENDPOINTS says."""
        found: list[tuple[int, str, int]] = []
        plain, proxied = split_proxied(description)
        endpoint = listening_endpoint(_Recorder(), plain)
        endpoint.listen(None).addCallback(found.append)
        port, interface, backlog = found[0]
        return cls(socket.SOCK_STREAM, port, interface, description, backlog, proxied)

    @classmethod
    def udp(cls, port: int, interface: str) -> "SharedPort":
        """A UDP port."""
        return cls(socket.SOCK_DGRAM, port, interface, f"udp {interface or '*'}:{port}")

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """Where it is bound."""
        name = next(iter(self._sockets.values())).getsockname()
        transport: Any = "TCP" if self.kind is socket.SOCK_STREAM else "UDP"
        return (IPv6Address if self.family is socket.AF_INET6 else IPv4Address)(transport, *name)

    def bind(self, numbers: Iterable[int]) -> None:
        """Bind a socket for each number; ListenError when somebody has the port, or it can't be had."""
        # Whoever shares the port in the same way, another gateway of the same user, would not be noticed.
        probe = self._bound(shared=False)
        self._port = probe.getsockname()[1]
        probe.close()
        for number in numbers:
            self.open(number)

    def open(self, number: int) -> socket.socket:
        """The socket of this number, bound again if it was closed; ListenError when that fails."""
        if number not in self._sockets:
            self._sockets[number] = self._bound(shared=True)
        return self._sockets[number]

    def close(self, number: int) -> None:
        """Close one socket: what would come to it goes to the others."""
        if (found := self._sockets.pop(number, None)) is not None:
            found.close()

    def close_all(self) -> None:
        """Close our copies; the processes that have theirs go on."""
        for number in list(self._sockets):
            self.close(number)

    def _bound(self, shared: bool) -> socket.socket:
        opened = socket.socket(self.family, self.kind)
        try:
            if self.kind is socket.SOCK_STREAM:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.bind(self._bind_address())
            if shared and self.kind is socket.SOCK_STREAM:
                opened.listen(self._backlog)
            opened.setblocking(False)
        except OSError as error:
            opened.close()
            reason = CannotListenError(self._interface, self._port, error)  # type: ignore[no-untyped-call]
            raise ListenError(f"{self._description}: {reason}") from None
        return opened

    def _bind_address(self) -> Any:
        if self.family is socket.AF_INET:
            return self._interface, self._port
        # With the number of the interface that an address like fe80::1%eth0 names.
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(self._interface, self._port, self.family, self.kind, 0, flags)[0][4]


class _Recorder:
    """Stands in for a reactor, to learn from an endpoint what it would listen on."""

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> tuple[int, str, int]:
        """What a TCP endpoint asks for."""
        return port, interface, backlog
