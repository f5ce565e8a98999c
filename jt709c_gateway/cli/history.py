"""`jt709c history`: shows the audit trail of a device."""

from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec
from attrs import define

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import IntegerRange, check_device, local_option, redis_options
from jt709c_gateway.cli.redis_client import RedisOptions, query
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.time_format import read_since
from jt709c_gateway.cli.timeline import INDENT, Timeline
from jt709c_gateway.protocol.json_text import escape_text
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys

#: The kinds of events in a history (docs/redis.rst, "The audit trail").
_KINDS = ("command", "lock", "alarm")

#: Entries per request.
_PAGE: Final = 500
Entry = tuple[bytes, list[bytes]]


@click.command()
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only entries since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601, in UTC unless --local).",
)
@click.option(
    "--limit",
    type=IntegerRange(1),
    default=200,
    show_default=True,
    metavar="N",
    help="Show at most N entries, the newest.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(_KINDS),
    help="Only entries of this kind; repeatable.",
)
@local_option
@click.option("--json", "as_json", is_flag=True, help="Print the published JSON, one event per line.")
def history(
    device: str,
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    limit: int,
    kinds: tuple[str, ...],
    local: bool,
    as_json: bool,
) -> None:
    """Show the audit trail of the lock DEVICE: commands with sender and outcome, and events of the lock.

    DEVICE is a device id, an IMEI, or the id of a sub-lock, for which the trail of its master is shown. The
    states of a command are indented below it, each with the seconds since the command was given.

    \b
    Examples:
        jt709c history 794308010679 --since 7d
        jt709c history 794308010679 --kind command --json
    """
    wanted = HistoryFilter(prefix, device, read_since(since, local), limit, frozenset(kinds), local, as_json)
    name, entries, more = query(redis, prefix, "read a history", lambda connection: _find(connection, wanted))
    if more:
        notice(f"there are older entries; these are the newest {limit} (--limit)")
    _print(name, entries, wanted)


@define
class HistoryFilter:
    """The entries to show; `since` is in epoch seconds, no `kinds` means all."""

    prefix: str
    name: str
    since: float | None
    limit: int
    kinds: frozenset[str]
    local: bool
    as_json: bool

    @property
    def keys(self) -> Keys:
        """The names of keys."""
        return Keys(self.prefix)


async def _find(connection: RedisConnection, wanted: HistoryFilter) -> tuple[str, list[Entry], bool]:
    """Return device, entries (oldest first), and whether there are older ones; raise UserError if unknown."""
    keys, name = wanted.keys, wanted.name.upper()
    named = await resolve(connection, keys, name)
    if named.sublock is not None:
        notice(f"{name} is a sub-lock of {named.device}")
    entries, more = await _read(connection, keys.history(named.device), wanted)
    if not entries and not await _is_known(connection, keys, named.device):
        where = f"with the prefix {wanted.prefix}"
        raise UserError(f"{name}: such a device is unknown {where}; expected a device id or an IMEI")
    return named.device, entries, more


async def _is_known(connection: RedisConnection, keys: Keys, device: str) -> bool:
    """Return whether the device has reported or received a command."""
    if await has_reported(connection, keys, device):
        return True
    return bool(await connection.call("XREVRANGE", keys.history(device), "+", "-", "COUNT", 1))


async def _read(connection: RedisConnection, key: str, wanted: HistoryFilter) -> tuple[list[Entry], bool]:
    """Return the newest matching entries, oldest first, and whether there are older ones."""
    oldest = "-" if wanted.since is None else str(max(0, int(wanted.since * 1000)))
    newest = "+"
    found: list[Entry] = []
    while len(found) <= wanted.limit:
        page: list[Entry] = await connection.call("XREVRANGE", key, newest, oldest, "COUNT", _PAGE)
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
            notice(f"entry {plain(entry[0].decode('utf-8', 'replace'))} is not an event")


def _print(device: str, entries: list[Entry], wanted: HistoryFilter) -> None:
    out = console()
    if wanted.as_json:
        for entry in entries:
            out.out(escape_text(_fields(entry)["event"]), highlight=False)
        return
    if not entries:
        notice(f"the history of {device} has no such entries")
        return
    out.print(f"history of {device}", style="bold")
    timeline = Timeline(wanted.local)
    for event in _events(entries):
        print_line(out, timeline.line(event), INDENT)
