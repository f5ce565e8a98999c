"""Reads sorted sets in pages, and searches streams of events backwards."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec
from attrs import frozen
from msgspec import UNSET, UnsetType

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.web.event_types import EVENT
from jt709c_gateway.web.merge import Merge, Page
from jt709c_gateway.web.partitioned_redis import WebPartition
from jt709c_gateway.web.query import Position, Ranked

#: Stream entries per read, and the maximum per response.
_AT_ONCE: Final = 200
MAX_SCANNED: Final = 4000


async def page(
    caller: Caller, key: str, count: int, after: Ranked | None = None, least: float | None = None
) -> Page[Ranked]:
    """Read at most `count` (above 0) members of a sorted set, highest score first, as Redis formats it.

    `after` is the position to continue from, also among members of equal score; `least` is the lowest score.
    """
    lowest = "-inf" if least is None else repr(least)
    if after is None:
        found = await _read(caller, key, "+inf", lowest, 0, count)
        return Page(found, len(found) == count)
    # Members of equal score come in reverse lexical order: skip those up to the position.
    position = rank(after)
    skipped = 0
    while True:
        found = await _read(caller, key, after[0], lowest, skipped, count)
        members = [one for one in found if rank(one) < position]
        if members or len(found) < count:
            return Page(members, len(found) == count)
        skipped += len(found)


def rank(member: Ranked) -> tuple[float, str]:
    """What members of sorted sets are ordered by."""
    return float(member[0]), member[1]


async def _read(caller: Caller, key: str, most: str, least: str, skip: int, count: int) -> list[Ranked]:
    flat: list[Any] = await caller.call(
        "ZREVRANGEBYSCORE", key, most, least, "WITHSCORES", "LIMIT", skip, count
    )
    texts = [item.decode("utf-8", "replace") for item in flat]
    return list(zip(texts[1::2], texts[::2], strict=True))


class Entry(msgspec.Struct):
    """An entry of a stream: its id and the published event.

    Where several partitions have such a stream, the number of the partition follows the id, after a colon.
    """

    entry: Annotated[str, msgspec.Meta(pattern="^[0-9]+-[0-9]+(:[0-9]+)?$")]
    event: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=EVENT)]


class Scan(msgspec.Struct):
    """The entries found, newest first; `next` is the cursor to continue from, None at the end.

    One answer looks at a bounded number of entries (`scanned`): there may be a `next` with few entries found,
    or none. `partitions_away` has the numbers of the partitions whose entries are missing.
    """

    entries: list[Entry]
    next: str | None
    scanned: int
    partitions_away: list[int] | UnsetType = UNSET


@frozen
class ScanQuery:
    """A filter: no `kinds` means all. Times are epoch seconds; `after` is the cursor of an earlier scan."""

    limit: int
    kinds: frozenset[str] = frozenset()
    device: str | None = None
    since: float | None = None
    until: float | None = None
    after: Position | None = None

    def matches(self, kind: str, device: str) -> bool:
        """Whether an entry passes the filter."""
        return (not self.kinds or kind in self.kinds) and self.device in (None, device)


_Found = tuple[str, list[bytes]]
"""An entry of a stream: its id, and its fields and values."""


async def scan(
    partitions: Sequence[WebPartition],
    key: Callable[[Keys], str],
    query: ScanQuery,
    *,
    numbered: bool = False,
) -> Scan:
    """Search streams of events (`jt709c:events`, `jt709c:history:<device>`), newest first.

    `numbered` says that there are more of them in other partitions. Then positions have the number of the
    partition, which orders entries of the same id.
    """
    oldest = "-" if query.since is None else _at(query.since)

    async def read(partition: WebPartition, after: _Found | None, count: int) -> Page[_Found]:
        newest = _newest(query, partition.number) if after is None else f"({after[0]}"
        found = await partition.redis.call("XREVRANGE", key(partition.keys), newest, oldest, "COUNT", count)
        return Page([(raw_id.decode(), flat) for raw_id, flat in found], len(found) == count)

    merge = Merge(partitions, read, lambda entry, number: (*_id(entry[0]), number))
    kept: list[Entry] = []
    scanned = 0
    last: str | None = None
    while scanned < MAX_SCANNED:
        for partition, (entry_id, flat) in await merge.take(_AT_ONCE):
            scanned += 1
            last = f"{entry_id}:{partition.number}" if numbered else entry_id
            if (event := _event(flat, query)) is not None:
                kept.append(Entry(last, event))
                if len(kept) == query.limit:
                    return Scan(kept, last, scanned, merge.away or UNSET)
        if not merge.more:
            return Scan(kept, None, scanned, merge.away or UNSET)
    return Scan(kept, last, scanned, merge.away or UNSET)


def _id(entry_id: str) -> tuple[int, int]:
    ms, _, number = entry_id.partition("-")
    return int(ms), int(number)


def _at(moment: float) -> str:
    """The lowest entry id of a moment, not before 1970."""
    return str(max(0, int(moment * 1000)))


def _newest(query: ScanQuery, partition: int) -> str:
    """The end of the range in which a partition's entries are."""
    newest = "+" if query.until is None else _at(query.until)
    if query.after is None:
        return newest
    after, number = query.after
    # Entries of the same id in lower partitions come after it.
    cursor = after if partition < number else f"({after}"
    at = int(after.partition("-")[0])
    return cursor if newest == "+" or at <= int(newest) else newest


def _event(flat: list[bytes], query: ScanQuery) -> msgspec.Raw | None:
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    kind, device = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"kind", b"device"))
    event = fields.get(b"event", b"")
    if not query.matches(kind, device):
        return None
    try:
        msgspec.json.decode(event, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not written by a gateway: skip it, or the whole response would be invalid JSON.
        return None
    return msgspec.Raw(event)
