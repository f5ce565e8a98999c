"""Reading streams of events backwards, a bounded number of entries at a time."""

from typing import Any, Final

import msgspec
from attrs import frozen

from jt709c_gateway.redis.scripts import Caller

#: Entries read at a time, and at most for one answer.
_AT_ONCE: Final = 200
MAX_SCANNED: Final = 4000


class Entry(msgspec.Struct):
    """An entry of a stream: its id, and the event as it was published."""

    entry: str
    event: msgspec.Raw


class Scan(msgspec.Struct):
    """What was found, newest first; `next` is where to go on, None at the end."""

    entries: list[Entry]
    next: str | None
    scanned: int


@frozen
class Wanted:
    """What to look for: no `kinds` are all. Times in epoch seconds; `after` is where a scan ended."""

    limit: int
    kinds: frozenset[str] = frozenset()
    device: str | None = None
    since: float | None = None
    until: float | None = None
    after: str | None = None

    def takes(self, kind: str, device: str) -> bool:
        """Whether an entry is wanted."""
        return (not self.kinds or kind in self.kinds) and self.device in (None, device)


async def scan(caller: Caller, key: str, wanted: Wanted) -> Scan:
    """Entries of a stream of events (`jt709c:events`, `jt709c:history:<device>`), newest first."""
    newest = "+" if wanted.until is None else _at(wanted.until)
    oldest = "-" if wanted.since is None else _at(wanted.since)
    if wanted.after is not None:
        newest = _earlier(f"({wanted.after}", newest)
    found: list[Entry] = []
    scanned = 0
    last: str | None = None
    while scanned < MAX_SCANNED:
        page: list[Any] = await caller.call("XREVRANGE", key, newest, oldest, "COUNT", _AT_ONCE)
        for raw_id, flat in page:
            scanned += 1
            last = raw_id.decode()
            if (event := _event(flat, wanted)) is not None:
                found.append(Entry(last, event))
                if len(found) == wanted.limit:
                    return Scan(found, last, scanned)
        if len(page) < _AT_ONCE:
            return Scan(found, None, scanned)
        newest = f"({last}"
    return Scan(found, last, scanned)


def _at(moment: float) -> str:
    """The first id that an entry of this moment can have; there are none before 1970."""
    return str(max(0, int(moment * 1000)))


def _earlier(exclusive: str, newest: str) -> str:
    """The earlier of the end of an earlier scan and the newest that is asked for."""
    at = int(exclusive[1:].partition("-")[0])
    return exclusive if newest == "+" or at <= int(newest) else newest


def _event(flat: list[bytes], wanted: Wanted) -> msgspec.Raw | None:
    fields = dict(zip(flat[::2], flat[1::2], strict=False))
    kind, device = (fields.get(name, b"").decode("utf-8", "replace") for name in (b"kind", b"device"))
    event = fields.get(b"event", b"")
    if not wanted.takes(kind, device):
        return None
    try:
        msgspec.json.decode(event, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Nobody but the gateway should write here; what is no event would spoil the whole answer.
        return None
    return msgspec.Raw(event)
