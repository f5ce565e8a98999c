"""Resolves a device id, an IMEI or a sub-lock id to a device."""

import txredisapi
from attrs import frozen

from jt709c_gateway.protocol.device_id import canonical, may_be_sublock
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys


@frozen
class ResolvedDevice:
    """A device, and its sub-lock if the name was that of a sub-lock."""

    device: str
    sublock: str | None = None


async def resolve(connection: RedisConnection, keys: Keys, name: str) -> ResolvedDevice:
    """Resolve a name with the records in Redis; an unknown name is taken as a device id.

    An id of ten digits that is also that of a device which has reported itself means that device, as in
    commands.
    """
    name = name.upper()
    alias = await connection.call("HGET", keys.imei, name)
    if alias is not None:
        return ResolvedDevice(alias.decode())
    device = canonical(name)
    if may_be_sublock(name):
        master = await connection.call("HGET", keys.peripheral(name), "device")
        if master is not None and not await has_reported(connection, keys, device):
            return ResolvedDevice(master.decode(), name)
    return ResolvedDevice(device)


async def has_reported(connection: RedisConnection, keys: Keys, device: str) -> bool:
    """Return whether the device has reported, as far as the Redis user may read that."""
    try:
        return await connection.call("ZSCORE", keys.devices, device) is not None
    except txredisapi.ResponseError:
        return bool(await connection.call("XREVRANGE", keys.history(device), "+", "-", "COUNT", 1))
