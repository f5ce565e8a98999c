"""Reads and prints the audit trail of a device."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from attrs import define, frozen

from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part
from jt709c_gateway.cli.labels import full_name, labels_of
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.timeline import INDENT, Timeline
from jt709c_gateway.protocol.json_text import escape_text
from jt709c_gateway.redis.labels import Label

#: Entries per request.
_PAGE: Final = 500


Entry = tuple[bytes, list[bytes]]


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


@frozen
class Found:
    """A device, how it is called, its entries (oldest first), and whether there are older ones."""

    device: str
    label: Label | None
    entries: list[Entry]
    more: bool


async def find_entries(fleet: Fleet, wanted: HistoryFilter) -> Found:
    """Return what there is of a device; raise UserError if it is unknown."""
    name = wanted.name.upper()
    named = await resolve(fleet, name)
    part = await fleet.of(named.device)
    if named.sublock is not None:
        notice(f"{name} is a sub-lock of {named.device}")
    entries, more = await _read(part, part.keys.history(named.device), wanted)
    if not entries and not await _is_known(part, named.device):
        where = f"with the prefix {wanted.prefix}"
        raise UserError(f"{name}: such a device is unknown {where}; expected a device id or an IMEI")
    labels = await labels_of(fleet, [named.device])
    return Found(named.device, labels.get(named.device), entries, more)


async def _is_known(part: Part, device: str) -> bool:
    """Return whether the device has reported or received a command."""
    if await has_reported(part, device):
        return True
    return bool(await part.call("XREVRANGE", part.keys.history(device), "+", "-", "COUNT", 1))


async def _read(part: Part, key: str, wanted: HistoryFilter) -> tuple[list[Entry], bool]:
    """Return the newest matching entries, oldest first, and whether there are older ones."""
    oldest = "-" if wanted.since is None else str(max(0, int(wanted.since * 1000)))
    newest = "+"
    found: list[Entry] = []
    while len(found) <= wanted.limit:
        page: list[Entry] = await part.call("XREVRANGE", key, newest, oldest, "COUNT", _PAGE)
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


def print_entries(found: Found, wanted: HistoryFilter) -> None:
    """Print the entries of a history, as lines or JSON."""
    out, entries = console(), found.entries
    name = full_name(found.device, found.label)
    if wanted.as_json:
        for entry in entries:
            out.out(escape_text(_fields(entry)["event"]), highlight=False)
        return
    if not entries:
        notice(f"the history of {name} has no such entries")
        return
    out.print(f"history of {name}", style="bold", soft_wrap=True, markup=False)
    timeline = Timeline(wanted.local)
    for event in _events(entries):
        print_line(out, timeline.line(event), INDENT)
