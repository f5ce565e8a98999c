"""Merges the ordered lists of several partitions into one, page by page."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from attrs import define, field, frozen

from jt709c_gateway.web.partitioned_redis import WebPartition, side_by_side
from jt709c_gateway.web.redis_client import PartitionsAway

#: Entries that are read from a partition beyond its share, since no list is spread evenly.
_MORE: Final = 16

_T = TypeVar("_T")


@frozen
class Page(Generic[_T]):
    """Some entries in order; `more` says whether there may be more behind them."""

    entries: list[_T]
    more: bool


@define(eq=False)
class _Source(Generic[_T]):
    """The list of one partition, as far as it was read."""

    partition: WebPartition
    buffer: deque[_T] = field(factory=deque)
    last: _T | None = None
    more: bool = True


@define(eq=False)
class Merge(Generic[_T]):
    """The entries of several partitions, highest first; one partition is read as if it were alone.

    `read` returns a page behind an entry, or the first one, with at most so many entries. `order` is what
    entries are compared by, with the number of their partition.
    """

    partitions: Sequence[WebPartition]
    read: Callable[[WebPartition, _T | None, int], Awaitable[Page[_T]]]
    order: Callable[[_T, int], Any]
    #: The numbers of the partitions of which entries are missing.
    away: list[int] = field(factory=list, init=False)
    _sources: list[_Source[_T]] = field(init=False)
    #: Entries that none can precede any more.
    _ready: "deque[tuple[WebPartition, _T]]" = field(factory=deque, init=False)
    _begun: bool = field(default=False, init=False)

    @_sources.default
    def _all(self) -> list[_Source[_T]]:
        return [_Source(one) for one in self.partitions]

    @property
    def more(self) -> bool:
        """Whether there may be more entries."""
        return bool(self._ready) or any(one.more or one.buffer for one in self._sources)

    async def take(self, most: int) -> list[tuple[WebPartition, _T]]:
        """Return the next entries with their partitions, `most` unless the end is reached.

        A partition that can't be reached goes to `away`; raises `PartitionsAway` when that leaves none.
        """
        while len(self._ready) < most and any(one.more for one in self._sources):
            await self._read_on(most)
            self._settle()
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    async def _read_on(self, most: int) -> None:
        """Read the next page of the partitions that have few entries left."""
        count = min(most, most // len(self._sources) + _MORE) if len(self._sources) > 1 else most
        sources = {
            one.partition.number: one for one in self._sources if one.more and 2 * len(one.buffer) <= count
        }

        def read(partition: WebPartition) -> Awaitable[Page[_T]]:
            return self.read(partition, sources[partition.number].last, count)

        answers = await side_by_side([one.partition for one in sources.values()], read)
        for partition, page in answers.found:
            source = sources[partition.number]
            source.buffer.extend(page.entries)
            source.more = page.more
            if page.entries:
                source.last = page.entries[-1]
        for number in answers.away:
            sources[number].more = False
        self.away = sorted({*self.away, *answers.away})
        if not self._begun and len(self.away) == len(self._sources):
            raise PartitionsAway(self.away)
        self._begun = True

    def _settle(self) -> None:
        """Move entries to `_ready` down to the first one that another, not read yet, may precede."""
        open_ends = [self._order(one, one.last) for one in self._sources if one.more and one.last is not None]
        end = max(open_ends, default=None)
        settled = []
        for one in self._sources:
            while one.buffer and (end is None or self._order(one, one.buffer[0]) >= end):
                settled.append((one, one.buffer.popleft()))
        if len(self._sources) > 1:
            settled.sort(key=lambda pair: self._order(*pair), reverse=True)
        self._ready.extend((source.partition, entry) for source, entry in settled)

    def _order(self, source: _Source[_T], entry: _T) -> Any:
        return self.order(entry, source.partition.number)
