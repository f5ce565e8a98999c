"""The result of an input to the state machine of a command."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

import attrs

from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.status import CommandStatus


class Action(Enum):
    """The action that the caller takes next."""

    NONE = auto()
    WRITE = auto()
    """Store the record, then send the bytes."""
    RESEND = auto()
    """Write the command again under a new serial, starting with ``writing``."""
    REQUEUE = auto()
    """Put the command back into the queue of its lock."""
    REFUSED = auto()
    """The command can no longer be cancelled."""


@attrs.frozen
class Transition:
    """A new state to store and, if ``announce``, to publish as a ``command`` event.

    ``fields`` is the whole record, which
    :func:`~jt709c_gateway.commands.serialization.to_hash` turns into the hash.
    """

    state: CommandState
    at: float
    reason: str | None
    fields: Mapping[str, Any] = attrs.field(repr=False)
    announce: bool = True


@attrs.frozen
class Step:
    """The result of an input: transitions to store, then the action to take."""

    transitions: tuple[Transition, ...] = ()
    action: Action = Action.NONE
    before: CommandStatus | None = None
    """The command before evidence confirmed it, for the case that this can't be stored."""
