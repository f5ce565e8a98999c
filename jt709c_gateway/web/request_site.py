"""Requests whose bodies are bounded, and of one kind: any other is refused before it is taken in."""

from typing import Any, Final

import msgspec
from twisted.web.server import Request

#: Bytes of a body: the longest command has 16 KB, the longest text to explain 8.
MAX_BODY: Final = 64 * 1024
JSON_BODY: Final = "application/json"


def _refusal(status: str, message: str, field: str | None = None) -> bytes:
    body = msgspec.json.encode({"error": {"field": field, "message": message}})
    head = (
        f"HTTP/1.1 {status}\r\nconnection: close\r\ncache-control: no-store\r\n"
        f"content-type: application/json; charset=utf-8\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_TOO_LONG: Final = _refusal("413 Content Too Large", f"the body: expected at most {MAX_BODY} bytes")
_OF_ANOTHER_KIND: Final = _refusal(
    "415 Unsupported Media Type", f"content-type: expected {JSON_BODY}", "content-type"
)


class BoundedRequest(Request):
    """A request with at most `MAX_BODY` bytes of body, which may be JSON or of no kind.

    With more it ends with 413, and with 415 for another kind: Twisted would take a form apart before anybody
    is asked who it is from, and one of 64 KB takes it a third of a second. It is for a `Connection`.
    """

    channel: Any
    _taken = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """The head has been read; `length` is None for a body in chunks."""
        too_long = length is not None and length > MAX_BODY
        refused = too_long or (length != 0 and not self._is_json())
        # Of unknown length Twisted would open a file for it.
        super().gotLength(MAX_BODY)  # type: ignore[no-untyped-call]
        if refused:
            self._refuse(_TOO_LONG if too_long else _OF_ANOTHER_KIND)

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body."""
        self._taken += len(data)
        if self._taken > MAX_BODY:
            self._refuse(_TOO_LONG)
        elif not self._refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it is there."""
        if not self._refused:
            self.channel.transport.asked()
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def finish(self) -> None:
        """The answer is complete."""
        # Before the next request that waits on this connection is taken up.
        if self.channel is not None:
            self.channel.transport.answered()
        super().finish()  # type: ignore[no-untyped-call]

    def _is_json(self) -> bool:
        kinds = self.requestHeaders.getRawHeaders(b"content-type", [])
        return all(content_type(kind) == JSON_BODY.encode() for kind in kinds)

    def _refuse(self, refusal: bytes) -> None:
        if not self._refused:
            self._refused = True
            self.channel.transport.write(refusal)
            self.channel.loseConnection()


def content_type(header: bytes) -> bytes:
    """The type in a Content-Type (RFC 9110 §8.3), without its parameters."""
    return header.partition(b";")[0].strip().lower()
