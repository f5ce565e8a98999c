"""Gives a command to many locks at a bounded rate, and waits for the outcomes."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import click
import txredisapi
from attrs import define, evolve, field, frozen
from rich.table import Table
from twisted.internet import defer, task

from jt709c_gateway.cli import batch_list, command_arguments
from jt709c_gateway.cli.console import console, plain
from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part
from jt709c_gateway.cli.many_options import ManyOptions
from jt709c_gateway.cli.redis_client import Link
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.model import ENDED, Command, CommandState, new_command_id
from jt709c_gateway.commands.serialization import to_wire
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.batches import OUTCOME_FIELDS, command_id, outcome_of
from jt709c_gateway.redis.labels import Labels
from jt709c_gateway.redis.partitioned_queries import gather

_GOOD: Final = frozenset([CommandState.DONE, CommandState.CONFIRMED])
_BAD: Final = frozenset(
    [CommandState.REJECTED, CommandState.FAILED, CommandState.INVALID, CommandState.CANCELLED]
)
_FAILED: Final = 1
_NOT_KNOWN: Final = 3
#: Locks that are looked up at the same time.
_AT_ONCE: Final = 50
#: Seconds between two looks at the states, and that gateways may add to the times of a command.
_LOOK_EVERY: Final = 1.0
_MARGIN: Final = 600.0
#: Commands without success that are listed.
_LISTED: Final = 50

#: State and reason of a command; None without a record.
_Outcome = tuple[CommandState | None, str]


@frozen
class Sending:
    """Where commands are pushed to, the key that signs them, the directory of own profiles, the output."""

    link: Link
    prefix: str
    key: SigningKey | None
    directory: str | None
    wait: bool
    as_json: bool


@define(eq=False)
class Batch:
    """A command for the locks with these `names`, or of a group. `make(name, id)` makes that of one lock."""

    id: str
    command: str
    names: Sequence[str]
    many: ManyOptions
    make: Callable[[str, str], Command]
    sending: Sending
    #: The commands that are given, with their partitions.
    commands: list[tuple[Part, Command]] = field(factory=list, init=False)
    left_out: list[str] = field(factory=list, init=False)
    pushed: int = field(default=0, init=False)


def make_batch(
    many: ManyOptions, name: str, params: Mapping[str, Any], fields: Mapping[str, Any], sending: Sending
) -> Batch:
    """Read the names of the locks and check the command as far as possible without them; raise UserError."""
    names = [] if many.path is None else batch_list.read_names(many.path)
    first = command_arguments.make(name, (*names, "0")[0], params, fields)
    command_arguments.check_complete(first, sending.directory)

    def make(device: str, own_id: str) -> Command:
        return command_arguments.make(name, device, params, {**fields, "command_id": own_id})

    return Batch(many.batch or new_command_id(), first.name, names, many, make, sending)


async def send_all(reactor: Any, batch: Batch) -> int:
    """Find the locks, ask, push the commands and wait if that is wanted; return the exit status."""
    fleet = Fleet(reactor, batch.sending.link, batch.sending.prefix)
    try:
        await fleet.open()
        await _find(fleet, batch)
        await _push_all(reactor, batch)
        if not batch.sending.wait:
            click.echo(_given(batch))
            return _FAILED if batch.left_out else 0
        return _told(batch, await _outcomes(reactor, batch))
    finally:
        await fleet.close()


def _given(batch: Batch) -> str:
    return (
        to_json({"batch": batch.id, "count": len(batch.commands), "left_out": batch.left_out}).decode()
        if batch.sending.as_json
        else f"batch {batch.id}: {batch.command} queued for {len(batch.commands)} locks; "
        f"jt709c commands --batch {batch.id} shows what becomes of them"
    )


async def _find(fleet: Fleet, batch: Batch) -> None:
    """Find the locks, and ask; locks that were never heard are left out."""
    names = list(batch.names)
    if batch.many.group is not None:
        names = await _of_group(fleet, batch.many.group)
    chosen: dict[str, Part] = {}
    again: list[str] = []
    offline: list[str] = []
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        for name, (own, part, is_heard, is_online) in zip(
            some, await gather([_look_up(fleet, one) for one in some]), strict=True
        ):
            if not is_heard:
                batch.left_out.append(name)
            elif own in chosen:
                again.append(name)
            else:
                chosen[own] = part
                if not is_online:
                    offline.append(own)
    odd = {
        "never heard, and left out": batch.left_out,
        "another name of a lock in the list": again,
        "not connected; the command waits for them": offline,
    }
    if not chosen:
        raise UserError(f"no such lock has been heard: {batch_list.some(batch.left_out)}")
    batch_list.ask(batch.command, len(chosen), odd, batch.many.yes)
    batch.commands = [
        (part, evolve(batch.make(name, command_id(batch.id, name)), batch=batch.id))
        for name, part in chosen.items()
    ]


async def _of_group(fleet: Fleet, group: str) -> list[str]:
    found = await fleet.each(lambda part: Labels(part, part.keys).all())
    if fleet.away:
        raise UserError(next(iter(fleet.away.values())))
    names = [device for labels in found for device, label in labels.items() if label.group == group]
    if not names:
        raise UserError(f"--group: no lock has the group {plain(group)} in its label")
    if len(names) > batch_list.MAX_LOCKS:
        raise UserError(f"--group: {len(names)} locks; expected at most {batch_list.MAX_LOCKS}")
    return sorted(names, key=lambda name: (len(name), name))


async def _look_up(fleet: Fleet, name: str) -> tuple[str, Part, bool, bool]:
    """Return id and partition of a lock, whether it was heard, and whether it is connected."""
    try:
        found = await resolve(fleet, name)
        part = await fleet.of(found.device)
        online = await part.call("HGET", part.keys.session(found.device), "gateway") is not None
        heard = found.sublock is not None or await has_reported(part, found.device)
        return found.sublock or found.device, part, heard, online
    except txredisapi.ResponseError:
        # This user may only push.
        return name, await fleet.of(name), True, True


async def _push_all(reactor: Any, batch: Batch) -> None:
    """Push the commands; raise UserError when Redis refuses one, or the connection is lost."""
    rest = f"send it again with --batch {batch.id} and the same locks; no lock gets it twice"
    try:
        for part, command in batch.commands:
            wire = to_wire(command, batch.sending.key, time.time())
            await part.call("RPUSH", part.keys.commands, wire)
            batch.pushed += 1
            if batch.pushed < len(batch.commands):
                await task.deferLater(reactor, 1 / batch.many.rate, lambda: None)
    except txredisapi.ResponseError as error:
        raise UserError(f"Redis refused the command: {plain(error)}") from None
    except txredisapi.ConnectionError:
        raise UserError(
            f"the connection to Redis was lost after {batch.pushed} of {len(batch.commands)} commands: {rest}"
        ) from None
    except defer.CancelledError:
        notice(f"{batch.pushed} of {len(batch.commands)} commands were given; to give the rest, {rest}")
        raise


async def _outcomes(reactor: Any, batch: Batch) -> Mapping[str, _Outcome]:
    """Wait until all commands have ended, as long as they can take; return what is known of each."""
    first = batch.commands[0][1]
    deadline = reactor.seconds() + first.ttl + 4 * first.timeout + _MARGIN
    notice(f"batch {batch.id}: {batch.command} given to {len(batch.commands)} locks; waiting")
    while True:
        found = await _read(batch)
        if all(state in ENDED for state, _ in found.values()) or reactor.seconds() > deadline:
            return found
        try:
            await task.deferLater(reactor, _LOOK_EVERY, lambda: None)
        except defer.CancelledError:
            notice(f"the commands go on; jt709c commands --batch {batch.id} shows what becomes of them")
            raise


async def _read(batch: Batch) -> dict[str, _Outcome]:
    parts: dict[Part, list[Command]] = {}
    for part, command in batch.commands:
        parts.setdefault(part, []).append(command)
    found: dict[str, _Outcome] = {command.device: (None, "") for _, command in batch.commands}
    for part, commands in parts.items():
        asked = [("HMGET", part.keys.command(one.id), *OUTCOME_FIELDS) for one in commands]
        for command, reply in zip(commands, await part.pipeline(asked), strict=True):
            if isinstance(reply, Exception):
                raise reply
            state, reason = outcome_of(reply, batch.id, command.issued_by, command.name)
            found[command.device] = state, reason or ""
    return found


def _told(batch: Batch, found: Mapping[str, _Outcome]) -> int:
    """Print the outcomes and return the exit status."""
    if batch.sending.as_json:
        for device, (state, reason) in found.items():
            one = {"id": command_id(batch.id, device), "device": device, "state": state, "reason": reason}
            click.echo(to_json(one))
    else:
        _print_table(batch.id, found)
    states = [state for state, _ in found.values()]
    if batch.left_out or any(state in _BAD for state in states):
        return _FAILED
    return 0 if all(state in _GOOD for state in states) else _NOT_KNOWN


def _print_table(batch_id: str, found: Mapping[str, _Outcome]) -> None:
    counts = Counter(state for state, _ in found.values())
    table = Table(box=None, pad_edge=False, title=f"batch {batch_id}", title_justify="left")
    table.add_column("outcome")
    table.add_column("locks", justify="right")
    for state in (*CommandState, None):
        if counts[state]:
            table.add_row(str(state or "not taken in"), str(counts[state]))
    console().print(table)
    _list_problems([(device, *one) for device, one in found.items() if one[0] not in _GOOD])


def _list_problems(problems: Sequence[tuple[str, CommandState | None, str]]) -> None:
    for device, state, reason in problems[:_LISTED]:
        click.echo(f"{device}  {state or 'not taken in'}{f'  {plain(reason)}' if reason else ''}")
    if len(problems) > _LISTED:
        click.echo(f"… and {len(problems) - _LISTED} more")
