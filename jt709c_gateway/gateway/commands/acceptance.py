"""The device that a command is for, and the events of its acceptance."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve

from jt709c_gateway.commands.model import ENDED, Command, CommandState
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, from_hash
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.protocol.events import KIND_COMMAND
from jt709c_gateway.redis.command_store_types import Events, Known
from jt709c_gateway.util.timestamps import iso


async def find_device(context: CommandContext, name: str) -> Known:
    """The device that a command with this name is for, as far as it is known."""
    known = await context.look_up(name)
    session = context.gateway.sessions.get(name)
    if session is not None:
        return evolve(known, device=session.device, peripheral=None)
    return known


def acceptance_events(
    context: CommandContext,
    device: str,
    queued: Mapping[str, Any],
    waiting: Mapping[str, Any] | None = None,
    failed: Mapping[str, Any] | None = None,
) -> Events:
    """The events for each result of an acceptance: queued, waiting and failed."""
    gateway = context.gateway
    session = gateway.sessions.get(device)

    def text(record: Mapping[str, Any] | None) -> str:
        if record is None:
            return ""
        public = {name: record[name] for name in PUBLIC_FIELDS}
        return gateway.events.encode(device, KIND_COMMAND, public, session)

    limits = context.committer.limits
    return Events(text(queued), text(waiting), text(failed), limits.events, limits.history)


async def report_known(context: CommandContext, command: Command) -> None:
    """Publish the current state of a command whose id is known already; it is not executed again."""
    gateway, publisher = context.gateway, context.publisher
    limits = context.committer.limits
    while record := await context.store.record(command.id):
        fields = from_hash(record)
        public = {name: iso(fields[name]) if name.endswith("_at") else fields[name] for name in PUBLIC_FIELDS}
        state, device = CommandState(str(public["state"])), public["device"] or command.device
        event = gateway.events.encode(device, KIND_COMMAND, public, gateway.sessions.get(device))
        if await context.store.report(command.id, device, state, event, (limits.events, limits.history)):
            if state in ENDED:
                publisher.submit(device, None, publisher.reply_writes(command.reply_to, public))
            return
