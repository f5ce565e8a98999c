"""Registers gateways in Redis: the liveness of each, the numbers of their runs, and who is online there."""

from collections.abc import Collection
from typing import Final

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

#: Approximate number of sessions of a dead gateway examined per call.
SESSIONS_AT_ONCE: Final = 200


class GatewayRegistry:
    """Registers a gateway, and reads the others. Calls fail with txredisapi's errors."""

    caller: Caller
    keys: Keys
    gateway: str
    holder: str

    async def gateways(self) -> list[str]:
        """Return all gateways that may have left commands or sessions behind."""
        return [one.decode() for one in await self.caller.call("SMEMBERS", self.keys.gateways)]

    async def remember_gateways(self, gateways: Collection[str]) -> None:
        """Add gateways to the set of those that may have left commands or sessions behind."""
        if gateways:
            note = scripts.NOTE.form_for(self.keys)
            await scripts.run(self.caller, note, [self.keys.gateways], [self.keys.prefix, *gateways])

    async def liveness(self, gateway: str) -> bytes | None:
        """Return the liveness JSON of a gateway; None when it is dead."""
        said: bytes | None = await self.caller.call("GET", self.keys.gateway(gateway))
        return said

    async def next_run(self) -> int:
        """Return the number of a new run, higher than all before."""
        number: int = await scripts.run(
            self.caller, scripts.ENTER.form_for(self.keys), [self.keys.epoch], [self.keys.prefix]
        )
        return number

    async def renew(self, said: bytes, ttl: float) -> bool:
        """Renew this run's liveness for `ttl` seconds; return False when a later run has its name."""
        keys = self.keys
        _, _, run = self.holder.rpartition("/")
        renewed = await scripts.run(
            self.caller,
            scripts.RENEW.form_for(keys),
            [keys.gateway(self.gateway), keys.gateways, keys.epoch],
            [keys.prefix, said, int(ttl * 1000), self.gateway, run],
        )
        return bool(renewed)

    async def deregister(self, said: bytes) -> None:
        """Delete this gateway's liveness, so that others adopt at once what it has left behind."""
        # A later run under the same name keeps its own.
        if await self.liveness(self.gateway) == said:
            await self.caller.call("DEL", self.keys.gateway(self.gateway))

    async def online_at(self, gateway: str, cursor: str) -> tuple[list[str], str]:
        """Return some devices online at a gateway and the next cursor; "0" is the first and the last."""
        after, devices = await self.caller.call(
            "SSCAN", self.keys.online_at(gateway), cursor, "COUNT", SESSIONS_AT_ONCE
        )
        return [one.decode() for one in devices], after.decode()
