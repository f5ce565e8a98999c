"""Limits the number of connections; an idle one is closed for a new one."""

from typing import Any, Final

from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

#: Connections at a time; a browser makes some six.
MAX_CONNECTIONS: Final = 500


class Connection(ProtocolWrapper):
    """A connection, which is idle while it has no request in progress."""

    factory: "ConnectionLimit"

    def request_started(self) -> None:
        """A complete request has arrived."""
        self.factory.idle.pop(self, None)

    def request_finished(self) -> None:
        """The response is complete."""
        self.factory.idle[self] = None


class ConnectionLimit(WrappingFactory):
    """Accepts at most `MAX_CONNECTIONS`; for one more, the longest idle one is closed.

    Clients that only connect, or never complete a request, can't shut out a load balancer that checks
    `/readyz`. If all connections have a request in progress, a new one is closed at once.
    """

    noisy = False
    protocol = Connection

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        #: The idle connections, longest idle first.
        self.idle: dict[Connection, None] = {}
        self._ending: set[Connection] = set()

    def logPrefix(self) -> str:
        """Name the port in Twisted's line about its start."""
        return "status page"

    def buildProtocol(self, addr: Any) -> Any:
        """Return a protocol, or None if all connections are busy."""
        if len(self.protocols) - len(self._ending) >= MAX_CONNECTIONS:
            if not self.idle:
                return None
            longest = next(iter(self.idle))
            del self.idle[longest]
            self._ending.add(longest)
            longest.abortConnection()
        return super().buildProtocol(addr)

    def registerProtocol(self, p: Any) -> None:
        """Count a new connection."""
        super().registerProtocol(p)  # type: ignore[no-untyped-call]
        self.idle[p] = None

    def unregisterProtocol(self, p: Any) -> None:
        """Remove a closed connection."""
        super().unregisterProtocol(p)  # type: ignore[no-untyped-call]
        self.idle.pop(p, None)
        self._ending.discard(p)
