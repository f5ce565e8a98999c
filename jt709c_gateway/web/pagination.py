"""Reads sorted sets in pages, and searches streams of events backwards."""

from typing import Annotated, Any, Final

import msgspec
from attrs import frozen

from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.web.event_types import EVENT
from jt709c_gateway.web.query import Ranked

#: Stream entries per read, and the maximum per response.
_AT_ONCE: Final = 200
MAX_SCANNED: Final = 4000


@frozen
class Page:
    """Members with their scores as Redis formats them; `more` says whether there may be more."""

    members: list[Ranked]
    more: bool


async def page(
    caller: Caller, key: str, count: int, after: Ranked | None = None, least: float | None = None
) -> Page:
    """Read at most `count` (above 0) members of a sorted set, highest score first.

    `after` is the position to continue from, also among members of equal score; `least` is the lowest score.
    """
    lowest = "-inf" if least is None else repr(least)
    if after is None:
        found = await _read(caller, key, "+inf", lowest, 0, count)
        return Page(found, len(found) == count)
    # Members of equal score come in reverse lexical order: skip those up to the position.
    skipped = 0
    while True:
        found = await _read(caller, key, after[0], lowest, skipped, count)
        members = [one for one in found if one[0] != after[0] or one[1] < after[1]]
        if members or len(found) < count:
            return Page(members, len(found) == count)
        skipped += len(found)


async def _read(caller: Caller, key: str, most: str, least: str, skip: int, count: int) -> list[Ranked]:
    flat: list[Any] = await caller.call(
        "ZREVRANGEBYSCORE", key, most, least, "WITHSCORES", "LIMIT", skip, count
    )
    texts = [item.decode("utf-8", "replace") for item in flat]
    return list(zip(texts[1::2], texts[::2], strict=True))


class Entry(msgspec.Struct):
    """An entry of a stream: its id and the published event."""

    entry: Annotated[str, msgspec.Meta(pattern="^[0-9]+-[0-9]+$")]
    event: Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=EVENT)]


class Scan(msgspec.Struct):
    """The entries found, newest first; `next` is the cursor to continue from, None at the end.

    One answer looks at a bounded number of entries (`scanned`): there may be a `next` with few entries found,
    or none.
    """

    entries: list[Entry]
    next: str | None
    scanned: int


@frozen
class ScanQuery:
    """A filter: no `kinds` means all. Times are epoch seconds; `after` is the cursor of an earlier scan."""

    limit: int
    kinds: frozenset[str] = frozenset()
    device: str | None = None
    since: float | None = None
    until: float | None = None
    after: str | None = None

    def matches(self, kind: str, device: str) -> bool:
        """Whether an entry passes the filter."""
        return (not self.kinds or kind in self.kinds) and self.device in (None, device)


async def scan(caller: Caller, key: str, query: ScanQuery) -> Scan:
    """Search a stream of events (`jt709c:events`, `jt709c:history:<device>`), newest first."""
    newest = "+" if query.until is None else _at(query.until)
    oldest = "-" if query.since is None else _at(query.since)
    if query.after is not None:
        newest = _earlier(f"({query.after}", newest)
    found: list[Entry] = []
    scanned = 0
    last: str | None = None
    while scanned < MAX_SCANNED:
        page: list[Any] = await caller.call("XREVRANGE", key, newest, oldest, "COUNT", _AT_ONCE)
        for raw_id, flat in page:
            scanned += 1
            last = raw_id.decode()
            if (event := _event(flat, query)) is not None:
                found.append(Entry(last, event))
                if len(found) == query.limit:
                    return Scan(found, last, scanned)
        if len(page) < _AT_ONCE:
            return Scan(found, None, scanned)
        newest = f"({last}"
    return Scan(found, last, scanned)


def _at(moment: float) -> str:
    """The lowest entry id of a moment, not before 1970."""
    return str(max(0, int(moment * 1000)))


def _earlier(exclusive: str, newest: str) -> str:
    """The earlier of an exclusive cursor and the newest requested id."""
    at = int(exclusive[1:].partition("-")[0])
    return exclusive if newest == "+" or at <= int(newest) else newest


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
