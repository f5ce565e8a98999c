"""A client of the live events, as server-sent events (WHATWG HTML) with a bounded buffer."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from jt709c_gateway.protocol.json_text import escape_bytes

#: Maximum messages and bytes buffered for a slow client; further ones are skipped and counted.
MAX_WAITING: Final = 500
MAX_BYTES: Final = 1 << 20
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
_BEAT: Final = b": still here\n\n"
#: Milliseconds after which a browser reconnects.
_OPENING: Final = b"retry: 3000\n\n"


def message(event: str, data: bytes, event_id: str | None = None) -> bytes:
    """Format a message; `data` is JSON without line breaks; control characters in it are escaped."""
    head = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), escape_bytes(data))


@implementer(IPushProducer)
class Client:
    """A subscribed browser. `left` is called once, when its connection has ended."""

    def __init__(self, request: Any, left: Callable[["Client"], object]) -> None:
        self._request = request
        self._left = left
        self._paused = False
        self._ended = False
        self._buffer: deque[bytes] = deque()
        self._bytes = 0
        self._skipped: dict[str, int] = {}

    def begin(self) -> None:
        """Send the head of the response."""
        request = self._request
        request.setHeader(b"content-type", EVENT_STREAM.encode())
        # Reverse proxies would buffer small chunks.
        request.setHeader(b"x-accel-buffering", b"no")
        request.notifyFinish().addBoth(lambda _: self._gone())
        request.registerProducer(self, True)
        request.write(_OPENING)

    def send(self, data: bytes) -> None:
        """Send or buffer a message; if the buffer is full, count it as skipped."""
        if self._ended:
            return
        if not self._paused:
            self._request.write(data)
        elif len(self._buffer) < MAX_WAITING and self._bytes + len(data) <= MAX_BYTES:
            self._buffer.append(data)
            self._bytes += len(data)
        else:
            self.skip(1, "slow")

    def skip(self, count: int, reason: str) -> None:
        """Count skipped events; `report` sends the count."""
        self._skipped[reason] = self._skipped.get(reason, 0) + count

    def report(self) -> None:
        """Send how many events were skipped since the last report, unless the client is slow."""
        if self._paused or self._ended or not self._skipped:
            return
        skipped, self._skipped = self._skipped, {}
        for reason, count in skipped.items():
            self.send(message("skipped", msgspec.json.encode({"count": count, "reason": reason})))

    def beat(self) -> None:
        """Send a heartbeat comment, unless the client is slow."""
        if not self._paused and not self._ended:
            self._request.write(_BEAT)

    def end(self) -> None:
        """Close the connection and discard the buffer."""
        if not self._ended:
            self._gone()
            self._request.unregisterProducer()
            self._request.finish()

    def _gone(self) -> None:
        if not self._ended:
            self._ended = True
            self._buffer.clear()
            self._left(self)

    def pauseProducing(self) -> None:
        """Start buffering: the client reads slowly."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Send the buffer as long as the client reads."""
        self._paused = False
        while self._buffer and not self._paused:
            data = self._buffer.popleft()
            self._bytes -= len(data)
            self._request.write(data)

    def stopProducing(self) -> None:
        """Handle the loss of the connection."""
        self._gone()
