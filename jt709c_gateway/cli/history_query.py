"""Reading a device's history out of Redis, for `jt709c history`."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from attrs import define

from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.redis_client import Link
from jt709c_gateway.cli.redis_connection import FirstConnection
from jt709c_gateway.cli.redis_queries import ask
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.timeline import Timeline
from jt709c_gateway.protocol.json_text import escape_text
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys

#: Entries asked for at a time.
_PAGE: Final = 500

Entry = tuple[bytes, list[bytes]]


@define
class HistoryFilter:
    """What to show. `since` is in epoch seconds; no `kinds` are all."""

    prefix: str
    name: str
    since: float | None
    limit: int
    kinds: frozenset[str]
    as_json: bool

    @property
    def keys(self) -> Keys:
        """The names of keys."""
        return Keys(self.prefix)


async def show(reactor: Any, link: Link, first: FirstConnection, wanted: HistoryFilter) -> int:
    """Print the history; the exit status."""

    async def find(talking: RedisConnection) -> tuple[str, list[Entry], bool]:
        return await _find(talking, wanted)

    device, entries, more = await ask(reactor, link, wanted.prefix, first, "a history", find)
    if more:
        notice(f"there are older entries; these are the newest {wanted.limit} (--limit)")
    _print(device, entries, wanted)
    return 0


async def _find(talking: RedisConnection, wanted: HistoryFilter) -> tuple[str, list[Entry], bool]:
    """The device, its entries, oldest first, and whether there are older ones; UserError if unknown."""
    keys, name = wanted.keys, wanted.name.upper()
    named = await resolve(talking, keys, name)
    if named.sublock is not None:
        notice(f"{name} is a sub-lock of {named.device}")
    entries, more = await _read(talking, keys.history(named.device), wanted)
    if not entries and not await _is_known(talking, keys, named.device):
        where = f"with the prefix {wanted.prefix}"
        raise UserError(f"{name}: nothing is known of such a device {where}; expected a device id or an IMEI")
    return named.device, entries, more


async def _is_known(talking: RedisConnection, keys: Keys, device: str) -> bool:
    """Whether it has reported, or somebody has given a command for it."""
    if await has_reported(talking, keys, device):
        return True
    return bool(await talking.call("XREVRANGE", keys.history(device), "+", "-", "COUNT", 1))


async def _read(talking: RedisConnection, key: str, wanted: HistoryFilter) -> tuple[list[Entry], bool]:
    """The newest entries that are wanted, oldest first, and whether there are older ones."""
    oldest = "-" if wanted.since is None else str(max(0, int(wanted.since * 1000)))
    newest = "+"
    found: list[Entry] = []
    while len(found) <= wanted.limit:
        page: list[Entry] = await talking.call("XREVRANGE", key, newest, oldest, "COUNT", _PAGE)
        found += [entry for entry in page if not wanted.kinds or _fields(entry)["kind"] in wanted.kinds]
        if len(page) < _PAGE:
            break
        newest = f"({page[-1][0].decode()}"
    return found[: wanted.limit][::-1], len(found) > wanted.limit


def _fields(entry: Entry) -> dict[str, str]:
    texts = [item.decode("utf-8", "replace") for item in entry[1]]
    return {"kind": "", "event": "", **dict(zip(texts[::2], texts[1::2], strict=False))}


def _events(entries: list[Entry]) -> Iterator[dict[str, Any]]:
    for entry in entries:
        try:
            yield msgspec.json.decode(_fields(entry)["event"], type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            notice(f"entry {plain(entry[0].decode('utf-8', 'replace'))} is no event")


def _print(device: str, entries: list[Entry], wanted: HistoryFilter) -> None:
    out = console()
    if wanted.as_json:
        for entry in entries:
            out.out(escape_text(_fields(entry)["event"]), highlight=False)
        return
    if not entries:
        notice(f"nothing of the kind is in the history of {device}")
        return
    out.print(f"history of {device}, times in UTC", style="bold")
    timeline = Timeline()
    for event in _events(entries):
        out.print(timeline.line(event), soft_wrap=True)
