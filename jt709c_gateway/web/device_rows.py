"""Reads the last states of locks from one partition: the rows of the page's table."""

from collections.abc import Sequence
from typing import Any, Final, cast

import msgspec
import txredisapi
from attrs import define

from jt709c_gateway.protocol.events import LockState
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.device_summary import (
    DEVICE_FIELDS,
    SESSION_FIELDS,
    WRONG_TYPE,
    DeviceSummary,
    commands,
    known,
    summarise,
)
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import FLEET, Caller
from jt709c_gateway.util.timestamps import Timestamp
from jt709c_gateway.web import pagination

#: Devices per read, which takes some milliseconds of Redis and of the reactor.
AT_ONCE: Final = 200


class PeripheralSummary(msgspec.Struct):
    """A sub-lock or sensor behind a master, as it was last seen; None means unknown."""

    peripheral: str
    type: str | None
    seen: Timestamp | None
    lock_state: LockState | None
    battery_percent: int | None


_packed: Final = msgspec.msgpack.Decoder(list[list[str | bool]])

Raw = list[str | None]
"""The values of `DEVICE_FIELDS`, then those of `SESSION_FIELDS`, then those of `LABEL_FIELDS`."""
_STATE: Final = len(DEVICE_FIELDS)
_SESSION: Final = _STATE + len(SESSION_FIELDS)


@define(eq=False)
class DeviceRows:
    """Reads devices by their ids. Calls fail with txredisapi's errors."""

    caller: Caller
    keys: Keys

    async def changed_since(self, key: str, after: float, most: int) -> list[tuple[float, str]]:
        """Read at most `most` devices of a set sorted by time, those after a moment, oldest first."""
        flat = await self.caller.call(
            "ZRANGEBYSCORE", key, f"({after!r}", "+inf", "WITHSCORES", "LIMIT", 0, most
        )
        return [
            (float(score), device.decode("utf-8", "replace"))
            for device, score in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def summaries(self, devices: Sequence[str]) -> list[DeviceSummary]:
        """Read the summary of each device; that of an unknown device has only its id."""
        found: list[DeviceSummary] = []
        for start in range(0, len(devices), AT_ONCE):
            names = devices[start : start + AT_ONCE]
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

    async def peripherals(self, device: str) -> list[PeripheralSummary]:
        """Read the sub-locks and sensors of a master, last seen first."""
        page = await pagination.page(self.caller, self.keys.peripherals(device), AT_ONCE)
        found = []
        for _, name in page.entries:
            key = self.keys.peripheral(name)
            found.append((name, await self.caller.call("HMGET", key, *_PERIPHERAL_FIELDS)))
        return [_peripheral(name, raw) for name, raw in found]

    async def count(self, seen_since: float | None) -> int:
        """Count all devices, or those seen since a moment."""
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
    return summarise(device, raw[:_STATE], raw[_STATE:_SESSION], raw[_SESSION:])


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
