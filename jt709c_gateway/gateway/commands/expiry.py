"""Expires commands whose ttl ends while their devices are offline."""

from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import task
from twisted.logger import Logger

from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.protocol.events import KIND_COMMAND
from jt709c_gateway.redis.expiry import AT_ONCE, Announcement, expire
from jt709c_gateway.util.timestamps import iso

#: Seconds after its acceptance before a command that is in no list counts as lost.
LOST_AFTER: Final = 60.0
#: Placeholder for the device id, which the script fills in.
_DEVICE: Final = "device"
_DATA: Final = {"data": None}


@define
class CommandExpiry:
    """Ends due commands in batches, so that neither Redis nor the reactor is blocked."""

    log = Logger()

    reactor: Any
    context: CommandContext
    _running: bool = field(default=False, init=False)
    #: How many recent commands the current search for lost ones has covered.
    _searched: int = field(default=0, init=False)

    async def expire(self) -> None:
        """Expire all commands that are due."""
        if self._running:
            return
        self._running = True
        try:
            await self._expire_all()
        finally:
            self._running = False

    async def _expire_all(self) -> None:
        context, skip, looked_at = self.context, 0, AT_ONCE
        while looked_at == AT_ONCE:
            now = context.now()
            done = await expire(
                context.store.caller,
                context.store.keys,
                now,
                str(iso(now)),
                self._announcement(),
                skip,
                routed=context.routing is not None,
            )
            looked_at, skip = done.looked_at, skip + done.refused
            for state in done.states:
                context.gateway.counters.commands[CommandState(state)] += 1
            if done.reason is not None:
                context.refusals.report(
                    "to end commands whose ttl is over", txredisapi.ResponseError(done.reason)
                )
            if looked_at == AT_ONCE:
                await task.deferLater(self.reactor, 0)

    async def search(self) -> None:
        """Check the next batch of recent commands, and end those that are in no list."""
        context, now = self.context, self.context.now()
        done = await expire(
            context.store.caller,
            context.store.keys,
            now - LOST_AFTER,
            str(iso(now)),
            self._announcement(),
            self._searched,
            lost=True,
            routed=context.routing is not None,
        )
        self._searched = self._searched + done.looked_at if done.looked_at == AT_ONCE else 0
        for command_id, state in zip(done.ended, done.states, strict=True):
            context.gateway.counters.commands[CommandState(state)] += 1
            self.log.error("command {id} is in no list; it ends as {state}", id=command_id, state=state)

    def _announcement(self) -> Announcement:
        """An event for commands that the script ends, cut where the script puts in what only it knows.

        The parts are those of an event that is encoded as all others are, so that both have the same fields
        in the same order. This relies on the order of `protocol.events.Event`: `v` and `id` first, `data`
        last. `test_fields_of_other_events` fails when that changes.
        """
        gateway, limits = self.context.gateway, self.context.committer.limits
        text = gateway.events.encode(_DEVICE, KIND_COMMAND, _DATA)
        number, _, rest = text.removeprefix('{"v":1,"id":"').partition('"')
        before, _, after = rest.partition(f'"device":"{_DEVICE}"')
        middle, _, end = after.rpartition('{"data":null}')
        parts = (f'{{"v":1,"id":"{number}', f'"{before}"device":"', f'"{middle}', end)
        return Announcement(parts, limits.events, limits.history)
