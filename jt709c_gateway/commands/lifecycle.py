"""The state machine of one command, without clock, network or store (docs/commands.rst, "States").

The caller reports to a :class:`CommandExecution` what happened, stores and publishes the transitions it
returns, and carries out the action. A lock never opens twice because writing has a fixed sequence:

1. ``prepare``, then ``writing`` and, if its action is ``WRITE``, store the transition;
2. then, if it is still ``in_flight``, send the bytes and report ``written`` or ``write_failed``; if the
   connection was lost meanwhile, with ``nothing_written``.

A crash between the two leaves a record that says that the bytes may have been sent, and
:meth:`CommandExecution.recovered` never writes such a physical command again.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import attrs

from jt709c_gateway.commands.evidence import Observation
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.profiles.spec import CheckedCommand
from jt709c_gateway.commands.profiles.templates import Rendered
from jt709c_gateway.commands.record import Limits
from jt709c_gateway.commands.replies import Answer, Reply, ReplyKind, match
from jt709c_gateway.commands.status import CommandStatus
from jt709c_gateway.commands.steps import CommandSteps
from jt709c_gateway.commands.transitions import Action, Step, Transition
from jt709c_gateway.util.timestamps import iso

__all__ = ["Action", "CommandExecution", "LifecycleError", "Limits", "Step", "Transition"]


class LifecycleError(RuntimeError):
    """The caller requested a forbidden step, such as writing a physical command twice."""


@attrs.define
class CommandExecution(CommandSteps):
    """Changes the state of one command as its lock, its connection and the clock report.

    The data is in :class:`~jt709c_gateway.commands.record.CommandRecord`, and what follows from them alone in
    :class:`~jt709c_gateway.commands.status.CommandStatus`; the single steps are made in
    :class:`~jt709c_gateway.commands.steps.CommandSteps`.
    """

    def queued(self, now: float) -> Step:
        """Record that the gateway accepted the command."""
        return Step((self._to(CommandState.QUEUED, now),))

    def waiting(self, now: float) -> Step:
        """Record that the lock is offline."""
        if self.ended or self.in_flight or self.state is CommandState.ACKNOWLEDGED:
            raise LifecycleError(f"command {self.command.id} is {self.state}; it can't wait")
        if self.state is CommandState.WAITING:
            return Step()
        return Step((self._to(CommandState.WAITING, now),))

    def hold_back(self, now: float, reason: str) -> Step:
        """Return to the queue until the command's conditions hold; announced once for each ``reason``."""
        if self.ended or self.in_flight or self.state is CommandState.ACKNOWLEDGED:
            raise LifecycleError(f"command {self.command.id} is {self.state}; it can't be held back")
        same = self.state is CommandState.WAITING and self.reason == self.shortened(reason)
        return self._requeued(now, CommandState.WAITING, None if same else reason)

    def forbid(self, now: float, reason: str) -> Step:
        """End a command that is recorded as about to be written, and that its conditions forbid by now.

        No bytes of this write have been handed over, and none will be.
        """
        if not self.unwritten:
            raise LifecycleError(f"command {self.command.id} is {self.state}; it can't be forbidden any more")
        if self.attempts > 1:
            reason = f"{reason}; written {self.attempts - 1} times before, without an answer"
        return Step((self._to(CommandState.REJECTED, now, reason),))

    def settle(self, now: float, state: CommandState, reason: str | None = None) -> Step:
        """End a command that was never written, as the gateway decides.

        ``done`` for a command it carries out itself, ``rejected`` during a lockout, ``invalid`` where its
        parameters don't suit the lock, ``failed`` where it can't be carried out.
        """
        allowed = (CommandState.DONE, CommandState.REJECTED, CommandState.INVALID, CommandState.FAILED)
        if self.ended or self.attempts or state not in allowed:
            raise LifecycleError(f"command {self.command.id} is {self.state}; it can't be settled as {state}")
        return Step((self._to(state, now, reason),))

    def prepare(
        self, checked: CheckedCommand, now: float, supplied: Mapping[str, str] | None = None
    ) -> Rendered:
        """Assign the form that the lock's profile has for the command, and render it.

        ``supplied`` is that of :meth:`~jt709c_gateway.commands.profiles.spec.CommandSpec.render`. Raises
        :class:`~jt709c_gateway.commands.model.InvalidCommand`; settle the command as ``invalid`` then.
        """
        self.assign(checked.spec)
        self.hide((supplied or {}).values())
        return checked.render(now, supplied)

    def writing(self, now: float, serial: int | None) -> Step:
        """About to be written under ``serial`` (``None`` where the form has none).

        With the action ``WRITE`` the transition must be stored before the bytes are handed over; a command
        whose ttl has run out expires instead. Raises :class:`LifecycleError` where it must not be written.
        """
        acknowledged = self.state is CommandState.ACKNOWLEDGED
        if self.spec is None or self.ended or acknowledged or self.writing_at is not None:
            raise LifecycleError(f"command {self.command.id} is {self.state}; it can't be written now")
        if self._masked:
            raise LifecycleError(
                f"command {self.command.id} is known from its record only, without its secrets"
            )
        if self.attempts >= self.allowed_writes:
            raise LifecycleError(
                f"command {self.command.id} was written {self._write_count()}; it must not be again"
            )
        if self._resend_at is None and now >= self.command.created_at + self.command.ttl:
            return self._expired(now)
        self.attempts += 1
        self.writing_at, self._handed_over, self._resend_at = now, False, None
        if serial is not None:
            self.serials.append(serial)
        return Step((self._unannounced(now),), Action.WRITE)

    def written(self, now: float) -> Step:
        """Record that the transport took all bytes."""
        if not self.in_flight or self._handed_over or self.spec is None:
            return Step()
        self.sent_at, self._handed_over = now, True
        sent = self._to(CommandState.SENT, now)
        if self.spec.reply.kind is ReplyKind.NONE and not self._is_physical:
            return Step((sent, self._to(CommandState.DONE, now, "the lock does not answer this command")))
        return Step((sent,))

    def write_failed(self, now: float, reason: str, nothing_written: bool) -> Step:
        """Record that the transport took none or only some of the bytes."""
        if not self.in_flight:
            return Step()
        if self._is_physical:
            state = CommandState.FAILED if nothing_written else CommandState.UNCERTAIN
            return Step((self._to(state, now, reason),))
        return self._retry_or_end(now, CommandState.WAITING, CommandState.FAILED, reason)

    def match(self, reply: Reply) -> Answer | None:
        """Interpret ``reply`` as an answer to any of the serials of this command; ``None`` if it is none."""
        if self.spec is None or not self.attempts:
            return None
        serials: list[int | None] = [*self.serials]
        for serial in serials or [None]:
            answer = match(self.spec.reply, serial, reply)
            if answer is not None:
                return answer
        return None

    def reply(self, answer: Answer, now: float) -> Step:
        """Process the answer of the lock; a command that ended as ``uncertain`` only records it."""
        if self.state is CommandState.UNCERTAIN and self.answer is None:
            self._record_answer(answer, now)
            return Step((self._unannounced(now),))
        if self.ended or not self.attempts:
            return Step()
        acknowledged = self.state is CommandState.ACKNOWLEDGED
        if acknowledged and self._is_physical:
            return Step()
        self._record_answer(answer, now)
        if not answer.accepted:
            unknown = self._is_physical and not answer.understood
            state = CommandState.UNCERTAIN if unknown else CommandState.REJECTED
            return Step((self._to(state, now, answer.reason),))
        if self._is_physical:
            return self._acknowledged(now)
        if answer.final:
            return Step((self._to(CommandState.DONE, now),))
        return Step() if acknowledged else Step((self._to(CommandState.ACKNOWLEDGED, now),))

    def observe(self, observation: Observation, now: float) -> Step:
        """Confirm the command if a reported movement or status proves that it was carried out."""
        if not self.is_confirmed_by(observation, now):
            return Step()
        before = copy(self)
        self.evidence = {**observation.public(), "time": iso(observation.time)}
        self.confirmed_at = now
        return Step((self._to(CommandState.CONFIRMED, now),), before=before)

    def undo(self, before: CommandStatus, now: float) -> Step:
        """Return to the state before evidence: the report that had it was not stored, and will come again.

        A physical command without an answer ends as ``uncertain``: the lock has reacted, and says no more.
        """
        for attribute in attrs.fields(type(self)):
            setattr(self, attribute.name, getattr(before, attribute.name))
        if self.in_flight and self._is_physical:
            reason = "the lock reported a movement that could not be stored"
            return Step((self._to(CommandState.UNCERTAIN, now, reason),))
        return Step()

    def connection_lost(self, now: float) -> Step:
        """Process the loss of the connection to the lock."""
        if self.ended or self.state is CommandState.ACKNOWLEDGED:
            return Step()
        if not self.in_flight:
            return self._requeued(now, CommandState.WAITING, None)
        reason = "the connection was lost after writing"
        if self._is_physical:
            return Step((self._to(CommandState.UNCERTAIN, now, reason),))
        return self._retry_or_end(now, CommandState.WAITING, CommandState.TIMED_OUT, reason)

    def deadline(self, now: float) -> Step:
        """Apply the timeout that is due; do nothing before :attr:`next_deadline`."""
        if not self.is_due(now):
            return Step()
        if self.state is CommandState.ACKNOWLEDGED:
            return self._no_further_answer(now)
        if self.writing_at is None:
            return self._expired(now)
        reason = f"no answer within {self.command.timeout:g} s"
        if self._is_physical:
            return Step((self._to(CommandState.UNCERTAIN, now, reason),))
        if self.attempts >= self.allowed_writes:
            return Step((self._to(CommandState.TIMED_OUT, now, f"{reason}, written {self._write_count()}"),))
        self.writing_at, self._resend_at = None, now
        return Step(action=Action.RESEND)

    def cancel(self, now: float, reason: str = "taken back") -> Step:
        """Cancel the command; the action is ``REFUSED`` if bytes may have been sent or it has ended."""
        if self.state not in (CommandState.QUEUED, CommandState.WAITING) or self.in_flight:
            return Step(action=Action.REFUSED)
        if self.attempts:
            reason = f"{reason}; written {self._write_count()} without an answer"
        return Step((self._to(CommandState.CANCELLED, now, reason),))

    def recovered(self, now: float) -> Step:
        """Resume a command found in the list of a gateway that crashed.

        A physical command that may have been sent ends as ``uncertain``; a command that was not written
        returns to the queue; an acknowledged one still awaits evidence.
        """
        if self.ended:
            return Step()
        if self.state is CommandState.ACKNOWLEDGED:
            return self.deadline(now) if self._is_physical else self._no_further_answer(now)
        if self.in_flight:
            reason = "the gateway died after writing"
            if self._is_physical:
                return Step((self._to(CommandState.UNCERTAIN, now, reason),))
            return self._retry_or_end(now, CommandState.QUEUED, CommandState.TIMED_OUT, reason)
        if now >= self.command.created_at + self.command.ttl:
            return self._expired(now)
        return self._requeued(now, CommandState.QUEUED, None)
