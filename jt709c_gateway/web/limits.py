"""Limits of the web server: connections, and the bodies of requests."""

from typing import Any, Final

from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.server import Request

from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.web.http import JSON_BODY, ErrorAnswer, ErrorDetail, content_type

#: Connections at a time; a browser makes some six.
MAX_CONNECTIONS: Final = 500
#: Maximum bytes of a body: the longest command has 16 KB, the longest text to explain 8 KB.
MAX_BODY: Final = 64 * 1024


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


def _error_response(status: str, message: str, field: str | None = None) -> bytes:
    body = to_json(ErrorAnswer(ErrorDetail(field, message)))
    head = (
        f"HTTP/1.1 {status}\r\nconnection: close\r\ncache-control: no-store\r\n"
        f"content-type: application/json; charset=utf-8\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_TOO_LONG: Final = _error_response("413 Content Too Large", f"the body: expected at most {MAX_BODY} bytes")
_WRONG_TYPE: Final = _error_response(
    "415 Unsupported Media Type", f"content-type: expected {JSON_BODY}", "content-type"
)


class BoundedRequest(Request):
    """A request with at most `MAX_BODY` bytes of body, either JSON or without a content type.

    A longer body is answered with 413, another type with 415: Twisted would parse a form before the user is
    authenticated, which takes a third of a second for 64 KB. Its channel's transport is a `Connection`.
    """

    channel: Any
    _received = 0
    _rejected = False

    def gotLength(self, length: int | None) -> None:
        """Check the head; `length` is None for a chunked body."""
        too_long = length is not None and length > MAX_BODY
        refused = too_long or (length != 0 and not self._is_json())
        # For an unknown length Twisted would open a file.
        super().gotLength(MAX_BODY)  # type: ignore[no-untyped-call]
        if refused:
            self._reject(_TOO_LONG if too_long else _WRONG_TYPE)

    def handleContentChunk(self, data: bytes) -> None:
        """Check and store a part of the body."""
        self._received += len(data)
        if self._received > MAX_BODY:
            self._reject(_TOO_LONG)
        elif not self._rejected:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process the complete request."""
        if not self._rejected:
            self.channel.transport.request_started()
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """Finish the response."""
        # Before the next pipelined request starts.
        if self.channel is not None:
            self.channel.transport.request_finished()
        super().finish()  # type: ignore[no-untyped-call]

    def _is_json(self) -> bool:
        kinds = self.requestHeaders.getRawHeaders(b"content-type", [])
        return all(content_type(kind) == JSON_BODY.encode() for kind in kinds)

    def _reject(self, response: bytes) -> None:
        if not self._rejected:
            self._rejected = True
            self.channel.transport.write(response)
            self.channel.loseConnection()
