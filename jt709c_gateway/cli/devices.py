"""`jt709c devices`: shows the fleet."""

import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import click
from attrs import frozen
from rich.control import Control
from twisted.internet import task

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.console import console
from jt709c_gateway.cli.device_table import device_columns
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import IntegerRange, local_option, output_options, redis_options
from jt709c_gateway.cli.redis_client import RedisOptions, query
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.table import Output, print_records, print_table
from jt709c_gateway.cli.time_format import date_and_time, read_duration
from jt709c_gateway.protocol.alarms import NAMES
from jt709c_gateway.protocol.dialects import DIALECTS, SENTENCE
from jt709c_gateway.redis import device_summary
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.redis.keys import Keys

#: Seconds between refreshes with --watch, and lines of the screen beside the table.
_WATCH_EVERY: Final = 2.0
_LINES_AROUND: Final = 2
#: Devices per request; a page is processed while the server prepares the next one.
_PAGE: Final = 500
#: The sort keys; None sorts last. ISO 8601 times sort as text.
SORTS: Final[dict[str, Callable[[DeviceSummary], Any]]] = {
    "seen": lambda one: one.seen,
    "device": lambda one: (len(one.device), one.device),
    "imei": lambda one: one.imei,
    "battery": lambda one: one.battery_percent,
    "signal": lambda one: one.gsm_signal,
    "state": lambda one: one.lock_state,
    "alarms": lambda one: len(one.alarms),
    "gateway": lambda one: one.gateway,
    "since": lambda one: one.since,
    "speed": lambda one: one.speed_kmh,
}
#: Descending keys: the latest, the most, the fastest first.
FALLING: Final = frozenset(["seen", "alarms", "since", "speed"])


@click.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@redis_options
@click.option("--online/--offline", default=None, help="Only connected, or only disconnected devices.")
@click.option("--state", type=click.Choice(["locked", "unlocked"]), help="Only devices in this state.")
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    metavar="NAME",
    shell_complete=completion_values.alarms,
    help="Only devices with this alarm; repeatable (any of them).",
)
@click.option("--with-alarms", is_flag=True, help="Only devices with any alarm.")
@click.option(
    "--battery-below", type=IntegerRange(0, 101), metavar="N", help="Only devices below N % battery."
)
@click.option("--silent-for", metavar="DURATION", help="Only devices silent for at least 90s, 30m, 2h, 7d.")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice([*DIALECTS, SENTENCE]),
    help="Only this dialect; repeatable.",
)
@click.option(
    "--gateway", "gateways", multiple=True, metavar="NAME", help="Only devices of this gateway; repeatable."
)
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    default="seen",
    show_default=True,
    help="Sort key; unknown values come last.",
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=IntegerRange(1), metavar="N", help="Show at most N devices.")
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Show the fleet, read every 2 s, until interrupted.",
)
@local_option
@output_options
def devices(
    texts: tuple[str, ...],
    redis: RedisOptions,
    prefix: str,
    silent_for: str | None,
    watch: bool,
    local: bool,
    output: str,
    **filters: Any,
) -> None:
    """Show the fleet: each device with lock state, battery, signal, alarms, the time of its last report, and
    its gateway. The last seen devices come first.

    On a narrow terminal, columns that do not fit are left out; -o wide shows all of them.

    A device must pass all filters. Each TEXT is searched in device id, IMEI, firmware, gateway and peer. An
    unknown value passes no filter.

    \b
    Examples:
        jt709c devices --with-alarms
        jt709c devices --online -w
        jt709c devices --silent-for 2h -o csv
        jt709c devices --offline --silent-for 2h --sort seen --reverse
        jt709c devices --state unlocked --battery-below 20 --limit 10
        jt709c devices 867284 --json | jq -r .device
    """
    for name in filters["alarms"]:
        if name not in NAMES and re.fullmatch(r"bit_\d{1,2}", name) is None:
            known = ", ".join([*NAMES, "bit_<n>"])
            raise UserError(f"--alarm: {name!r} is not an alarm; expected one of {known}")
    filters |= {name: frozenset(filters[name]) for name in ("alarms", "dialects", "gateways")}
    filters["texts"] = tuple(text.lower() for text in texts)
    if silent_for is not None:
        filters["silent_for"] = read_duration("--silent-for", silent_for)
    wanted = DeviceFilter(**filters)
    table = output in (Output.TABLE, Output.WIDE)
    if watch:
        if not table or not console().is_terminal:
            raise UserError("--watch: expected a terminal, and -o table or wide")
        query(redis, prefix, "read the fleet", _Screen(Keys(prefix), wanted, output, local).show)
        return
    page = query(redis, prefix, "read the fleet", lambda connection: find(connection, Keys(prefix), wanted))
    columns = device_columns(datetime.now(UTC), local)
    print_records(page.devices, columns, DeviceSummary.__struct_fields__, output)
    if table:
        notice(_summary(page, wanted))


