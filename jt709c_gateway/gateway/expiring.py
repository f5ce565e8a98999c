"""Orders whose ttl ends while their locks are away."""

from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import task

from jt709c_gateway.commands.model import OrderState
from jt709c_gateway.commands.stored import iso
from jt709c_gateway.protocol.events import KIND_COMMAND
from jt709c_gateway.redis.expiry import AT_ONCE, Announcement, expire

from .orders import Orders

#: Stands for a device until the script puts one in.
_DEVICE: Final = "device"
_DATA: Final = {"data": None}


@define
class Expiring:
    """Ends such orders, all that are due, in calls between which Redis and the reactor see to others."""

    reactor: Any
    orders: Orders
    _going_on: bool = field(default=False, init=False)

    async def expire(self) -> None:
        """End all orders that are due."""
        if self._going_on:
            return
        self._going_on = True
        try:
            await self._expire_all()
        finally:
            self._going_on = False

    async def _expire_all(self) -> None:
        orders, skip, looked_at = self.orders, 0, AT_ONCE
        while looked_at == AT_ONCE:
            now = orders.now()
            done = await expire(
                orders.store.caller, orders.store.keys, now, str(iso(now)), self._announcement(), skip
            )
            looked_at, skip = done.looked_at, skip + done.refused
            orders.gateway.counters.orders[OrderState.EXPIRED] += len(done.ended)
            if done.reason is not None:
                orders.refusals.say("to end orders whose ttl is over", txredisapi.ResponseError(done.reason))
            if looked_at == AT_ONCE:
                await task.deferLater(self.reactor, 0)

    def _announcement(self) -> Announcement:
        gateway = self.orders.gateway
        text = gateway.encode(_DEVICE, KIND_COMMAND, _DATA)
        number, _, rest = text.removeprefix('{"v":1,"id":"').partition('"')
        before, _, after = rest.partition(f'"device":"{_DEVICE}"')
        middle, _, end = after.rpartition('{"data":null}')
        parts = (f'{{"v":1,"id":"{number}', f'"{before}"device":"', f'"{middle}', end)
        return Announcement(parts, gateway.committer.limits.events, gateway.committer.limits.history)
