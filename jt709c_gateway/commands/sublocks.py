"""Orders for sub-locks, which are written to the master they report through (PROTOCOL.md §3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from jt709c_gateway.commands.catalogue import CATALOGUE
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import Profile
from jt709c_gateway.commands.value_description import described, unknown_name

SUBLOCK_UNLOCK: Final = "sublock_unlock"
SUBLOCK_ORDERS: Final[Mapping[str, str]] = {"unlock": SUBLOCK_UNLOCK, SUBLOCK_UNLOCK: SUBLOCK_UNLOCK}
"""The orders that may name a sub-lock as their device, and what its master is told for each."""

SUBLOCK_ID: Final = 10
"""Hex digits of a sub-lock's id (PROTOCOL.md §3)."""

DEFAULT_PARAMETER: Final = "id"
"""The parameter that names the sub-lock, where no profile says."""

#: Peripherals that can be bound to a master but open nothing, as `peripheral_type` has them.
_SENSORS: Final = frozenset({"jt126"})


def parameter(profile: Profile | None) -> str:
    """The parameter that names the sub-lock in the master's profile."""
    definition = None if profile is None else profile.orders.get(SUBLOCK_UNLOCK)
    named = None if definition is None else definition.peripheral
    return named or DEFAULT_PARAMETER


def redirect_to_master(order: Command, master: str, parameter: str) -> Command:
    """The order for ``master`` that an order whose device is a sub-lock stands for.

    ``parameter`` names the sub-lock in it. Raises :class:`InvalidOrder`, about the order at its master.
    """
    sublock = order.device
    moved = attrs.evolve(order, device=master)
    command = SUBLOCK_ORDERS.get(order.command)
    if command is None:
        taken = " or ".join(SUBLOCK_ORDERS)
        known = order.command in CATALOGUE
        named = order.command if known else unknown_name(order.command, SUBLOCK_ORDERS)
        problem = f"{named} can't be given to {sublock}, a sub-lock of master {master}"
        raise InvalidCommand("command", problem, f"{taken}, or the master as device").about(moved)
    named = order.params.get(parameter, sublock)
    if named != sublock:
        right = f"{sublock}, to which the order is addressed, or nothing"
        raise InvalidCommand(f"params.{parameter}", f"is {described(named)}", right).about(moved)
    signature = order.signature
    if signature is not None:
        signature = attrs.evolve(signature, sublock_parameter=parameter)
    params = {**order.params, parameter: sublock}
    return attrs.evolve(moved, command=command, params=params, signature=signature)


def check_known(order: Command, *, is_sublock: bool) -> None:
    """Refuse an order whose device can only be a sub-lock, and has reported through no master yet."""
    if not is_sublock and not order.device.isdecimal():
        problem = "no sub-lock of this id has reported yet"
        right = "a device id, an IMEI, or a sub-lock that has reported through its master"
        raise InvalidCommand("device", problem, right).about(order)


def check_type(order: Command, peripheral: str, kind: str | None) -> None:
    """Refuse an order for what can't be opened; ``kind`` is its type where that is known."""
    if kind in _SENSORS:
        problem = f"{peripheral} is a {kind.upper()} sensor of master {order.device} and opens nothing"
        raise InvalidCommand("device", problem, "a sub-lock").about(order)
