"""Executes the commands that the gateway carries out itself: `cancel` and `clear_lockout`."""

import txredisapi
from attrs import define, evolve
from twisted.internet import defer

from jt709c_gateway.commands.catalogue import CANCEL
from jt709c_gateway.commands.check import check_local
from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command, CommandState, InvalidCommand
from jt709c_gateway.commands.serialization import from_queue_entry
from jt709c_gateway.commands.signing import CommandRefused, RefusalReason
from jt709c_gateway.gateway.commands.acceptance import find_device, report_known
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.rejections import reject_unreadable
from jt709c_gateway.gateway.commands.restore import restore


@define
class LocalCommands:
    """Executes them while they are taken from the intake list; they enter no queue."""

    context: CommandContext

    async def execute(self, command: Command, entry: bytes, now: float) -> None:
        """Execute a command and drop its entry; repeating that after a crash is harmless."""
        store, publisher = self.context.store, self.context.publisher
        if await store.record(command.id):
            await report_known(self.context, command)
            await store.drop(entry)
            return
        known = await find_device(self.context, command.device)
        device = known.device
        check_local(command, known, self.context.profiles)
        if command.name == CANCEL and self.context.authorizer.keys.limits_devices(command):
            await self._check_target(command, device)
        # The target's id is published only when such a command exists; else it may be a secret.
        shown = command.name != CANCEL or await store.record(str(command.params["id"]))
        hidden = frozenset() if shown else frozenset({"id"})
        run = CommandExecution(evolve(command, device=device), None, self.context.limits, hidden)
        listed = store.recent_writes(command.id, now)
        publisher.publish(run, run.queued(now), listed, local=True)
        reason, commands = None, []
        if command.name == "clear_lockout":
            commands = store.wrong_password_writes(device, 0)
        else:
            reason = await self._cancel(str(command.params["id"]), now)
        state = CommandState.DONE if reason is None else CommandState.REJECTED
        settled: defer.Deferred[bool] = defer.Deferred()
        outcome = run.settle(now, state, reason)
        publisher.publish(run, outcome, commands, local=True, on_stored=settled.callback)
        if not await settled and not await store.is_known(command.id):
            raise txredisapi.ResponseError("an outcome could not be stored")
        await store.drop(entry)

    async def _check_target(self, command: Command, device: str) -> None:
        """Refuse to cancel another device's command with a key that is limited to some devices."""
        target = str(command.params["id"])
        record = await self.context.store.record(target)
        if record.get("device", device) != device:
            problem = f"{target} is a command for another device than {device}"
            right = "a command for the same device, since the key is not for all"
            raise CommandRefused(RefusalReason.NOT_PERMITTED, command, "params.id", problem, right)

    async def _cancel(self, target: str, now: float) -> str | None:
        """Cancel a waiting command; returns None, or the reason why that is impossible."""
        payload, record = await self.context.store.remove(target)
        if payload is None:
            if record.get("state") == CommandState.CANCELLED:
                return None
            return f"command {target} is {record['state']}" if record else "no command of this id is known"
        try:
            cancelled = restore(self.context, record, from_queue_entry(payload))
        except InvalidCommand as error:
            reject_unreadable(self.context, None, payload, record, error)
            return f"the queue entry of command {target} is invalid"
        self.context.claims.add(target, record)
        stored: defer.Deferred[bool] = defer.Deferred()
        self.context.publisher.publish(cancelled, cancelled.cancel(now), on_stored=stored.callback)
        return None if await stored else f"command {target} could not be taken back"
