"""Restores commands from their records and queue entries in Redis."""

from twisted.logger import Logger

from jt709c_gateway.commands.catalogue import LOCAL_COMMANDS
from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.serialization import from_queue_entry
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.rejections import reject_unreadable
from jt709c_gateway.redis.command_store_types import Claim, Record
from jt709c_gateway.redis.command_writes import UNSETTLED_TTL

_log = Logger()


def restore(context: CommandContext, record: Record, command: Command | None = None) -> CommandExecution:
    """Restore a command from its record; without `command` its secrets are masked, so it is not writable.

    Raises ValueError for a record that can't be read.
    """
    profiles, limits = context.profiles, context.limits
    if command is not None and not record.get("state"):
        return CommandExecution(command, None, limits, profiles.secret_names(command.name))
    run = CommandExecution.restore(record, None, limits, command=command)
    if run.profile is not None:
        spec = profiles.spec_of(run.profile, run.command.name, run.command.params)
        run = CommandExecution.restore(record, spec, limits, command=command)
    elif run.command.name not in LOCAL_COMMANDS:
        run.secret_names = profiles.secret_names(run.command.name)
    else:
        run.secret_names = frozenset()
    return run


def restore_claimed(context: CommandContext, device: str, claim: Claim) -> CommandExecution | None:
    """Restore the command of a claim; None when there is none that can be read."""
    if claim.command is None:
        return None
    try:
        command = from_queue_entry(claim.command)
    except InvalidCommand as error:
        reject_unreadable(context, device, claim.command, claim.record, error)
        return None
    context.claims.add(command.id, claim.record)
    try:
        return restore(context, claim.record, command)
    except ValueError as error:
        # It stays claimed, so that no gateway writes it, until an operator has looked.
        _log.error("command {id} has no readable record: {reason}", id=command.id, reason=str(error))
        return None


def restore_confirmable(context: CommandContext, record: Record) -> CommandExecution | None:
    """Restore a command that a report can confirm; None when the record is of another kind."""
    try:
        run = restore(context, record)
    except ValueError as error:
        _log.error("a stored command can't be read: {reason}", reason=str(error))
        return None
    return run if run.confirmable else None


def is_stale(run: CommandExecution, now: float) -> bool:
    """Whether a command ended too long ago to be confirmed."""
    return run.ended and (run.writing_at is None or now - run.writing_at > UNSETTLED_TTL)
