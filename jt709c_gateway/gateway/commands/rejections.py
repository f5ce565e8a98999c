"""Telling what is wrong with an order, beside the order's own events: in a list, in a counter, in the log."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.order_keys import CommandRefused, RefusalReason
from jt709c_gateway.commands.stored import invalid_record, iso
from jt709c_gateway.commands.waiting import waiting_id
from jt709c_gateway.protocol.events import to_text
from jt709c_gateway.redis.command_writes import RedisCommand

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher

_log = Logger()
#: The device in the events of an order that names none.
UNKNOWN: Final = "unknown"
#: Digits of the shortest ids that locks have (docs/protocol.rst).
_SHORTEST_ID: Final = 10
#: States in which an order lies in a lock's queue.
_QUEUED: Final = (CommandState.QUEUED, CommandState.WAITING)


def commands(orders: "CommandDispatcher", error: InvalidCommand) -> list[RedisCommand]:
    """Count what is wrong with an order; the commands that keep it for a person to look at."""
    if isinstance(error, CommandRefused):
        orders.gateway.counters.refused[error.why] += 1
    kept = {
        "at": iso(orders.now()),
        "reason": str(error),
        "id": error.order_id,
        "device": error.device,
    }
    if error.key is not None:
        kept |= {"key": error.key, "mac": MASK}
    return orders.store.invalid_writes(to_text(kept))


def may_log(orders: "CommandDispatcher") -> bool:
    """Whether one more line about an order that is no good may go into the log; if not, it is counted."""
    if orders.mistakes.may_log():
        return True
    orders.gateway.counters.unlogged_orders += 1
    return False


def withhold(orders: "CommandDispatcher", error: InvalidCommand, *, is_known: bool) -> None:
    """Take out of a complaint the names that mean nothing here: a password may stand where they do.

    ``is_known`` says whether the order's device has been heard. The id of another stays when it is as long as
    ids are; passwords are shorter.
    """
    if error.command is not None and not orders.profiles.knows(error.command):
        error.command = None
    if error.key is not None and error.key not in (orders.authority.keys.keys or {}):
        error.key = MASK
    device = error.device or ""
    if not is_known and not (device.isdecimal() and len(device) >= _SHORTEST_ID):
        error.device = None


def refused(orders: "CommandDispatcher", device: str, error: InvalidCommand) -> None:
    """Tell of an order that waited for a lock and may not be written to it; its run tells the rest."""
    if isinstance(error, CommandRefused):
        orders.submit(device, None, commands(orders, error))
        if may_log(orders):
            _log.warn("an order for {device} is refused: {reason}", device=device, reason=str(error))


def cast_out(
    orders: "CommandDispatcher",
    device: str | None,
    payload: bytes,
    record: Mapping[str, str],
    error: InvalidCommand,
) -> None:
    """End what is in our hands and can't be read as an order, so that it can't be written to a lock."""
    now = orders.now()
    order_id, device = waiting_id(payload), device or record.get("device") or UNKNOWN
    told = InvalidCommand(error.field, error.problem, error.expected, order_id=order_id, device=device)
    orders.gateway.counters.refused[RefusalReason.UNREADABLE] += 1
    orders.gateway.counters.orders[CommandState.INVALID] += 1
    ended = invalid_record(told, now)
    further = commands(orders, told)
    condition = None
    if order_id is not None and record.get("state") in _QUEUED:
        further += orders.store.release_writes(order_id)
        state = {name: str(ended[name]) for name in ("state", "reason", "ended_at")}
        further += orders.store.record_writes(order_id, state)
        condition = orders.store.held(order_id, int(record.get("token") or 0))
    elif order_id is not None:
        further += orders.store.forget_writes(order_id)
    orders.submit(device, ended, further, condition=condition)
    if may_log(orders):
        _log.error("what waited for {device} is no order: {reason}", device=device, reason=str(error))
