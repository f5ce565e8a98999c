"""Pushes a command to Redis."""

import time
from typing import Final

import click
import txredisapi
from attrs import define, evolve

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.device_lookup import resolve
from jt709c_gateway.cli.device_removal import confirm
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part
from jt709c_gateway.cli.labels import find_named, full_name, labels_of
from jt709c_gateway.cli.redis_client import Link
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.commands.catalogue import CATALOGUE, LOCAL_COMMANDS
from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.serialization import to_wire
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.protocol.events import to_json

#: Seconds that gateways may add to the times of a command: to confirm, to repeat, to detect a crash.
_MARGIN: Final = 600.0


@define(eq=False)
class Push:
    """A command to queue, its destination and the output format."""

    link: Link
    prefix: str
    command: Command
    wait: bool
    as_json: bool
    #: The signing key, None for an unsigned command.
    key: SigningKey | None = None
    #: Whether times are shown in the local zone.
    local: bool = False
    #: The name or plate by which the lock was given, which is looked up first.
    name: str | None = None
    #: The question to ask once the lock is known, for a command that moves it; None without one.
    question: str | None = None
    #: Whether it was sent to Redis.
    sent: bool = False

    @property
    def patience(self) -> float:
        """Seconds after which the command must have ended."""
        return self.command.ttl + 4 * self.command.timeout + _MARGIN


async def use_name(fleet: Fleet, push: Push) -> None:
    """Find the lock that the command names; raise UserError unless there is one, click.Abort for a no."""
    if push.name is None:
        return
    device = await find_named(fleet, push.name)
    push.command = evolve(push.command, device=device)
    label = (await labels_of(fleet, [device])).get(device)
    if push.question is None:
        notice(f"{push.name} is {full_name(device, label)}")
    else:
        confirm(f"{push.question} {full_name(device, label)}?")


async def part_of(fleet: Fleet, name: str) -> tuple[Part, str]:
    """Return the device that a name stands for, with its partition; raise UserError when that is away.

    For a Redis user who may only push, the name is taken as a device id.
    """
    try:
        device = (await resolve(fleet, name)).device
    except txredisapi.ResponseError:
        device = name
    return await fleet.of(device), device


async def is_unheard(fleet: Fleet, push: Push) -> bool:
    """Return whether a new command will wait for a lock that has never reported.

    False where this Redis user may not read that, for commands of the gateway itself, and for a known id,
    whose command is not carried out again.
    """
    if push.command.name in LOCAL_COMMANDS:
        return False
    try:
        named = await resolve(fleet, push.command.device)
        part = await fleet.of(named.device)
        if await part.call("HGET", part.keys.command(push.command.id), "state") is not None:
            return False
        return await part.call("ZSCORE", part.keys.devices, named.device) is None
    except (txredisapi.ResponseError, txredisapi.ConnectionError, UserError):
        return False


def unheard(push: Push) -> str:
    """Say that no such lock has reported."""
    return f"no such lock has been heard: {push.command.device} (prefix {push.prefix})"


async def _destination(fleet: Fleet, push: Push) -> Part:
    """Return the partition to push to: that of the device, or another one when that is away."""
    if fleet.layout.count == 1:
        return await fleet.use(0)
    try:
        return (await part_of(fleet, push.command.device))[0]
    except UserError as error:
        other = (await fleet.present())[0]
        notice(f"{error.message}; a gateway forwards the command from partition {other.number}")
        return other


async def push_command(fleet: Fleet, push: Push) -> None:
    """Push the command; raise UserError if that fails."""
    part = await _destination(fleet, push)
    push.sent = True
    try:
        await part.call("RPUSH", part.keys.commands, to_wire(push.command, push.key, time.time()))
    except txredisapi.ResponseError as error:
        raise UserError(f"Redis refused the command: {plain(error)}") from None
    except txredisapi.ConnectionError:
        raise UserError(
            f"the connection to Redis was lost; command {push.command.id} may have been queued: send it again"
            " with this --id, and it won't be carried out twice"
        ) from None


def _known(command: str) -> str | None:
    """Return a name of the catalogue; another one may be a misplaced password."""
    return command if command in CATALOGUE else None


def print_queued(fleet: Fleet, push: Push) -> None:
    """Print that the command is queued, and where its outcomes come."""
    command = push.command
    if push.as_json:
        fields = {
            "id": command.id,
            "device": command.device,
            "command": _known(command.name),
            "reply_to": command.reply_to,
        }
        click.echo(to_json(fields))
        return
    click.echo(f"command {command.id} queued: {_known(command.name) or 'COMMAND'} for {command.device}")
    if command.reply_to:
        keys = fleet.layout.keys[fleet.layout.number(command.reply_to)]
        click.echo(f"outcomes are also pushed to {keys.reply(command.reply_to)}")
