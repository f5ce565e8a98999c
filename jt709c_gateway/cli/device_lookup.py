"""Resolves a device id, an IMEI or a sub-lock id to a device."""

import txredisapi
from attrs import frozen

from jt709c_gateway.commands.sublocks import SUBLOCK_ID
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys


@frozen
class ResolvedDevice:
    """A device, and its sub-lock if the name was that of a sub-lock."""

    device: str
    sublock: str | None = None


async def resolve(talking: RedisConnection, keys: Keys, name: str) -> ResolvedDevice:
    """What a name means by what Redis knows. One that nothing is known of is taken for a device's id.

    An id of ten digits that is also that of a device which has reported itself means that device, as in
    commands.
    """
    name = name.upper()
    alias = await talking.call("HGET", keys.imei, name)
    if alias is not None:
        return ResolvedDevice(alias.decode())
    device = name.lstrip("0") or "0"
    if len(name) == SUBLOCK_ID:
        master = await talking.call("HGET", keys.peripheral(name), "device")
        if master is not None and not await has_reported(talking, keys, device):
            return ResolvedDevice(master.decode(), name)
    return ResolvedDevice(device)


async def has_reported(talking: RedisConnection, keys: Keys, device: str) -> bool:
    """Whether the device is known, as far as the Redis user may read that."""
    try:
        return await talking.call("ZSCORE", keys.devices, device) is not None
    except txredisapi.ResponseError:
        return bool(await talking.call("XREVRANGE", keys.history(device), "+", "-", "COUNT", 1))
