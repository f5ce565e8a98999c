"""Sends a long answer in pieces, as fast as the client reads."""

from typing import Any, Final

from twisted.internet import defer
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

#: Seconds after which a client that reads nothing is disconnected.
PATIENCE: Final = 60.0


@implementer(IPushProducer)
class StreamedBody:
    """The body of a response of unknown length. `begin`, then `write` as often as needed, then `end`."""

    def __init__(self, request: Any, clock: Any) -> None:
        self._request = request
        self._clock = clock
        self._waiting: defer.Deferred[None] | None = None
        self._paused = False
        self.gone = False

    def begin(self, content_type: str, filename: str) -> None:
        """Send the head of the response; browsers save the body under the name."""
        request = self._request
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"content-disposition", f'attachment; filename="{filename}"'.encode())
        request.notifyFinish().addErrback(lambda _: self.stopProducing())
        request.registerProducer(self, True)

    async def write(self, data: bytes) -> None:
        """Send a piece and wait until the client can take more.

        One that takes nothing for a minute is disconnected; nothing is sent to one that has gone.
        """
        if not self.gone:
            self._request.write(data)
        if self._paused and not self.gone:
            self._waiting = defer.Deferred()
            try:
                await self._waiting.addTimeout(PATIENCE, self._clock)
            except defer.TimeoutError:
                self._waiting = None
                self.gone = True
                self._request.channel.forceAbortClient()

    def end(self) -> None:
        """Finish the response."""
        if not self.gone:
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """Wait: the client reads slowly."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Handle the loss of the connection."""
        self.gone = True
        self.resumeProducing()