@frozen
class DeviceFilter:
    """A filter of devices; None and empty values match all.

    `silent_for` is in seconds. All `texts`, in lower case, must be found in id, IMEI, firmware, gateway or
    peer. An unknown value passes no filter.
    """

    online: bool | None = None
    state: str | None = None
    alarms: frozenset[str] = frozenset()
    with_alarms: bool = False
    battery_below: int | None = None
    silent_for: float | None = None
    dialects: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
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


def _has(one: DeviceSummary, texts: tuple[str, ...]) -> bool:
    where = (one.device, one.imei, one.firmware, one.gateway, one.peer)
    hay = "\n".join(text for text in where if text).lower()
    return all(text in hay for text in texts)


@frozen
class DevicePage:
    """The devices to show, and how many were read and how many matched."""

    devices: list[DeviceSummary]
    read: int
    fitting: int


async def find(connection: RedisConnection, keys: Keys, wanted: DeviceFilter) -> DevicePage:
    """Read the matching devices, sorted; raise an error reply of Redis."""
    found: list[DeviceSummary] = []
    read = fitting = 0
    async for page in _pages(connection, keys, wanted):
        read += len(page)
        fits = [one for one in page if wanted.fits(one)]
        fitting += len(fits)
        found += fits
        if wanted.limit is not None and len(found) > wanted.limit + 10 * _PAGE:
            found = wanted.sorted(found)
    return DevicePage(wanted.sorted(found), read, fitting)


async def _pages(
    connection: RedisConnection, keys: Keys, wanted: DeviceFilter
) -> AsyncIterator[list[DeviceSummary]]:
    devices = await _ids(connection, keys, wanted)
    under_way = None
    for start in range(0, len(devices) + _PAGE, _PAGE):
        asked = devices[start : start + _PAGE]
        coming = connection.pipeline(device_summary.commands(keys, asked)) if asked else None
        if under_way is not None:
            names, replies = under_way
            yield device_summary.summaries(names, await replies)
        under_way = None if coming is None else (asked, coming)


async def _ids(connection: RedisConnection, keys: Keys, wanted: DeviceFilter) -> list[str]:
    """Return all devices, or those silent for long enough, the longest silent first.

    One reply has the fleet at one moment; in pages, a device that reports while they are read would
    be missed or be there twice.
    """
    until = "+inf" if wanted.silent_for is None else repr(time.time() - wanted.silent_for)
    reply: list[bytes] = await connection.call("ZRANGEBYSCORE", keys.devices, "-inf", until)
    return [device.decode("utf-8", "replace") for device in reply]


@frozen
class _Screen:
    """Shows the matching devices again and again, on the alternate screen of the terminal."""

    keys: Keys
    wanted: DeviceFilter
    output: str
    local: bool

    async def show(self, connection: RedisConnection) -> None:
        """Show them until cancelled."""
        from twisted.internet import reactor

        out = console()
        with out.screen(hide_cursor=True):
            while True:
                page = await find(connection, self.keys, self.wanted)
                now = datetime.now(UTC)
                title = f"{date_and_time(now, self.local)}  {_summary(page, self.wanted)}"
                out.control(Control.home(), Control.clear())
                out.print(title[: out.width], style="bold", soft_wrap=True)
                columns, rows = device_columns(now, self.local), out.height - _LINES_AROUND
                print_table(out, page.devices, columns, wide=self.output == Output.WIDE, rows=rows)
                await task.deferLater(reactor, _WATCH_EVERY)


def _summary(page: DevicePage, wanted: DeviceFilter) -> str:
    online = sum(one.online for one in page.devices)
    alarmed = sum(bool(one.alarms) for one in page.devices)
    shown = f"{len(page.devices)} of {page.read} devices: {online} online, {alarmed} with alarms"
    if len(page.devices) < page.fitting:
        shown += f"; {page.fitting - len(page.devices)} more would fit (--limit {wanted.limit})"
    return shown
