"""Requests whose bodies are bounded: one that is too long is refused before it is taken in."""

from typing import Any, Final

from twisted.web.server import Request

#: Bytes of a body: the longest order has 16 KB, the longest text to explain 8.
MAX_BODY: Final = 64 * 1024
_BODY: Final = b'{"error":{"field":null,"message":"the body: expected at most %d bytes"}}' % MAX_BODY
_REFUSAL: Final = (
    b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncache-control: no-store\r\n"
    b"content-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n\r\n%b"
) % (len(_BODY), _BODY)


class BoundedRequest(Request):
    """A request of which at most `MAX_BODY` bytes of body are kept; with more it ends with 413."""

    _taken = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        """The head has been read; `length` is None for a body in chunks."""
        too_long = length is not None and length > MAX_BODY
        super().gotLength(0 if too_long else length)  # type: ignore[no-untyped-call]
        if too_long:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        """Some of the body."""
        self._taken += len(data)
        if self._taken > MAX_BODY:
            self._refuse()
        elif not self._refused:
            super().handleContentChunk(data)  # type: ignore[no-untyped-call]

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """All of it is there."""
        if not self._refused:
            super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def _refuse(self) -> None:
        if not self._refused:
            self._refused = True
            channel: Any = self.channel
            channel.transport.write(_REFUSAL)
            channel.loseConnection()
