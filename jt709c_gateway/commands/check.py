"""Checks a command for the device that it is for, before it is queued (docs/commands.rst).

Intake and the web API check commands with this, so that the API refuses whatever intake would.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import attrs

from jt709c_gateway.commands import sublocks
from jt709c_gateway.commands.catalogue import CANCEL, LOCAL_COMMANDS
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import CommandSpec, ProfileRegistry


class KnownDevice(Protocol):
    """The device that a command is for, as far as it is known; ``None`` for unknown values.

    ``peripheral`` is the sub-lock or sensor that the command names, with its type; ``device`` is its master
    then.
    """

    @property
    def device(self) -> str:
        """The canonical device id."""

    @property
    def dialect(self) -> str | None:
        """The dialect of the device."""

    @property
    def firmware(self) -> str | None:
        """The firmware of the device."""

    @property
    def peripheral(self) -> str | None:
        """The id of the sub-lock or sensor."""

    @property
    def peripheral_type(self) -> str | None:
        """Its type."""


@attrs.frozen
class CheckedForDevice:
    """A command for its canonical device, with its form there if the profile of the device is known."""

    command: Command
    spec: CommandSpec | None = None


def check_local(command: Command, known: KnownDevice, profiles: ProfileRegistry) -> None:
    """Check a command that the gateway executes itself; raise :class:`InvalidCommand`."""
    sublocks.check_known(command, is_sublock=known.peripheral is not None)
    profiles.validate_loosely(command)
    if command.conditions is not None:
        right = "a command that is written to a lock"
        field = next(iter(command.conditions.fields()))
        raise InvalidCommand(field, f"has no meaning for {command.name}", right).about(command)
    if known.peripheral is not None and command.name != CANCEL:
        sublocks.redirect_to_master(command, known.device, sublocks.DEFAULT_PARAMETER)


async def check_command(
    command: Command,
    known: KnownDevice,
    profiles: ProfileRegistry,
    peripheral_type: Callable[[str], Awaitable[str | None]],
) -> CheckedForDevice:
    """Check a command, and redirect one for a sub-lock to its master; raise :class:`InvalidCommand`.

    ``peripheral_type`` returns the type of a sub-lock or sensor, ``None`` if it is unknown. While the
    profile of the device is unknown, the command must fit any profile.
    """
    if command.name in LOCAL_COMMANDS:
        check_local(command, known, profiles)
        return CheckedForDevice(attrs.evolve(command, device=known.device))
    sublocks.check_known(command, is_sublock=known.peripheral is not None)
    profile = profiles.pick(known.device, known.dialect, known.firmware)
    if known.peripheral is None:
        command = attrs.evolve(command, device=known.device)
    else:
        command = sublocks.redirect_to_master(command, known.device, sublocks.parameter(profile))
        sublocks.check_type(command, known.peripheral, known.peripheral_type)
    if profile is None:
        profiles.validate_loosely(command)
        return CheckedForDevice(command)
    spec = profiles.validate(command, profile).spec
    peripheral = spec.peripheral_of(command.params)
    if peripheral is not None and known.peripheral is None:
        sublocks.check_type(command, peripheral, await peripheral_type(peripheral))
    return CheckedForDevice(command, spec)
