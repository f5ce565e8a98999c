"""Telling what is wrong with a command, beside the command's own events: in a list, in a counter, in the
log."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.serialization import invalid_record, queue_entry_id
from jt709c_gateway.commands.signing_keys import CommandRefused, RefusalReason
from jt709c_gateway.protocol.events import to_text
from jt709c_gateway.redis.command_writes import RedisCommand
from jt709c_gateway.util.timestamps import iso

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher

_log = Logger()
#: The device in the events of a command that names none.
UNKNOWN: Final = "unknown"
#: Digits of the shortest ids that locks have (docs/protocol.rst).
_SHORTEST_ID: Final = 10
#: States in which a command lies in a lock's queue.
_QUEUED: Final = (CommandState.QUEUED, CommandState.WAITING)


def commands(dispatcher: "CommandDispatcher", error: InvalidCommand) -> list[RedisCommand]:
    """Count what is wrong with a command; the commands that keep it for a person to look at."""
    if isinstance(error, CommandRefused):
        dispatcher.gateway.counters.refused[error.why] += 1
    kept = {
        "at": iso(dispatcher.now()),
        "reason": str(error),
        "id": error.command_id,
        "device": error.device,
    }
    if error.key is not None:
        kept |= {"key": error.key, "mac": MASK}
    return dispatcher.store.invalid_writes(to_text(kept))


def may_log(dispatcher: "CommandDispatcher") -> bool:
    """Whether one more line about a command that is no good may go into the log; if not, it is counted."""
    if dispatcher.mistakes.may_log():
        return True
    dispatcher.gateway.counters.unlogged_commands += 1
    return False


def withhold(dispatcher: "CommandDispatcher", error: InvalidCommand, *, is_known: bool) -> None:
    """Take out of a complaint the names that mean nothing here: a password may stand where they do.

    ``is_known`` says whether the command's device has been heard. The id of another stays when it is as long
    as ids are; passwords are shorter.
    """
    if error.command is not None and not dispatcher.profiles.knows(error.command):
        error.command = None
    if error.key is not None and error.key not in (dispatcher.authority.keys.keys or {}):
        error.key = MASK
    device = error.device or ""
    if not is_known and not (device.isdecimal() and len(device) >= _SHORTEST_ID):
        error.device = None


def refused(dispatcher: "CommandDispatcher", device: str, error: InvalidCommand) -> None:
    """Tell of a command that waited for a lock and may not be written to it; its run tells the rest."""
    if isinstance(error, CommandRefused):
        dispatcher.submit(device, None, commands(dispatcher, error))
        if may_log(dispatcher):
            _log.warn("a command for {device} is refused: {reason}", device=device, reason=str(error))


def cast_out(
    dispatcher: "CommandDispatcher",
    device: str | None,
    payload: bytes,
    record: Mapping[str, str],
    error: InvalidCommand,
) -> None:
    """End what is in our hands and can't be read as a command, so that it can't be written to a lock."""
    now = dispatcher.now()
    command_id, device = queue_entry_id(payload), device or record.get("device") or UNKNOWN
    told = InvalidCommand(error.field, error.problem, error.expected, command_id=command_id, device=device)
    dispatcher.gateway.counters.refused[RefusalReason.UNREADABLE] += 1
    dispatcher.gateway.counters.commands[CommandState.INVALID] += 1
    ended = invalid_record(told, now)
    further = commands(dispatcher, told)
    condition = None
    if command_id is not None and record.get("state") in _QUEUED:
        further += dispatcher.store.release_writes(command_id)
        state = {name: str(ended[name]) for name in ("state", "reason", "ended_at")}
        further += dispatcher.store.record_writes(command_id, state)
        condition = dispatcher.store.held_condition(command_id, int(record.get("token") or 0))
    elif command_id is not None:
        further += dispatcher.store.forget_writes(command_id)
    dispatcher.submit(device, ended, further, condition=condition)
    if may_log(dispatcher):
        _log.error("what waited for {device} is no command: {reason}", device=device, reason=str(error))
