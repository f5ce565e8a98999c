"""Tells from the record of a command whether it has ended, its next deadline and what confirms it."""

from __future__ import annotations

from typing import Final

import attrs

from jt709c_gateway.commands.evidence import Observation, confirms
from jt709c_gateway.commands.model import ENDED, CommandState
from jt709c_gateway.commands.record import CommandRecord

_OPEN: Final = frozenset({CommandState.UNCONFIRMED, CommandState.UNCERTAIN})


@attrs.define
class CommandStatus(CommandRecord):
    """Tells how far one command is; its subclass `CommandExecution` in `lifecycle` changes it."""

    @property
    def ended(self) -> bool:
        """Whether the command is in a final state; :attr:`confirmable` may still be true."""
        return self.state in ENDED

    @property
    def confirmable(self) -> bool:
        """Whether evidence may still change the state."""
        has_rule = self.spec is not None and self.spec.evidence is not None
        return has_rule and self.writing_at is not None and (not self.ended or self.state in _OPEN)

    def is_confirmed_by(self, observation: Observation, now: float) -> bool:
        """Whether a reported movement or status proves that the command was carried out."""
        rule = None if self.spec is None else self.spec.evidence
        if rule is None or self.writing_at is None or not self.confirmable:
            return False
        patient = attrs.evolve(rule, within=max(rule.within, self._confirm_timeout))
        return confirms(patient, observation, self.writing_at, now, self.peripheral)

    @property
    def in_flight(self) -> bool:
        """Whether bytes may have been sent that the lock has not answered."""
        return self.writing_at is not None and not self.ended and self.state is not CommandState.ACKNOWLEDGED

    @property
    def unwritten(self) -> bool:
        """Whether it is recorded as about to be written, but no bytes have been handed to the transport."""
        return self.in_flight and not self._handed_over

    @property
    def next_deadline(self) -> float | None:
        """When to call :meth:`deadline`; ``None`` once ended."""
        if self.ended:
            return None
        expiry = self.command.created_at + self.command.ttl
        if self.state is CommandState.ACKNOWLEDGED and self.acknowledged_at is not None:
            wait = self._confirm_timeout if self._is_physical else self.command.timeout
            return self.acknowledged_at + wait
        if self.writing_at is not None:
            handed_over = self.writing_at if self.sent_at is None else max(self.sent_at, self.writing_at)
            return handed_over + self.command.timeout
        if self._resend_at is not None:
            return max(expiry, self._resend_at + self.command.timeout)
        return expiry

    def is_due(self, now: float) -> bool:
        """Whether :attr:`next_deadline` has passed."""
        due = self.next_deadline
        return due is not None and now >= due

    @property
    def _is_physical(self) -> bool:
        # Unknown counts as physical: that is the safe side.
        return self.physical is not False

    @property
    def _confirm_timeout(self) -> float:
        delay = 0.0 if self.spec is None else self.spec.delay(self.command.params)
        return self.limits.confirm_timeout + delay

    @property
    def allowed_writes(self) -> int:
        """The maximum number of writes of this command."""
        if self._is_physical or self.spec is None:
            return 1
        return self.limits.repeats or self.spec.repeats

    def clock_set(self, change: float) -> None:
        """Shift the times by ``change`` seconds after the clock was set, so that no timeout jumps.

        A ttl never becomes longer: real time may have passed while the clock was set forward.
        """
        for name in ("writing_at", "sent_at", "acknowledged_at", "_resend_at"):
            if (at := getattr(self, name)) is not None:
                setattr(self, name, at + change)
        if change < 0:
            self.command = attrs.evolve(self.command, created_at=self.command.created_at + change)

    def _write_count(self) -> str:
        return {1: "once", 2: "twice"}.get(self.attempts, f"{self.attempts} times")
