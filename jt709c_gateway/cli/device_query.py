"""Reads the devices that pass a filter, and shows them until interrupted."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import txredisapi
from attrs import frozen
from rich.control import Control
from twisted.internet import defer, task

from jt709c_gateway.cli.console import console
from jt709c_gateway.cli.device_sort import FALLING, SORTS
from jt709c_gateway.cli.device_table import device_columns
from jt709c_gateway.cli.fleet import Fleet, Part, merged
from jt709c_gateway.cli.output import Output
from jt709c_gateway.cli.table import print_table
from jt709c_gateway.cli.time_format import date_and_time
from jt709c_gateway.redis import device_summary
from jt709c_gateway.redis.device_summary import DeviceSummary

#: Seconds between refreshes with --watch, and lines of the screen beside the table.
_WATCH_EVERY: Final = 2.0


_LINES_AROUND: Final = 2


#: Devices per request; a page is processed while the server prepares the next one.
_PAGE: Final = 500

#: A device to read, with its partition.
_Listed = tuple[Part, str]


@frozen
class DeviceFilter:
    """A filter of devices; None and empty values match all.

    `silent_for` is in seconds. All `texts`, casefolded, must be found in label, id, IMEI, firmware, gateway
    or peer; `groups` are casefolded, too. An unknown value passes no filter.
    """

    online: bool | None = None
    state: str | None = None
    alarms: frozenset[str] = frozenset()
    with_alarms: bool = False
    battery_below: int | None = None
    silent_for: float | None = None
    dialects: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()
    sort: str = "seen"
    reverse: bool = False
    limit: int | None = None

    def fits(self, one: DeviceSummary) -> bool:
        """Return whether the device passes the filter; `silent_for` is applied when reading."""
        battery = one.battery_percent
        return (
            (self.online is None or one.online == self.online)
            and (self.state is None or one.lock_state == self.state)
            and (not self.with_alarms or bool(one.alarms))
            and (not self.alarms or not self.alarms.isdisjoint(one.alarms))
            and (self.battery_below is None or (battery is not None and battery < self.battery_below))
            and (not self.dialects or one.dialect in self.dialects)
            and (not self.gateways or one.gateway in self.gateways)
            and (not self.groups or _group(one) in self.groups)
            and (not self.texts or _has(one, self.texts))
        )

    def sorted(self, found: list[DeviceSummary]) -> list[DeviceSummary]:
        """Sort the devices, unknown values last, and apply the limit."""
        key = SORTS[self.sort]
        known = sorted(
            (one for one in found if key(one) is not None),
            key=key,
            reverse=(self.sort in FALLING) != self.reverse,
        )
        unknown = [one for one in found if key(one) is None]
        return (known + unknown)[: self.limit]


def _group(one: DeviceSummary) -> str:
    return ((one.label and one.label.group) or "").casefold()


def _has(one: DeviceSummary, texts: tuple[str, ...]) -> bool:
    where = (one.device, one.imei, one.firmware, one.gateway, one.peer)
    label = one.label.values() if one.label else ()
    hay = "\n".join(text for text in (*where, *label) if text).casefold()
    return all(text in hay for text in texts)


@frozen
class DevicePage:
    """The devices to show, how many were read and how many matched, and the partitions that are away."""

    devices: list[DeviceSummary]
    read: int
    fitting: int
    away: Mapping[int, str] = {}


async def find(fleet: Fleet, wanted: DeviceFilter) -> DevicePage:
    """Read the matching devices, sorted; raise an error reply of Redis."""
    found: list[DeviceSummary] = []
    read = fitting = 0
    async for page in _pages(fleet, wanted):
        read += len(page)
        fits = [one for one in page if wanted.fits(one)]
        fitting += len(fits)
        found += fits
        if wanted.limit is not None and len(found) > wanted.limit + 10 * _PAGE:
            found = wanted.sorted(found)
    return DevicePage(wanted.sorted(found), read, fitting, dict(fleet.away))


async def _pages(fleet: Fleet, wanted: DeviceFilter) -> AsyncIterator[list[DeviceSummary]]:
    devices = await _ids(fleet, wanted)
    under_way = None
    for start in range(0, len(devices) + _PAGE, _PAGE):
        asked = devices[start : start + _PAGE]
        coming = [(part, ids, _ask(part, ids)) for part, ids in _by_part(asked)]
        if under_way is not None:
            page, replies = under_way
            yield await _summaries(fleet, page, replies)
        under_way = (asked, coming) if asked else None


def _by_part(asked: Sequence[_Listed]) -> list[tuple[Part, list[str]]]:
    """Return the devices of each partition, in order."""
    found: dict[Part, list[str]] = {}
    for part, device in asked:
        found.setdefault(part, []).append(device)
    return list(found.items())


def _ask(part: Part, devices: Sequence[str]) -> "defer.Deferred[list[Any]]":
    """Ask for the devices of a partition; an error is the only reply."""
    asked = part.pipeline(device_summary.commands(part.keys, devices))
    return asked.addErrback(lambda failure: [failure.value])


async def _summaries(
    fleet: Fleet,
    page: Sequence[_Listed],
    replies: "Sequence[tuple[Part, list[str], defer.Deferred[list[Any]]]]",
) -> list[DeviceSummary]:
    """Read the replies of all partitions, in the order of the page; leave out partitions that went away."""
    found: dict[Part, Iterator[DeviceSummary]] = {}
    for part, devices, coming in replies:
        answer = await coming
        lost = next((one for one in answer if isinstance(one, txredisapi.ConnectionError)), None)
        if lost is None:
            found[part] = iter(device_summary.summaries(devices, answer))
        else:
            fleet.lost(part, lost)
    return [next(found[part]) for part, _ in page if part in found]


async def _ids(fleet: Fleet, wanted: DeviceFilter) -> list[_Listed]:
    """Return all devices, or those silent for long enough, the longest silent first.

    One reply of each partition has its devices at one moment; in pages, a device that reports while they are
    read would be missed or be there twice.
    """
    until = "+inf" if wanted.silent_for is None else repr(time.time() - wanted.silent_for)

    async def read(part: Part) -> list[tuple[float, bytes, Part]]:
        asked = ("ZRANGEBYSCORE", part.keys.devices, "-inf", until)
        if fleet.layout.count == 1:
            return [(0.0, device, part) for device in await part.call(*asked)]
        flat = await part.call(*asked, "WITHSCORES")
        return [(float(seen), device, part) for device, seen in zip(flat[::2], flat[1::2], strict=True)]

    in_order = merged(await fleet.each(read), lambda one: one[:2])
    return [(part, device.decode("utf-8", "replace")) for _, device, part in in_order]


@frozen
class Screen:
    """Shows the matching devices again and again, on the alternate screen of the terminal."""

    wanted: DeviceFilter
    output: str
    local: bool

    async def show(self, fleet: Fleet) -> None:
        """Show them until cancelled."""
        from twisted.internet import reactor

        out = console()
        with out.screen(hide_cursor=True):
            while True:
                page = await find(fleet, self.wanted)
                now = datetime.now(UTC)
                title = f"{date_and_time(now, self.local)}  {page_summary(page, self.wanted)}"
                out.control(Control.home(), Control.clear())
                out.print(title[: out.width], style="bold", soft_wrap=True)
                columns, rows = device_columns(now, self.local, page.devices), out.height - _LINES_AROUND
                print_table(out, page.devices, columns, wide=self.output == Output.WIDE, rows=rows)
                await task.deferLater(reactor, _WATCH_EVERY)


def page_summary(page: DevicePage, wanted: DeviceFilter) -> str:
    """Format the numbers of devices that are shown and that there are."""
    online = sum(one.online for one in page.devices)
    alarmed = sum(bool(one.alarms) for one in page.devices)
    shown = f"{len(page.devices)} of {page.read} devices: {online} online, {alarmed} with alarms"
    if len(page.devices) < page.fitting:
        shown += f"; {page.fitting - len(page.devices)} more would fit (--limit {wanted.limit})"
    if page.away:
        shown += f"; without partition {', '.join(map(str, sorted(page.away)))}"
    return shown
