"""Follows the streams of events of several partitions."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part, Server, away_text, entry_order, merged
from jt709c_gateway.cli.redis_client import refused
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.redis.partitioned_queries import gather

#: Entries per read, of all partitions together; and the least of each.
_PAGE: Final = 5000
_LEAST: Final = 50
#: Milliseconds for which a read waits for events, less than the connection waits for a reply.
_BLOCK: Final = 2000
#: Seconds between attempts.
_RETRY: Final = 1.0
#: The last entry of a millisecond.
_LAST: Final = 2**64 - 1

#: Gets where an event comes from, and its JSON.
Show = Callable[[str, bytes], None]
_Entry = tuple[bytes, list[bytes]]


@define(eq=False)
class _Stream:
    """The stream of one partition; `position` is the last entry that was shown, None while unknown."""

    part: Part
    position: str | None
    waiting: deque[_Entry] = field(factory=deque)
    ended: bool = False

    async def fill(self, count: int) -> bool:
        """Read the next page when all of the one before was shown; False when the partition is away."""
        if self.waiting or self.ended:
            return True
        asked = ("XREAD", "COUNT", count, "STREAMS", self.part.keys.events, str(self.position))
        try:
            reply = await self.part.call(*asked)
        except txredisapi.ConnectionError:
            return False
        self.waiting.extend(reply[0][1] if reply else [])
        self.ended = len(self.waiting) < count
        return True

    def show(self, entry: _Entry, show: Show) -> None:
        """Show an entry, and go on behind it."""
        texts = dict(zip(entry[1][::2], entry[1][1::2], strict=False))
        self.position = entry[0].decode("utf-8", "replace")
        show(f"entry {self.position} of {self.part.keys.events}", texts.get(b"event", b""))


async def follow_streams(fleet: Fleet, since: float | None, show: Show) -> None:
    """Show the events of all partitions until cancelled; raise what `show` raises.

    Those from `since` on, in epoch seconds, come first, in the order of their entries. A partition that is
    away follows when it is back, with the events published meanwhile.
    """
    begin = None if since is None else f"{max(0, int(since * 1000) - 1)}-{_LAST}"
    await fleet.settle()
    streams = [_Stream(part, begin) for part in fleet.parts]
    if fleet.away:
        notice(f"{away_text(fleet.away)}; trying again")
    notice(f"watching the streams of {fleet.layout.count} partitions at {fleet.link.masked()}")
    try:
        if since is not None:
            await _catch_up([one for one in streams if one.part.number not in fleet.away], show)
        by_server: dict[Server, list[_Stream]] = {}
        for one in streams:
            by_server.setdefault(one.part.server, []).append(one)
        await _until_error([_tail(fleet.reactor, server, some, show) for server, some in by_server.items()])
    except txredisapi.ResponseError as error:
        raise UserError(refused("read the streams of events", str(error))) from None


async def _catch_up(streams: Sequence[_Stream], show: Show) -> None:
    """Show the entries that there are, merged; leave out a partition that goes away."""
    size = max(_LEAST, _PAGE // max(1, len(streams)))
    while streams:
        there = await gather([one.fill(size) for one in streams])
        streams = [one for one, is_there in zip(streams, there, strict=True) if is_there and one.waiting]
        # What is newer than the end of a page may come behind what was not read yet.
        limit = min((entry_order(one.waiting[-1][0]) for one in streams if not one.ended), default=None)
        taken = []
        for one in streams:
            ready = []
            while one.waiting and (limit is None or entry_order(one.waiting[0][0]) <= limit):
                ready.append((one, one.waiting.popleft()))
            taken.append(ready)
        for stream, entry in merged(taken, lambda item: entry_order(item[1][0])):
            stream.show(entry, show)


async def _tail(reactor: Any, server: Server, streams: Sequence[_Stream], show: Show) -> None:
    """Show what comes on the streams of one server, and go on after a lost connection."""
    for one in streams:
        # Of a partition that went away while it was read.
        one.waiting.clear()
    while True:
        try:
            await _wait_for(reactor, server)
            for one in streams:
                if one.position is None:
                    one.position = await _end(one.part)
            await _show_next(streams, show)
        except txredisapi.ConnectionError:
            await task.deferLater(reactor, _RETRY, lambda: None)


async def _wait_for(reactor: Any, server: Server) -> None:
    while not server.connection.connected:
        await task.deferLater(reactor, _RETRY, lambda: None)


async def _end(part: Part) -> str:
    """Return the position at the end of a stream."""
    last = await part.call("XREVRANGE", part.keys.events, "+", "-", "COUNT", 1)
    return last[0][0].decode() if last else "0"


async def _show_next(streams: Sequence[_Stream], show: Show) -> None:
    """Wait for the next entries of streams on one server, and show them."""
    by_name = {one.part.keys.events.encode(): one for one in streams}
    options: tuple[str | int, ...] = ("COUNT", _PAGE // len(streams), "BLOCK", _BLOCK)
    positions = [str(one.position) for one in streams]
    reply = await streams[0].part.call("XREAD", *options, "STREAMS", *by_name, *positions)
    taken = [[(by_name[name], entry) for entry in entries] for name, entries in reply or []]
    for stream, entry in merged(taken, lambda item: entry_order(item[1][0])):
        stream.show(entry, show)


async def _until_error(running: Sequence[Any]) -> None:
    """Run until one raises, and cancel the others then."""
    tasks = [defer.Deferred.fromCoroutine(one) for one in running]
    try:
        await defer.gatherResults(tasks, consumeErrors=True)
    except defer.FirstError as error:
        failure: Any = error.subFailure
        failure.raiseException()
    finally:
        for one in tasks:
            one.cancel()
