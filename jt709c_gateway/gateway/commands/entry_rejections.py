"""Ends entries of the intake list that hold no valid command, or that can't be processed."""

from collections.abc import Mapping
from typing import Any

import txredisapi
from attrs import define
from twisted.internet import defer

from jt709c_gateway.commands.model import ENTRY, Command, CommandState, InvalidCommand
from jt709c_gateway.commands.serialization import invalid_record, to_hash
from jt709c_gateway.gateway.commands import rejections
from jt709c_gateway.gateway.commands.acceptance import acceptance_events
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.rejections import UNKNOWN
from jt709c_gateway.protocol.events import to_text
from jt709c_gateway.redis.command_store_types import Acceptance
from jt709c_gateway.redis.commit_records import RedisCommand
from jt709c_gateway.util.timestamps import iso


@define
class EntryRejections:
    """Publishes each such entry as an invalid command, under its id and device where these can be read."""

    context: CommandContext

    async def reject(self, error: InvalidCommand, entry: bytes, now: float) -> None:
        """End an entry that holds no valid command."""
        context = self.context
        device = await self._device_of(error)
        record = invalid_record(error, now)
        if error.command_id is not None:
            stored, events = _invalid_hash(record), acceptance_events(context, device, record)
            result = await context.store.accept(
                error.command_id, device, entry, b"", 0.0, stored, events, str(iso(now))
            )
            if result is Acceptance.NOT_OURS:
                return
        context.gateway.counters.commands[CommandState.INVALID] += 1
        commands = rejections.rejection_writes(context, error)
        commands += context.publisher.reply_writes(error.reply_to, record)
        if error.command_id is not None:
            # `accept` has stored and announced it, unless a valid command has the same id.
            context.publisher.submit(device, None, commands)
        else:
            context.publisher.submit(device, record, commands)
            await context.publisher.committed(device)
            await context.store.drop(entry)
        if rejections.may_log(context):
            rejections.log_rejection(error, device)

    async def quarantine(self, entry: bytes, command: Command | Exception, reason: str) -> None:
        """Set an entry aside that fails repeatedly, so that the others are not blocked.

        `command` is the command in it, or the error that was found while it was parsed.
        """
        context, store, now = self.context, self.context.store, self.context.now()
        about = command if isinstance(command, InvalidCommand) else InvalidCommand(ENTRY, reason, "another")
        if isinstance(command, Command):
            about = about.about(command)
        rejections.hide_unknown_names(context, about, is_known=False)
        device, command_id = about.device or UNKNOWN, about.command_id
        kept = {"at": iso(now), "reason": reason, "id": command_id, "device": about.device}
        if command_id is None or not await store.is_known(command_id):
            record = invalid_record(about, now) | {"reason": reason}
            commands = context.publisher.reply_writes(about.reply_to, record)
            if command_id is not None:
                commands += store.recent_writes(command_id, now)
                commands += store.record_writes(command_id, _invalid_hash(record))
            await self._store_outcome(device, record, commands)
            context.gateway.counters.commands[CommandState.INVALID] += 1
        context.publisher.submit(UNKNOWN, None, store.invalid_writes(to_text(kept)))
        await context.publisher.committed(device)
        await store.drop(entry)

    async def _store_outcome(self, device: str, record: dict[str, Any], commands: list[RedisCommand]) -> None:
        """Store an outcome, if need be without its event; raises ResponseError if Redis refuses both."""
        for event in (record, None):
            done: defer.Deferred[bool] = defer.Deferred()
            self.context.publisher.submit(device, event, commands, done.callback)
            if await done:
                return
        raise txredisapi.ResponseError("an outcome could not be stored")

    async def _device_of(self, error: InvalidCommand) -> str:
        """The device whose history gets a rejection; unknown names are removed from the rejection."""
        device, is_known = UNKNOWN, False
        if error.device is not None:
            session = self.context.gateway.sessions.get(error.device)
            known = await self.context.look_up(error.device)
            device = known.device if session is None else session.device
            is_known = session is not None or known.is_known
        rejections.hide_unknown_names(self.context, error, is_known=is_known)
        return UNKNOWN if error.device is None else device


def _invalid_hash(record: Mapping[str, Any]) -> Mapping[str, str]:
    """The hash of an invalid command."""
    return to_hash({name: value for name, value in record.items() if value is not None})
