"""Reads from Redis what commands need to know of devices."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer

from jt709c_gateway.protocol.device_id import canonical, may_be_sublock
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_store_types import Known, Unasked
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller


def as_text(value: bytes | None) -> str | None:
    """Decode a value; None stays None."""
    return None if value is None else value.decode("utf-8", "replace")


class DeviceQueries:
    """Reads devices, sub-locks and sessions. Calls fail with txredisapi's errors."""

    caller: Caller
    keys: Keys

    async def look_up(self, name: str) -> Known:
        """Return the device that `name` stands for: an IMEI, a device id without leading zeros, or a sub-lock
        id.

        A device that has reported itself takes precedence over a sub-lock of the same id.
        """
        alias = await self.device_with(name)
        device = alias or canonical(name)
        dialect, firmware, seen = await self.caller.call(
            "HMGET", self.keys.device(device), "dialect", "firmware", "seen"
        )
        if alias is None and seen is None and may_be_sublock(name):
            found = await self.look_up_sublock(name)
            if found is not None:
                return found[0]
        return Known(device, as_text(dialect), as_text(firmware), alias)

    async def device_with(self, imei: str) -> str | None:
        """Return the device that has reported this IMEI."""
        return as_text(await self.caller.call("HGET", self.keys.imei, imei))

    async def look_up_device(self, device: str, alias: str | None = None) -> tuple[Known, str | None]:
        """Return what is known of a device, and its IMEI; None for that of an unknown device."""
        dialect, firmware, seen, imei = await self.caller.call(
            "HMGET", self.keys.device(device), "dialect", "firmware", "seen", "imei"
        )
        known = Known(device, as_text(dialect), as_text(firmware), alias)
        return known, None if seen is None else as_text(imei) or ""

    async def look_up_sublock(self, name: str) -> tuple[Known, float] | None:
        """Return the master of a sub-lock with its type, and when it last reported, in epoch seconds.

        None when it has not reported.
        """
        master, kind, time = await self.caller.call(
            "HMGET", self.keys.peripheral(name), "device", "type", "time"
        )
        if master is None:
            return None
        device = master.decode("utf-8", "replace")
        dialect, firmware = await self.caller.call("HMGET", self.keys.device(device), "dialect", "firmware")
        known = Known(device, as_text(dialect), as_text(firmware), None, name, as_text(kind))
        return known, float(time or 0)

    async def peripheral_type(self, peripheral: str) -> str | None:
        """Return the type of a sub-lock or sensor; None when it has not reported."""
        return as_text(await self.caller.call("HGET", self.keys.peripheral(peripheral), "type"))

    async def may_ask(self, device: str, now: float, every: float) -> Unasked | None:
        """Return the known identity if the device may be queried now, which is once in `every` seconds."""
        reply = await scripts.run(
            self.caller, scripts.ASK, [self.keys.device(device)], [f"{now:.0f}", f"{every:.0f}"]
        )
        return None if reply is None else Unasked(*map(as_text, reply))

    async def tokens(self, devices: Sequence[str]) -> list[str | None]:
        """Return the token of each device's session in Redis; None for a device without one."""
        asked = [self.caller.call("HGET", self.keys.session(device), "token") for device in devices]
        try:
            found: list[bytes | None] = await defer.gatherResults(asked, consumeErrors=True)
        except defer.FirstError as error:
            failure: Any = error.subFailure
            raise failure.value from None
        return [as_text(one) for one in found]

    async def session_peer(self, device: str) -> tuple[str, str] | None:
        """Return gateway and peer of a device's session in Redis, or None."""
        found = await self.caller.call("HMGET", self.keys.session(device), "gateway", "peer")
        gateway, peer = map(as_text, found)
        return None if gateway is None else (gateway, peer or "")

    async def known(self, devices: Sequence[str]) -> list[bool]:
        """Return for each device whether Redis has its state."""
        return [bool(found) for found in await self._each("EXISTS", self.keys.device, devices)]

    async def any_waiting(self, devices: Sequence[str]) -> list[str]:
        """Return the devices for which commands wait."""
        counts = await self._each("LLEN", self.keys.waiting, devices)
        return [device for device, count in zip(devices, counts, strict=True) if count]

    async def _each(self, command: str, key: Callable[[str], str], devices: Sequence[str]) -> list[int]:
        asked = [self.caller.call(command, key(device)) for device in devices]
        try:
            counts: list[int] = await defer.gatherResults(asked, consumeErrors=True)
        except defer.FirstError as error:
            failure: Any = error.subFailure
            raise failure.value from None
        return counts
