"""Redirects commands for sub-locks to the master they report through (docs/protocol.rst §3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from jt709c_gateway.commands.catalogue import CATALOGUE
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import Profile
from jt709c_gateway.commands.value_description import described, unknown_name

SUBLOCK_UNLOCK: Final = "sublock_unlock"
SUBLOCK_COMMANDS: Final[Mapping[str, str]] = {"unlock": SUBLOCK_UNLOCK, SUBLOCK_UNLOCK: SUBLOCK_UNLOCK}
"""The commands that may address a sub-lock, each with the command that its master receives."""

DEFAULT_PARAMETER: Final = "id"
"""The parameter that names the sub-lock if no profile is known."""

#: Values of `peripheral_type` for peripherals that are no locks.
SENSORS: Final = frozenset({"jt126"})


def parameter(profile: Profile | None) -> str:
    """Return the parameter that names the sub-lock in the profile of the master."""
    definition = None if profile is None else profile.commands.get(SUBLOCK_UNLOCK)
    named = None if definition is None else definition.peripheral
    return named or DEFAULT_PARAMETER


def redirect_to_master(command: Command, master: str, parameter: str) -> Command:
    """Convert a command for a sub-lock to the command for its master, whose ``parameter`` names the sub-lock.

    Raises :class:`InvalidCommand`.
    """
    sublock = command.device
    moved = attrs.evolve(command, device=master)
    name = SUBLOCK_COMMANDS.get(command.name)
    if name is None:
        taken = " or ".join(SUBLOCK_COMMANDS)
        known = command.name in CATALOGUE
        named = command.name if known else unknown_name(command.name, SUBLOCK_COMMANDS)
        problem = f"{named} can't be given to {sublock}, a sub-lock of master {master}"
        raise InvalidCommand("command", problem, f"{taken}, or the master as device").about(moved)
    named = command.params.get(parameter, sublock)
    if named != sublock:
        right = f"{sublock}, to which the command is addressed, or nothing"
        raise InvalidCommand(f"params.{parameter}", f"is {described(named)}", right).about(moved)
    signature = command.signature
    if signature is not None:
        signature = attrs.evolve(signature, sublock_parameter=parameter)
    params = {**command.params, parameter: sublock}
    return attrs.evolve(moved, name=name, params=params, signature=signature)


def check_known(command: Command, *, is_sublock: bool) -> None:
    """Reject a command to an unknown sub-lock, one that has not reported through any master yet."""
    if not is_sublock and not command.device.isdecimal():
        problem = "no sub-lock of this id has reported yet"
        right = "a device id, an IMEI, or a sub-lock that has reported through its master"
        raise InvalidCommand("device", problem, right).about(command)


def check_type(command: Command, peripheral: str, kind: str | None) -> None:
    """Reject a command to a peripheral that is no lock; ``kind`` is its type if known."""
    if kind in SENSORS:
        problem = f"{peripheral} is a {kind.upper()} sensor of master {command.device} and opens nothing"
        raise InvalidCommand("device", problem, "a sub-lock").about(command)
