"""Reads, filters and sorts the fleet, for `jt709c devices`."""

import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Final

import click
from attrs import frozen

from jt709c_gateway.cli import device_table
from jt709c_gateway.cli.console import console
from jt709c_gateway.cli.redis_client import Link
from jt709c_gateway.cli.redis_connection import FirstConnection
from jt709c_gateway.cli.redis_queries import ask
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis import device_summary
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.redis.keys import Keys

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


@frozen
class DeviceFilter:
    """A filter of devices; None and empty values match all.

    `silent_for` is in seconds. `texts` are looked for in id, IMEI, firmware, gateway and peer, in lower
    case; all of them have to be found. What isn't known of a device fits no filter that asks for it.
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
        """Whether the device passes the filter; `silent_for` is applied when reading."""
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


async def find(talking: RedisConnection, keys: Keys, wanted: DeviceFilter) -> DevicePage:
    """Read the matching devices, sorted; raise an error reply of Redis."""
    found: list[DeviceSummary] = []
    read = fitting = 0
    async for page in _pages(talking, keys, wanted):
        read += len(page)
        fits = [one for one in page if wanted.fits(one)]
        fitting += len(fits)
        found += fits
        if wanted.limit is not None and len(found) > wanted.limit + 10 * _PAGE:
            found = wanted.sorted(found)
    return DevicePage(wanted.sorted(found), read, fitting)


async def _pages(
    talking: RedisConnection, keys: Keys, wanted: DeviceFilter
) -> AsyncIterator[list[DeviceSummary]]:
    devices = await _ids(talking, keys, wanted)
    under_way = None
    for start in range(0, len(devices) + _PAGE, _PAGE):
        asked = devices[start : start + _PAGE]
        coming = talking.pipeline(device_summary.commands(keys, asked)) if asked else None
        if under_way is not None:
            names, replies = under_way
            yield device_summary.summaries(names, await replies)
        under_way = None if coming is None else (asked, coming)


async def _ids(talking: RedisConnection, keys: Keys, wanted: DeviceFilter) -> list[str]:
    """All devices there are, or those that are silent long enough, from the longest unheard on.

    In one reply, which is the fleet at one moment: in pages, a device that is heard while they are read
    would move from one to another, and be missed or be there twice.
    """
    until = "+inf" if wanted.silent_for is None else repr(time.time() - wanted.silent_for)
    reply: list[bytes] = await talking.call("ZRANGEBYSCORE", keys.devices, "-inf", until)
    return [device.decode("utf-8", "replace") for device in reply]


async def show(
    reactor: Any, link: Link, prefix: str, first: FirstConnection, wanted: DeviceFilter, as_json: bool
) -> int:
    """Print the matching devices; return the exit status."""

    async def question(talking: RedisConnection) -> DevicePage:
        return await find(talking, Keys(prefix), wanted)

    roster = await ask(reactor, link, prefix, first, "the fleet", question)
    if as_json:
        for one in roster.devices:
            click.echo(to_json(one))
        return 0
    if roster.devices:
        device_table.show(console(), roster.devices, datetime.now(UTC))
    notice(_summary(roster, wanted))
    return 0


def _summary(roster: DevicePage, wanted: DeviceFilter) -> str:
    online = sum(one.online for one in roster.devices)
    alarmed = sum(bool(one.alarms) for one in roster.devices)
    shown = f"{len(roster.devices)} of {roster.read} devices: {online} online, {alarmed} with alarms"
    if len(roster.devices) < roster.fitting:
        shown += f"; {roster.fitting - len(roster.devices)} more would fit (--limit {wanted.limit})"
    return shown
