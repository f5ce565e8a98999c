"""Decides whether a report proves that a physical command was carried out.

An answer only acknowledges the command; a lock event or a changed status proves that the lock moved.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

import attrs

SLACK: Final = 5.0
"""Tolerance in seconds of the time of a movement, after correction of the skew of the lock's clock."""

DEFAULT_WITHIN: Final = 600.0
"""Seconds after the write within which a movement counts as the effect of the command."""


class ObservationKind(StrEnum):
    """The source of an observation: a lock event, or the status in a report."""

    LOCK = "lock"
    STATUS = "status"


@attrs.frozen
class Observation:
    """One movement or status from a report.

    ``action``, ``method`` and ``lock_state`` have the values of the ``lock`` and ``location`` events
    (docs/redis.rst, "Events"). A status may carry the ``method`` of a lock event in the same report. ``time``
    is in seconds since 1970 by the gateway's clock, ``None`` if the report has no time.
    ``previous_lock_state`` is the last state known before. ``peripheral`` is the sub-lock that reported,
    ``None`` for the device itself.
    """

    kind: ObservationKind
    action: str | None = None
    method: str | None = None
    lock_state: str | None = None
    previous_lock_state: str | None = None
    time: float | None = None
    peripheral: str | None = None

    def public(self) -> dict[str, Any]:
        """The observation as the record of a command has it."""
        if self.kind is ObservationKind.LOCK:
            return {"kind": "lock", "action": self.action, "method": self.method}
        return {"kind": "status", "lock_state": self.lock_state, "previous": self.previous_lock_state}


@attrs.frozen
class Delay:
    """Time a lock may take before it moves: ``seconds``, or ``seconds`` times the value of ``parameter``."""

    seconds: float = 0.0
    parameter: str | None = None

    def describe(self) -> str:
        """The delay as text."""
        return (
            f"{self.seconds:g} s"
            if self.parameter is None
            else f"{self.seconds:g} s for each 1 of {self.parameter}"
        )


@attrs.frozen
class EvidenceRule:
    """The evidence that confirms a command, from the ``evidence`` table of a profile.

    A lock event counts if its action and its method are listed, so that a card does not confirm an unlock
    that the gateway sent. A status counts if the lock state *changed* to ``lock_state``. Either must happen
    within ``within`` seconds after the write. ``Limits.confirm_timeout`` starts after ``delay``.
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
    """Whether ``observation``, received at ``now``, shows the effect of a command written at ``written_at``.

    Times are seconds since 1970. An observation without a time counts as of its arrival. ``peripheral`` is
    the sub-lock that the command is for: movements of others, or of the master itself, prove nothing.
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
