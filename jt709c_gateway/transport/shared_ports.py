"""Ports shared by several processes: one socket for each; the kernel distributes the locks over them.

With SO_REUSEPORT Linux chooses the socket by a hash of both addresses: a new TCP connection goes to any of
them with equal probability, and the datagrams of one address go to the same socket as long as none is added
or removed. The supervisor binds all sockets and keeps a copy of each. So a restarted worker gets its
predecessor's socket with the connections and datagrams that have arrived meanwhile, and addresses keep their
process.
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
    """One port and its sockets, by the number of their process."""

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
        """Return a port of `--listen` for an endpoint's description, one of the SHARED_ENDPOINTS."""
        found: list[tuple[int, str, int]] = []
        plain, proxied = split_proxied(description)
        endpoint = listening_endpoint(_Recorder(), plain)
        endpoint.listen(None).addCallback(found.append)
        port, interface, backlog = found[0]
        return cls(socket.SOCK_STREAM, port, interface, f"--listen {description}", backlog, proxied)

    @classmethod
    def udp(cls, port: int, interface: str) -> "SharedPort":
        """Return a UDP port of `--udp`."""
        shown = f"{port}:interface={interface}" if interface else str(port)
        return cls(socket.SOCK_DGRAM, port, interface, f"--udp {shown}")

    @property
    def address(self) -> IPv4Address | IPv6Address:
        """The bound address."""
        name = next(iter(self._sockets.values())).getsockname()
        transport: Any = "TCP" if self.kind is socket.SOCK_STREAM else "UDP"
        return (IPv6Address if self.family is socket.AF_INET6 else IPv4Address)(transport, *name)

    def bind(self, numbers: Iterable[int]) -> None:
        """Bind a socket for each number; ListenError when the port is in use or can't be bound."""
        # Another gateway of the same user that shares the port in the same way would not be noticed.
        probe = self._bound(shared=False)
        self._port = probe.getsockname()[1]
        probe.close()
        for number in numbers:
            self.open(number)

    def open(self, number: int) -> socket.socket:
        """Return the socket of this number, bound again if it was closed; ListenError when that fails."""
        if number not in self._sockets:
            self._sockets[number] = self._bound(shared=True)
        return self._sockets[number]

    def close(self, number: int) -> None:
        """Close one socket; its new connections and datagrams go to the others."""
        if (found := self._sockets.pop(number, None)) is not None:
            found.close()

    def close_all(self) -> None:
        """Close our copies; the processes keep theirs."""
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
            raise ListenError(f"{self._description}: {str(reason).rstrip('.')}") from None
        return opened

    def _bind_address(self) -> Any:
        if self.family is socket.AF_INET:
            return self._interface, self._port
        # Includes the number of the interface in an address like fe80::1%eth0.
        flags = socket.AI_NUMERICHOST
        return socket.getaddrinfo(self._interface, self._port, self.family, self.kind, 0, flags)[0][4]


class _Recorder:
    """Replaces a reactor to record the address on which an endpoint would listen."""

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> tuple[int, str, int]:
        """Record the arguments of a TCP endpoint."""
        return port, interface, backlog
