"""Requests with a bounded body of JSON; others are rejected before the body is read."""

from typing import Any, Final

import msgspec
from twisted.web.server import Request

#: Maximum bytes of a body: the longest command has 16 KB, the longest text to explain 8 KB.
MAX_BODY: Final = 64 * 1024
JSON_BODY: Final = "application/json"


def _error_response(status: str, message: str, field: str | None = None) -> bytes:
    body = msgspec.json.encode({"error": {"field": field, "message": message}})
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


def content_type(header: bytes) -> bytes:
    """The media type of a Content-Type header (RFC 9110 §8.3), without parameters."""
    return header.partition(b";")[0].strip().lower()
