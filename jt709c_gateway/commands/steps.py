"""Makes the single steps of a command's state machine (:mod:`jt709c_gateway.commands.lifecycle`)."""

from __future__ import annotations

from typing import Final

import attrs

from jt709c_gateway.commands.model import ENDED, CommandState, truncate
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.status import CommandStatus
from jt709c_gateway.commands.transitions import Action, Step, Transition

_REASON: Final = 200


@attrs.define
class CommandSteps(CommandStatus):
    """Sets the state of one command, and makes the transitions for that."""

    def shortened(self, reason: str) -> str:
        """A reason as the record has it: secrets masked, and not too long."""
        # Mask before truncating, or half a secret could remain.
        return truncate(self.clean(reason), _REASON)

    def _to(self, state: CommandState, now: float, reason: str | None = None) -> Transition:
        self.state, self.reason = state, None if reason is None else self.shortened(reason)
        if state in ENDED:
            self.ended_at = now
        return Transition(state, now, self.reason, self.stored())

    def _unannounced(self, now: float) -> Transition:
        return Transition(self.state, now, self.reason, self.stored(), announce=False)

    def _expired(self, now: float) -> Step:
        reason = f"not sent within {self.command.ttl:g} s"
        if self.state is CommandState.WAITING and self.reason:
            # What it has waited for.
            reason = f"{reason}: {self.reason}"
        if self.attempts:
            reason = f"not answered within {self.command.ttl:g} s, written {self._write_count()}"
        return Step((self._to(CommandState.EXPIRED, now, reason),))

    def _retry_or_end(self, now: float, back: CommandState, end: CommandState, reason: str) -> Step:
        """Requeue a non-physical command if it has a write left, otherwise end it."""
        if self.attempts >= self.allowed_writes:
            return Step((self._to(end, now, f"{reason}, written {self._write_count()}"),))
        self.writing_at = None
        return self._requeued(now, back, reason)

    def _requeued(self, now: float, state: CommandState, reason: str | None) -> Step:
        self._resend_at = None
        changed = self.state is not state or reason is not None
        return Step((self._to(state, now, reason),) if changed else (), Action.REQUEUE)

    def _acknowledged(self, now: float) -> Step:
        first = self._to(CommandState.ACKNOWLEDGED, now)
        if self.spec is not None and self.spec.evidence is not None:
            return Step((first,))
        reason = "the lock said yes; the profile names nothing that could confirm it"
        return Step((first, self._to(CommandState.UNCONFIRMED, now, reason)))

    def _no_further_answer(self, now: float) -> Step:
        if self._is_physical:
            reason = f"the lock said yes; no evidence within {self._confirm_timeout:g} s"
            return Step((self._to(CommandState.UNCONFIRMED, now, reason),))
        return Step((self._to(CommandState.DONE, now, "the lock said yes, but the data never came"),))

    def _record_answer(self, answer: Answer, now: float) -> None:
        self.answer = {
            "accepted": answer.accepted,
            "understood": answer.understood,
            "wrong_password": answer.wrong_password,
        }
        # The answer may echo a secret, which can only be masked while the parameters are known.
        if not self._masked:
            fields = {"reason": answer.reason, "arguments": answer.arguments, "data": answer.data}
            self.answer.update(self.clean(fields))
        if answer.accepted and self.acknowledged_at is None:
            self.acknowledged_at = now
