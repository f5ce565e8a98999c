"""Takes over this gateway's name from its earlier runs, and what other gateways leave when they die.

See docs/fencing.rst.
"""

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.recovery import CommandRecovery
from jt709c_gateway.gateway.membership import GatewayMembership, is_dead_here


@define(eq=False)
class GatewayAdoption:
    """Ends the sessions and adopts the commands of gateways that are no longer there."""

    log = Logger()

    dispatcher: CommandDispatcher
    membership: GatewayMembership
    recovery: CommandRecovery
    #: Whether this run owns the gateway's name and has adopted what earlier runs left.
    has_name: bool = field(default=False, init=False)
    #: Set while stopping: commands are left to other gateways.
    leaving: bool = field(default=False, init=False)
    _adopting: bool = field(default=False, init=False)
    _context: CommandContext = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._context = self.dispatcher.context

    @property
    def owns_commands(self) -> bool:
        """Whether the commands of our name are ours now, and no other gateway may adopt them."""
        return self.has_name and self.membership.is_leased()

    async def adopt(self) -> None:
        """Take over our name, unless that is done, and adopt what dead gateways have left."""
        if self.leaving or self._adopting:
            return
        self._adopting = True
        try:
            if not self.has_name:
                await self._take_name()
            elif self.membership.is_leased():
                await self._adopt_one(self._context.gateway.name)
            await self._adopt_others()
        finally:
            self._adopting = False

    async def _take_name(self) -> None:
        """Take over our name from an earlier run, even a live one, and adopt its commands."""
        name = self._context.gateway.name
        await self.membership.renew()
        await self.recovery.end_sessions(name, gone=True)
        await self._adopt_one(name)
        self.has_name = True
        self._context.sending = not self.leaving
        self.dispatcher.resume()

    async def _adopt_others(self) -> None:
        for name in await self._context.store.gateways():
            if name == self._context.gateway.name:
                continue
            heartbeat = await self._context.store.liveness(name)
            # After an outage every gateway looks dead until it has had time for a heartbeat.
            if heartbeat is None and self.membership.is_steady:
                await self.recovery.end_sessions(name)
                await self._adopt_one(name)
            elif heartbeat is not None and is_dead_here(heartbeat):
                await self.recovery.end_sessions(name, gone=True)
                await self._adopt_one(name, heartbeat)

    async def _adopt_one(self, name: str, heartbeat: bytes = b"") -> None:
        """Adopt the commands of a gateway whose sessions have ended, which removes it from Redis."""
        count = await self.recovery.adopt(name, heartbeat)
        if count:
            self.log.warn("adopted {count} commands of gateway {name}", count=count, name=name)
