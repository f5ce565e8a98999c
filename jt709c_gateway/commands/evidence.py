"""Does something a lock reports prove that a physical command was carried out? (DESIGN.md §4)

An answer says what the lock was told; only a lock event or a changed status says that it moved.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import attrs

SLACK: Final = 5.0
"""Seconds by which the time of a movement may be wrong after the skew of the lock's clock is taken off."""

DEFAULT_WITHIN: Final = 600.0
"""Seconds after a command was written in which a movement counts as its effect."""


class ObservationKind(StrEnum):
    """Where an observation comes from: an event of the lock, or the status in a report."""

    LOCK = "lock"
    STATUS = "status"


@attrs.frozen
class Observation:
    """One fact from a lock's report.

    ``action``, ``method`` and ``lock_state`` are the words of the ``lock`` and ``location`` events (DESIGN.md
    §3). A status may carry the ``method`` of a lock event in the same report. ``time`` is when it happened by
    our clock, seconds since 1970, ``None`` where the report doesn't tell. ``previous_lock_state`` is what was
    last known before. ``peripheral`` is the sub-lock it is about, ``None`` for the device itself.
    """

    kind: ObservationKind
    action: str | None = None
    method: str | None = None
    lock_state: str | None = None
    previous_lock_state: str | None = None
    time: float | None = None
    peripheral: str | None = None

    def public(self) -> dict[str, Any]:
        """The observation for the command's record."""
        if self.kind is ObservationKind.LOCK:
            return {"kind": "lock", "action": self.action, "method": self.method}
        return {"kind": "status", "lock_state": self.lock_state, "previous": self.previous_lock_state}


@attrs.frozen
class Delay:
    """How long a lock may take before it moves: ``seconds``, or so many for each 1 of a ``parameter``."""

    seconds: float = 0.0
    parameter: str | None = None

    def describe(self) -> str:
        """It in words."""
        return (
            f"{self.seconds:g} s"
            if self.parameter is None
            else f"{self.seconds:g} s for each 1 of {self.parameter}"
        )


@attrs.frozen
class EvidenceRule:
    """What confirms a command; from a profile's ``evidence`` table.

    A lock event counts when its action and its method are listed, so that a card held to the lock does not
    confirm an unlock sent from here. A status counts when the lock state *became* ``lock_state``. Either must
    have happened within ``within`` seconds after the command was written. ``delay`` passes before the time
    for evidence (``Limits.confirm_timeout``) begins.
    """

    lock_actions: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    lock_state: str | None = None
    within: float = DEFAULT_WITHIN
    delay: Delay = Delay()


def confirms(
    rule: EvidenceRule,
    observation: Observation,
    written_at: float,
    now: float,
    peripheral: str | None = None,
) -> bool:
    """Whether ``observation``, come at ``now``, shows the effect of a command written at ``written_at``.

    Times are seconds since 1970. A report that doesn't tell when counts as of its arrival. ``peripheral``
    is the sub-lock that the command is for: what another one does, or the master itself, proves nothing.
    """
    if observation.peripheral != peripheral:
        return False
    happened = now if observation.time is None else observation.time
    if not written_at - SLACK <= happened <= written_at + rule.within + SLACK:
        return False
    if observation.kind is ObservationKind.LOCK:
        return observation.action in rule.lock_actions and observation.method in rule.methods
    if observation.method is not None and observation.method not in rule.methods:
        return False
    changed = observation.previous_lock_state not in (None, observation.lock_state)
    return changed and rule.lock_state is not None and observation.lock_state == rule.lock_state
