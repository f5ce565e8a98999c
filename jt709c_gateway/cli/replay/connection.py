"""Replays one connection of a capture."""

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field

from jt709c_gateway.cli.replay.ack_tracker import AckTracker
from jt709c_gateway.cli.replay.steps import Chunk
from jt709c_gateway.protocol.framing import Frame, Framer, Malformed
from jt709c_gateway.simulator.connections import Link, Target, TcpLink, UdpLink


class _PacedLink(TcpLink):
    """A TCP link with flow control: it stops while the gateway doesn't read."""

    full = False

    def made(self, transport: Any) -> None:
        """Handle the open connection."""
        transport.registerProducer(self, True)
        super().made(transport)

    def close(self) -> None:
        """See `Link`."""
        if self._transport is not None:
            self._transport.unregisterProducer()
        super().close()

    def pauseProducing(self) -> None:
        """Pause: the send buffer is full."""
        self.full = True

    def resumeProducing(self) -> None:
        """Resume: the send buffer is empty."""
        self.full = False
        assert isinstance(self.client, ReplayConnection)
        self.client.flush()

    def stopProducing(self) -> None:
        """Ignore: `lost` follows."""


@define(eq=False)
class ReplayConnection:
    """Sends the chunks of one connection in order, and counts what comes back.

    At most `window` frames are unanswered at a time (None: any number). `changed` is called with this channel
    whenever something has happened that others may wait for.
    """

    name: str
    reactor: Any
    target: Target
    ledger: AckTracker
    window: int | None
    changed: Callable[["ReplayConnection"], None]
    _link: Link = field(init=False, repr=False)
    _queue: deque[bytes] = field(factory=deque, init=False, repr=False)
    _splitter: Framer = field(factory=Framer, init=False, repr=False)
    up: bool = field(default=False, init=False)
    #: Whether the capture has no more chunks of the connection.
    ended: bool = field(default=False, init=False)
    #: Whether the link is closed for good.
    gone: bool = field(default=False, init=False)
    #: The part of `queued` that the player has already counted.
    noted: int = field(default=0, init=False)
    _closing: bool = field(default=False, init=False)
    _refused: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._link = (UdpLink if self._udp else _PacedLink)(self, self.reactor, self.target)

    @property
    def _udp(self) -> bool:
        return self.target.transport == "udp"

    @property
    def queued(self) -> int:
        """The number of chunks to send."""
        return len(self._queue)

    @property
    def idle(self) -> bool:
        """Whether everything is sent and answered."""
        return not self._queue and not self.ledger.awaited

    def open(self) -> None:
        """Connect to the gateway."""
        self._link.open()

    def push(self, chunk: Chunk) -> None:
        """Queue a chunk for sending."""
        if self.gone or self._closing:
            self.ledger.counts.unsent += len(chunk.data)
        elif self._udp and chunk.transport == "tcp":
            # Each datagram carries one whole frame of the stream.
            self._split(self._splitter.feed(chunk.data))
        else:
            self._queue.append(chunk.data)
        self.flush()

    def _split(self, frames: list[Frame]) -> None:
        for frame in frames:
            if isinstance(frame, Malformed):
                self.ledger.counts.malformed += 1
            else:
                self._queue.append(frame.raw)

    def end(self) -> None:
        """Close the connection when everything is sent and answered."""
        self.ended = True
        self._split(self._splitter.settle())
        self.flush()

    def expire(self, before: float) -> None:
        """Give up answers to frames sent before this moment."""
        self.ledger.expire(before)
        self.flush()

    def flush(self) -> None:
        """Send as much as flow control and window allow."""
        while self._queue and self._may_send():
            data = self._queue.popleft()
            self.ledger.sent(data, self.reactor.seconds(), datagram=self._udp)
            self._link.write([data])
        if self.ended and self.up and self.idle and not self._closing:
            self._closing = True
            self._link.close()
        self.changed(self)

    def _may_send(self) -> bool:
        if not self.up or (isinstance(self._link, _PacedLink) and self._link.full):
            return False
        return self.window is None or self.ledger.awaited < self.window

    def abort(self, *, at_once: bool) -> None:
        """Close the connection without waiting for answers; `at_once` discards unsent bytes."""
        if self.gone:
            self.changed(self)
        elif at_once:
            self._link.abort()
        elif not self._closing:
            self._closing = True
            self._drop()
            self._link.close()

    # Called by the link.

    def link_up(self) -> None:
        """Handle an open link."""
        self.up = True
        self.ledger.counts.connections += 1
        self.flush()

    def received(self, data: bytes, *, datagram: bool = False) -> None:
        """Process bytes of the gateway."""
        self.ledger.received(data, self.reactor.seconds())
        self.flush()

    def link_down(self) -> None:
        """Handle a closed link."""
        self.up, self.gone = False, True
        if not self._closing and not self._refused:
            self.ledger.counts.closed += 1
        self._drop()
        self.changed(self)

    def link_failed(self, reason: str) -> None:
        """Handle a failed attempt to connect."""
        self.gone = True
        if not self._closing:
            self.ledger.counts.refused += 1
        self._drop()
        self.changed(self)

    def link_refused(self) -> None:
        """Count a rejected datagram once."""
        self.ledger.counts.refused += not self._refused
        self._refused = True

    def _drop(self) -> None:
        self.ledger.counts.unsent += sum(map(len, self._queue))
        self._queue.clear()
        self.ledger.close()
