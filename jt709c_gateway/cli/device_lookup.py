"""Resolves a device id, an IMEI, a sub-lock id or a name to a device."""

import txredisapi
from attrs import frozen

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part, away_text
from jt709c_gateway.cli.labels import find_named
from jt709c_gateway.cli.options import is_id
from jt709c_gateway.protocol.device_id import canonical, may_be_sublock


@frozen
class ResolvedDevice:
    """A device, and its sub-lock if the name was that of a sub-lock."""

    device: str
    sublock: str | None = None


async def resolve(fleet: Fleet, name: str) -> ResolvedDevice:
    """Resolve an id, or the name or plate of a lock, with the records in Redis.

    An unknown id is taken as a device id; an unknown or ambiguous name is a UserError.

    An id of ten digits that is also that of a device which has reported itself means that device, as in
    commands. Raises UserError when a partition that has to be asked is away.
    """
    if not is_id(name):
        return ResolvedDevice(await find_named(fleet, name))
    name = name.upper()
    part = await fleet.of(name)
    alias = await part.call("HGET", part.keys.imei, name)
    if alias is not None:
        return ResolvedDevice(alias.decode())
    device = canonical(name)
    if may_be_sublock(name):
        masters = await fleet.each(lambda one: one.call("HGET", one.keys.peripheral(name), "device"))
        master = next((one for one in masters if one is not None), None)
        if (master is not None or fleet.away) and not await has_reported(part, device):
            if master is None:
                raise UserError(f"{name} may be a sub-lock: {away_text(fleet.away)}")
            return ResolvedDevice(master.decode(), name)
    return ResolvedDevice(device)


async def has_reported(part: Part, device: str) -> bool:
    """Return whether the device has reported, as far as the Redis user may read that."""
    try:
        return await part.call("ZSCORE", part.keys.devices, device) is not None
    except txredisapi.ResponseError:
        return bool(await part.call("XREVRANGE", part.keys.history(device), "+", "-", "COUNT", 1))
