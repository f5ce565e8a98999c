"""Records rejected commands beside their own events: in a Redis list, in counters and in the log."""

from collections.abc import Mapping
from typing import Any, Final

from twisted.logger import Logger, LogLevel

from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.serialization import invalid_record, queue_entry_id
from jt709c_gateway.commands.signing import CommandRefused, RefusalReason
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.protocol.events import to_text
from jt709c_gateway.redis.commit_records import RedisCommand
from jt709c_gateway.util.timestamps import iso

_log = Logger()
#: The device in the events of a command that names none.
UNKNOWN: Final = "unknown"
#: Digits of the shortest ids that locks have (docs/protocol.rst).
_SHORTEST_ID: Final = 10
#: States in which a command lies in a lock's queue.
_QUEUED: Final = (CommandState.QUEUED, CommandState.WAITING)


def rejection_writes(context: CommandContext, error: InvalidCommand) -> list[RedisCommand]:
    """Count a rejection; returns the Redis commands that add it to the list of invalid commands."""
    if isinstance(error, CommandRefused):
        context.gateway.counters.refused[error.why] += 1
    kept = {
        "at": iso(context.now()),
        "reason": str(error),
        "id": error.command_id,
        "device": error.device,
    }
    if error.key is not None:
        kept |= {"key": error.key, "mac": MASK}
    return context.store.invalid_writes(to_text(kept))


def may_log(context: CommandContext) -> bool:
    """Whether a rejection may be logged; counts those that may not."""
    if context.rejection_log.may_log():
        return True
    context.gateway.counters.unlogged_commands += 1
    return False


def hide_unknown_names(context: CommandContext, error: InvalidCommand, *, is_known: bool) -> None:
    """Remove unknown names from a rejection, since a misplaced password may stand in their place.

    `is_known` says whether the command's device is known. The id of an unknown device is kept when it is
    as long as a device id; passwords are shorter.
    """
    if error.command is not None and not context.profiles.knows(error.command):
        error.command = None
    if error.key is not None and error.key not in (context.authorizer.keys.keys or {}):
        error.key = MASK
    device = error.device or ""
    if not is_known and not (device.isdecimal() and len(device) >= _SHORTEST_ID):
        error.device = None


def log_rejection(
    error: InvalidCommand,
    device: str,
    what: str = "a command is invalid",
    level: Any = LogLevel.warn,
) -> None:
    """Log a rejection with the known fields of the command: id, device and issuer."""
    about = {"command": error.command_id, "device": device, "issued by": error.issued_by, "key": error.key}
    known = ", ".join(f"{name} {value}" for name, value in about.items() if value and value != UNKNOWN)
    _log.emit(
        level,
        "{what} ({about}): {reason}",
        what=what,
        about=known or "without id, device and issuer",
        reason=str(error),
    )


def reject_claimed(context: CommandContext, device: str, error: InvalidCommand) -> None:
    """Record and log that a claimed command may not be sent; its execution publishes the outcome."""
    if isinstance(error, CommandRefused):
        context.publisher.submit(device, None, rejection_writes(context, error))
        if may_log(context):
            log_rejection(error, device, "a command is refused")


def reject_unreadable(
    context: CommandContext,
    device: str | None,
    payload: bytes,
    record: Mapping[str, str],
    error: InvalidCommand,
) -> None:
    """End a claimed queue entry that can't be read as a command."""
    now = context.now()
    command_id, device = queue_entry_id(payload), device or record.get("device") or UNKNOWN
    rejection = InvalidCommand(
        error.field, error.problem, error.expected, command_id=command_id, device=device
    )
    context.gateway.counters.refused[RefusalReason.UNREADABLE] += 1
    context.gateway.counters.commands[CommandState.INVALID] += 1
    ended = invalid_record(rejection, now)
    further = rejection_writes(context, rejection)
    condition = None
    if command_id is not None and record.get("state") in _QUEUED:
        further += context.store.release_writes(command_id)
        state = {name: str(ended[name]) for name in ("state", "reason", "ended_at")}
        further += context.store.record_writes(command_id, state)
        condition = context.store.held_condition(command_id, int(record.get("token") or 0))
    elif command_id is not None:
        further += context.store.forget_writes(command_id)
    context.publisher.submit(device, ended, further, condition=condition)
    if may_log(context):
        log_rejection(rejection, device, "invalid entry in a lock's queue", LogLevel.error)
