"""The set of admitted devices in Redis, which gateways only read (docs/redis.rst, "State")."""

from collections.abc import Sequence

from attrs import define

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller


@define
class RedisAllowlist:
    """Reads `jt709c:allowed`, a set of device ids in the form of events."""

    caller: Caller
    keys: Keys

    async def contains(self, devices: Sequence[str]) -> list[bool]:
        """Return for each device whether it is in the set; txredisapi's errors are passed on."""
        reply = await self.caller.call("SMISMEMBER", self.keys.allowed, *devices)
        return [member == 1 for member in reply]
