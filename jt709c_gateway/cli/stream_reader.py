"""Reads events that a subscriber missed from the stream."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.cli.redis_client import refused
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.redis.connection import RedisConnection

#: Entries per read.
_PAGE: Final = 500
#: Maximum live events held back; the oldest are dropped, since the stream has them.
_HELD: Final = 10_000
#: Seconds between attempts.
_RETRY: Final = 1.0


@define(eq=False)
class StreamReader:
    """Shows missed events of the stream before live ones: at first from `since`, later after a disconnect.

    `show(source, payload)` gets the events in order, some of them twice, and must not raise. `since` is in
    epoch seconds; without it, the first connection shows only live events.

    A Redis user without the right to read the stream gets a notice, and misses events published while
    disconnected.
    """

    _reactor: Any
    _connection: RedisConnection
    _stream: str
    _show: Callable[[str, bytes], None]
    _since: float | None
    #: The entry to continue from; None while unknown.
    _position: str | None = None
    _held: deque[tuple[str, bytes]] | None = None
    _run: "defer.Deferred[None] | None" = field(default=None, repr=False)
    _denied: bool = False

    def __attrs_post_init__(self) -> None:
        if self._since is not None:
            self._position = str(max(0, int(self._since * 1000)))

    def live(self, channel: str, payload: bytes) -> None:
        """Process a live event: show it now, or after the entries being read."""
        if self._held is None:
            self._show(channel, payload)
        else:
            self._held.append((channel, payload))

    def begin(self) -> None:
        """After (re)subscribing, read the missed entries if the position is known."""
        if self._run is not None:
            return
        if self._denied:
            notice("events published meanwhile are missing: this Redis user may not read the stream")
        elif self._position is None:
            self.note_position()
        else:
            self._held = deque(maxlen=_HELD)
            self._run = defer.Deferred.fromCoroutine(self._read())
            self._run.addBoth(self._done)

    def note_position(self) -> None:
        """Remember the end of the stream, to continue from it after a lost connection."""
        if self._run is None and not self._denied and self._connection.connected:
            last = self._connection.call("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
            last.addCallbacks(self._noted, self._not_noted)

    def stop(self) -> None:
        """Stop reading."""
        if self._run is not None:
            self._run.cancel()

    def _noted(self, last: list[Any]) -> None:
        if self._run is None:
            self._position = last[0][0].decode() if last else "0"

    def _not_noted(self, failure: Any) -> None:
        # Without a connection, the previous position is kept.
        if failure.check(txredisapi.ResponseError):
            self._denied = True

    async def _read(self) -> None:
        while True:
            try:
                page = await self._connection.call(
                    "XRANGE", self._stream, self._position or "-", "+", "COUNT", _PAGE
                )
            except txredisapi.ConnectionError:
                await task.deferLater(self._reactor, _RETRY, lambda: None)
                continue
            for entry, fields in page:
                texts = dict(zip(fields[::2], fields[1::2], strict=False))
                self._show(f"entry {entry.decode('utf-8', 'replace')}", texts.get(b"event", b""))
            if page:
                self._position = f"({page[-1][0].decode()}"
            if len(page) < _PAGE:
                return

    def _done(self, outcome: Any) -> None:
        held, self._held, self._run = self._held, None, None
        error = getattr(outcome, "value", None)
        if isinstance(error, txredisapi.ResponseError):
            self._denied = True
            notice(refused("read the stream of events, so some have been missed", str(error)))
        elif error is not None and not isinstance(error, defer.CancelledError):
            notice(f"missed events can't be read: {error}")
        if isinstance(error, defer.CancelledError):
            return
        for channel, payload in held or ():
            self._show(channel, payload)
