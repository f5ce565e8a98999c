"""A bounded number of connections; who says nothing makes room for who comes."""

from typing import Any, Final

from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

#: Connections at a time; a browser makes some six.
MAX_CONNECTIONS: Final = 500


class Connection(ProtocolWrapper):
    """A connection, which is quiet while no request of it is being answered."""

    factory: "ConnectionLimit"

    def asked(self) -> None:
        """A whole request has come."""
        self.factory.quiet.pop(self, None)

    def answered(self) -> None:
        """Its answer is complete."""
        self.factory.quiet[self] = None


class ConnectionLimit(WrappingFactory):
    """Takes at most `MAX_CONNECTIONS` at a time. For one more the longest quiet one is closed.

    So clients that merely connect, or send a request for ever, can't shut out a load balancer which asks for
    `/readyz`. While an answer is under way on all of them, one more is closed at once.
    """

    noisy = False
    protocol = Connection

    def __init__(self, wrapped: Any) -> None:
        super().__init__(wrapped)  # type: ignore[no-untyped-call]
        #: Those that are quiet, longest first.
        self.quiet: dict[Connection, None] = {}
        self._ending: set[Connection] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """Return a new protocol, or None when there are too many."""
        if len(self.protocols) - len(self._ending) >= MAX_CONNECTIONS:
            if not self.quiet:
                return None
            longest = next(iter(self.quiet))
            del self.quiet[longest]
            self._ending.add(longest)
            longest.abortConnection()
        return super().buildProtocol(addr)

    def registerProtocol(self, p: Any) -> None:
        """A connection has been made."""
        super().registerProtocol(p)  # type: ignore[no-untyped-call]
        self.quiet[p] = None

    def unregisterProtocol(self, p: Any) -> None:
        """A connection has ended."""
        super().unregisterProtocol(p)  # type: ignore[no-untyped-call]
        self.quiet.pop(p, None)
        self._ending.discard(p)
