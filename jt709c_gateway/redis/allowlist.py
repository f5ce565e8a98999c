"""The set of admitted locks (DESIGN.md §6). Whoever runs the fleet edits it; gateways only ask."""

from collections.abc import Sequence

from attrs import define

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller


@define
class RedisAllowlist:
    """`jt709c:allowed`: device ids in the form in which they stand in events."""

    caller: Caller
    keys: Keys

    async def contains(self, devices: Sequence[str]) -> list[bool]:
        """For each device whether it is in the set; txredisapi's errors as they come."""
        reply = await self.caller.call("SMISMEMBER", self.keys.allowed, *devices)
        return [member == 1 for member in reply]
