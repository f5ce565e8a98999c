"""Reads the last states of locks: the rows of the page's table."""

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
import txredisapi
from attrs import define

from jt709c_gateway.protocol.events import LockState, to_json
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.device_summary import (
    DEVICE_FIELDS,
    WRONG_TYPE,
    DeviceSummary,
    commands,
    known,
    summarise,
)
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import FLEET, Caller
from jt709c_gateway.util.timestamps import Timestamp, iso
from jt709c_gateway.web import pagination
from jt709c_gateway.web.query import Ranked

#: Devices per read, which takes some milliseconds of Redis and of the reactor.
_AT_ONCE: Final = 200
MAX_DEVICES: Final = 20_000


class PageEnd(msgspec.Struct):
    """The fields of a `DevicePage` behind its devices."""

    next: str | None
    total: int
    as_of: Timestamp


class DevicePage(PageEnd):
    """Locks, last seen first; `next` is the cursor of the next page, None at the end.

    `total` is the number of all locks, or of those seen since the given time. The states are of `as_of`.
    """

    devices: list[DeviceSummary]


class PeripheralSummary(msgspec.Struct):
    """A sub-lock or sensor behind a master, as it was last seen; None means unknown."""

    peripheral: str
    type: str | None
    seen: Timestamp | None
    lock_state: LockState | None
    battery_percent: int | None


_packed: Final = msgspec.msgpack.Decoder(list[list[str | bool]])

Raw = list[str | None]
"""The values of `DEVICE_FIELDS`, then those of `SESSION_FIELDS`."""


@define(eq=False)
class DeviceTable:
    """Reads device summaries page by page."""

    store: CommandStore

    @property
    def caller(self) -> Caller:
        """The connection to Redis."""
        return self.store.caller

    @property
    def keys(self) -> Keys:
        """The names of keys."""
        return self.store.keys

    async def read(self, limit: int, after: Ranked | None, seen_since: float | None, now: float) -> bytes:
        """Read at most `limit` locks, last seen first, as JSON. Times are in epoch seconds.

        The JSON is assembled page by page, since 10,000 locks are some megabytes. Raises txredisapi's errors.
        """
        pieces: list[bytes] = []
        count, more = 0, True
        while more and count < limit:
            page = await pagination.page(
                self.caller, self.keys.devices, min(_AT_ONCE, limit - count), after, seen_since
            )
            if page.members:
                count += len(page.members)
                found = await self.summaries([device for _, device in page.members])
                pieces.append(to_json(found)[1:-1])
                after = page.members[-1]
            more = page.more
        end = PageEnd(":".join(after) if more and after else None, await self._count(seen_since), iso(now))
        return b'{"devices":[%b],%b' % (b",".join(pieces), msgspec.json.encode(end)[1:])

    async def heard_since(self, after: float, most: int) -> list[tuple[float, str]]:
        """Read at most `most` devices seen after a moment, with that time, oldest first."""
        flat = await self.caller.call(
            "ZRANGEBYSCORE", self.keys.devices, f"({after!r}", "+inf", "WITHSCORES", "LIMIT", 0, most
        )
        return [
            (float(score), device.decode("utf-8", "replace"))
            for device, score in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def summaries(self, devices: Sequence[str]) -> list[DeviceSummary]:
        """Read the summary of each device; that of an unknown device has only its id."""
        found: list[DeviceSummary] = []
        for start in range(0, len(devices), _AT_ONCE):
            names = devices[start : start + _AT_ONCE]
            found += [_summary(name, raw) for name, raw in zip(names, await self._raw(names), strict=True)]
        return found

    async def one(self, device: str) -> tuple[DeviceSummary, dict[str, Any] | None] | None:
        """Read a lock and its last location; None if the lock has never reported."""
        [raw] = await self._raw([device])
        found = _summary(device, raw)
        if found.seen is None:
            return None
        location = raw[DEVICE_FIELDS.index("location")]
        return found, None if location is None else _object(location)

    async def resolve(self, name: str) -> str:
        """Resolve a device id, with or without leading zeros, an IMEI, or a sub-lock id to the device id."""
        return (await self.store.look_up(name)).device

    async def peripherals(self, device: str) -> list[PeripheralSummary]:
        """Read the sub-locks and sensors of a master, last seen first."""
        page = await pagination.page(self.caller, self.keys.peripherals(device), _AT_ONCE)
        found = []
        for _, name in page.members:
            key = self.keys.peripheral(name)
            found.append((name, await self.caller.call("HMGET", key, *_PERIPHERAL_FIELDS)))
        return [_peripheral(name, raw) for name, raw in found]

    async def _count(self, seen_since: float | None) -> int:
        if seen_since is None:
            return int(await self.caller.call("ZCARD", self.keys.devices))
        return int(await self.caller.call("ZCOUNT", self.keys.devices, repr(seen_since), "+inf"))

    async def _raw(self, devices: Sequence[str]) -> list[Raw]:
        if not devices:
            return []
        try:
            packed = await scripts.run(self.caller, FLEET, [self.keys.devices], [self.keys.prefix, *devices])
            return [
                [value if isinstance(value, str) else None for value in fields]
                for fields in _packed.decode(packed)
            ]
        except UnicodeDecodeError:
            pass
        except txredisapi.ResponseError as error:
            if WRONG_TYPE not in str(error):
                raise
        # One key is malformed: read them one by one, so that only its values are unknown.
        return [await self._raw_one(device) for device in devices]

    async def _raw_one(self, device: str) -> Raw:
        values: Raw = []
        for command, key, *names in commands(self.keys, [device]):
            try:
                reply = await self.caller.call(command, key, *names)
            except txredisapi.ResponseError as error:
                reply = error
            values += [
                one.decode("utf-8", "replace") if isinstance(one, bytes) else one
                for one in known(reply, names)
            ]
        return values


_PERIPHERAL_FIELDS: Final = ("type", "seen", "lock_state", "battery_percent")


def _peripheral(name: str, raw: Sequence[bytes | None]) -> PeripheralSummary:
    kind, seen, state, battery = (None if one is None else one.decode("utf-8", "replace") for one in raw)
    return PeripheralSummary(name, kind, seen, cast(LockState | None, state), _number(battery))


def _summary(device: str, raw: Raw) -> DeviceSummary:
    return summarise(device, raw[: len(DEVICE_FIELDS)], raw[len(DEVICE_FIELDS) :])


def _number(text: str | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _object(text: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return None
