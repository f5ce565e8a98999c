"""One client of the live events: server-sent events (WHATWG HTML), a bounded number of them in memory."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from jt709c_gateway.protocol.json_text import escape_bytes

#: Messages and bytes that wait for a client which reads slowly; what comes beyond is left out, and counted.
MAX_WAITING: Final = 500
MAX_BYTES: Final = 1 << 20
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
_BEAT: Final = b": still here\n\n"
#: Milliseconds after which a browser comes again when the connection has ended.
_OPENING: Final = b"retry: 3000\n\n"


def message(event: str, data: bytes, event_id: str | None = None) -> bytes:
    """One message; `data` is JSON without line breaks, in which control characters are escaped."""
    head = b"" if event_id is None else b"id: %b\n" % event_id.encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), escape_bytes(data))


@implementer(IPushProducer)
class Client:
    """A browser that listens. `left` is called once, when it is gone or has been told to go."""

    def __init__(self, request: Any, left: Callable[["Client"], object]) -> None:
        self._request = request
        self._left = left
        self._paused = False
        self._ended = False
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._skipped: dict[str, int] = {}

    def begin(self) -> None:
        """Send the head, and take what comes from here on."""
        request = self._request
        request.setHeader(b"content-type", EVENT_STREAM.encode())
        # Reverse proxies would hold back what comes in small pieces.
        request.setHeader(b"x-accel-buffering", b"no")
        request.notifyFinish().addBoth(lambda _: self._gone())
        request.registerProducer(self, True)
        request.write(_OPENING)

    def send(self, data: bytes) -> None:
        """Send a message, now or when the client has read what came before; else it is counted as skipped."""
        if self._ended:
            return
        if not self._paused:
            self._request.write(data)
        elif len(self._waiting) < MAX_WAITING and self._bytes + len(data) <= MAX_BYTES:
            self._waiting.append(data)
            self._bytes += len(data)
        else:
            self.skip(1, "slow")

    def skip(self, count: int, reason: str) -> None:
        """Note that it has not got some events; `report` tells it."""
        self._skipped[reason] = self._skipped.get(reason, 0) + count

    def report(self) -> None:
        """Tell what was skipped since the last time, once there is room for it."""
        if self._paused or self._ended or not self._skipped:
            return
        skipped, self._skipped = self._skipped, {}
        for reason, count in skipped.items():
            self.send(message("skipped", msgspec.json.encode({"count": count, "reason": reason})))

    def beat(self) -> None:
        """Show that the connection lives; one that isn't read needs no sign of that."""
        if not self._paused and not self._ended:
            self._request.write(_BEAT)

    def end(self) -> None:
        """End the connection. Whoever reads too slowly doesn't get the rest."""
        if not self._ended:
            self._gone()
            self._request.unregisterProducer()
            self._request.finish()

    def _gone(self) -> None:
        if not self._ended:
            self._ended = True
            self._waiting.clear()
            self._left(self)

    def pauseProducing(self) -> None:
        """The client reads no faster than this."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It has read what was sent: send what waits, as long as it goes on reading."""
        self._paused = False
        while self._waiting and not self._paused:
            data = self._waiting.popleft()
            self._bytes -= len(data)
            self._request.write(data)

    def stopProducing(self) -> None:
        """The connection is gone."""
        self._gone()
