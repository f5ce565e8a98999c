"""The life of one command at one lock, without clock, network or store (DESIGN.md §4).

Whoever drives an :class:`CommandRun` tells it what happened, stores and publishes the transitions it returns,
and carries out the action. The order of things when writing is what keeps a lock from opening twice:

1. ``prepare``, then ``writing`` and, if its action is ``WRITE``, store the transition;
2. only then, and only if it is still ``in_flight``, hand the bytes over, and report ``written`` or
   ``write_failed``; where the connection has gone meanwhile, with ``nothing_written``.

A crash between the two leaves a record that says the bytes may be out, and :meth:`CommandRun.recovered` then
never writes a physical command again.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

import attrs

from jt709c_gateway.commands.evidence import Observation, confirms
from jt709c_gateway.commands.model import ENDED, CommandState, truncate
from jt709c_gateway.commands.profiles.spec import CheckedCommand
from jt709c_gateway.commands.profiles.templates import Rendered
from jt709c_gateway.commands.record import CommandRecord, Limits
from jt709c_gateway.commands.replies import Answer, Reply, ReplyKind, match
from jt709c_gateway.commands.stored import iso

__all__ = ["Action", "CommandExecution", "LifecycleError", "Limits", "Step", "Transition"]

_REASON: Final = 200
_OPEN: Final = frozenset({CommandState.UNCONFIRMED, CommandState.UNCERTAIN})


class LifecycleError(RuntimeError):
    """The driver asked for what must not happen, such as writing a physical command twice."""


class Action(Enum):
    """What the driver has to do next."""

    NONE = auto()
    WRITE = auto()
    """The record once stored, hand over the bytes."""
    RESEND = auto()
    """Write it again, under a new serial, beginning with ``writing``."""
    REQUEUE = auto()
    """Put it back into the lock's waiting list."""
    REFUSED = auto()
    """It can't be cancelled any more."""


@attrs.frozen
class Transition:
    """One step to store and, if ``announce``, to publish as a ``command`` event.

    ``fields`` is the whole record for the hash (:func:`~jt709c_gateway.commands.stored.to_hash` makes text of
    it).
    """

    state: CommandState
    at: float
    reason: str | None
    fields: Mapping[str, Any] = attrs.field(repr=False)
    announce: bool = True


@attrs.frozen
class Step:
    """What an event led to."""

    transitions: tuple[Transition, ...] = ()
    action: Action = Action.NONE


@attrs.define
class CommandExecution(CommandRecord):
    """One command under way; what is known of it is in
    :class:`~jt709c_gateway.commands.record.CommandRecord`."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done; :attr:`confirmable` may still be true."""
        return self.state in ENDED

    @property
    def confirmable(self) -> bool:
        """Whether evidence may still change its state."""
        has_rule = self.spec is not None and self.spec.evidence is not None
        return has_rule and self.writing_at is not None and (not self.ended or self.state in _OPEN)

    @property
    def in_flight(self) -> bool:
        """Whether bytes may be out that nobody has answered."""
        return self.writing_at is not None and not self.ended and self.state is not CommandState.ACKNOWLEDGED

    @property
    def next_deadline(self) -> float | None:
        """When to call :meth:`deadline`; ``None`` once ended."""
        if self.ended:
            return None
        expiry = self.command.created_at + self.command.ttl
        if self.state is CommandState.ACKNOWLEDGED and self.acknowledged_at is not None:
            patience = self._confirm_timeout if self._is_physical else self.command.timeout
            return self.acknowledged_at + patience
        if self.writing_at is not None:
            handed_over = self.writing_at if self.sent_at is None else max(self.sent_at, self.writing_at)
            return handed_over + self.command.timeout
        if self._resend_at is not None:
            return max(expiry, self._resend_at + self.command.timeout)
        return expiry

    @property
    def _is_physical(self) -> bool:
        # What is not known is treated with the greater care.
        return self.physical is not False

    @property
    def _confirm_timeout(self) -> float:
        delay = 0.0 if self.spec is None else self.spec.delay(self.command.params)
        return self.limits.confirm_timeout + delay

    @property
    def allowed_writes(self) -> int:
        """How often it may be written, in all."""
        if self._is_physical or self.spec is None:
            return 1
        return self.limits.repeats or self.spec.repeats

    def queued(self, now: float) -> Step:
        """The gateway has taken the command in."""
        return Step((self._to(CommandState.QUEUED, now),))

    def waiting(self, now: float) -> Step:
        """The lock is away."""
        if self.ended or self.in_flight or self.state is CommandState.ACKNOWLEDGED:
            raise LifecycleError(f"command {self.command.id} is {self.state}; it can't wait")
        if self.state is CommandState.WAITING:
            return Step()
        return Step((self._to(CommandState.WAITING, now),))

    def settle(self, now: float, state: CommandState, reason: str | None = None) -> Step:
        """End a command that was never written, by the gateway's own decision.

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
        """Take over the lock's form of the command and render it; ``supplied`` is as in ``OrderSpec.render``.

        Raises :class:`~jt709c_gateway.commands.model.InvalidCommand`; the command is then to be settled as
        ``invalid``.
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
                f"command {self.command.id} was written {self._times()}; it must not be again"
            )
        if self._resend_at is None and now >= self.command.created_at + self.command.ttl:
            return self._expired(now)
        self.attempts += 1
        self.writing_at, self._handed_over, self._resend_at = now, False, None
        if serial is not None:
            self.serials.append(serial)
        return Step((self._record(now),), Action.WRITE)

    def written(self, now: float) -> Step:
        """All bytes were handed to the transport."""
        if not self.in_flight or self._handed_over or self.spec is None:
            return Step()
        self.sent_at, self._handed_over = now, True
        sent = self._to(CommandState.SENT, now)
        if self.spec.reply.kind is ReplyKind.NONE and not self._is_physical:
            return Step((sent, self._to(CommandState.DONE, now, "the lock does not answer this command")))
        return Step((sent,))

    def write_failed(self, now: float, reason: str, nothing_written: bool) -> Step:
        """The transport would not take the bytes, or not all of them."""
        if not self.in_flight:
            return Step()
        if self._is_physical:
            state = CommandState.FAILED if nothing_written else CommandState.UNCERTAIN
            return Step((self._to(state, now, reason),))
        return self._again(now, CommandState.WAITING, CommandState.FAILED, reason)

    def match(self, reply: Reply) -> Answer | None:
        """Whether ``reply`` answers this command, under any of the serials it was written with."""
        if self.spec is None or not self.attempts:
            return None
        serials: list[int | None] = [*self.serials]
        for serial in serials or [None]:
            answer = match(self.spec.reply, serial, reply)
            if answer is not None:
                return answer
        return None

    def reply(self, answer: Answer, now: float) -> Step:
        """The lock answered. After the end only the record grows, and only where the fate was unknown."""
        if self.state is CommandState.UNCERTAIN and self.answer is None:
            self._note(answer, now)
            return Step((self._record(now),))
        if self.ended or not self.attempts:
            return Step()
        acknowledged = self.state is CommandState.ACKNOWLEDGED
        if acknowledged and self._is_physical:
            return Step()
        self._note(answer, now)
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
        """The lock reported a movement or a status; whether it proves that the command was carried out."""
        rule = None if self.spec is None else self.spec.evidence
        if rule is None or self.writing_at is None or not self.confirmable:
            return Step()
        patient = attrs.evolve(rule, within=max(rule.within, self._confirm_timeout))
        if not confirms(patient, observation, self.writing_at, now, self.peripheral):
            return Step()
        self.evidence = {**observation.public(), "time": iso(observation.time)}
        self.confirmed_at = now
        return Step((self._to(CommandState.CONFIRMED, now),))

    def connection_lost(self, now: float) -> Step:
        """The connection over which it was, or would have been, written is gone."""
        if self.ended or self.state is CommandState.ACKNOWLEDGED:
            return Step()
        if not self.in_flight:
            return self._requeued(now, CommandState.WAITING, None)
        reason = "the connection was lost after writing"
        if self._is_physical:
            return Step((self._to(CommandState.UNCERTAIN, now, reason),))
        return self._again(now, CommandState.WAITING, CommandState.TIMED_OUT, reason)

    def deadline(self, now: float) -> Step:
        """Time has passed; nothing happens before :attr:`next_deadline`."""
        due = self.next_deadline
        if due is None or now < due:
            return Step()
        if self.state is CommandState.ACKNOWLEDGED:
            return self._unanswered_further(now)
        if self.writing_at is None:
            return self._expired(now)
        reason = f"no answer within {self.command.timeout:g} s"
        if self._is_physical:
            return Step((self._to(CommandState.UNCERTAIN, now, reason),))
        if self.attempts >= self.allowed_writes:
            return Step((self._to(CommandState.TIMED_OUT, now, f"{reason}, written {self._times()}"),))
        self.writing_at, self._resend_at = None, now
        return Step(action=Action.RESEND)

    def clock_set(self, change: float) -> None:
        """The clock was set by so many seconds: what has been waited for an answer or evidence is kept.

        A ttl is never made longer by that: behind a clock that was set forward there may be real time.
        """
        for name in ("writing_at", "sent_at", "acknowledged_at", "_resend_at"):
            if (at := getattr(self, name)) is not None:
                setattr(self, name, at + change)
        if change < 0:
            self.command = attrs.evolve(self.command, created_at=self.command.created_at + change)

    def cancel(self, now: float, reason: str = "taken back") -> Step:
        """Take the command back; the action is ``REFUSED`` where bytes may be out or it has ended."""
        if self.state not in (CommandState.QUEUED, CommandState.WAITING) or self.in_flight:
            return Step(action=Action.REFUSED)
        if self.attempts:
            reason = f"{reason}; written {self._times()} without an answer"
        return Step((self._to(CommandState.CANCELLED, now, reason),))

    def recovered(self, now: float) -> Step:
        """Found in the list of a gateway that died.

        A physical command that may be out ends as ``uncertain``; what was not written goes back to the queue;
        an acknowledged one goes on being watched for evidence.
        """
        if self.ended:
            return Step()
        if self.state is CommandState.ACKNOWLEDGED:
            return self.deadline(now) if self._is_physical else self._unanswered_further(now)
        if self.in_flight:
            reason = "the gateway died after writing"
            if self._is_physical:
                return Step((self._to(CommandState.UNCERTAIN, now, reason),))
            return self._again(now, CommandState.QUEUED, CommandState.TIMED_OUT, reason)
        if now >= self.command.created_at + self.command.ttl:
            return self._expired(now)
        return self._requeued(now, CommandState.QUEUED, None)

    def _to(self, state: CommandState, now: float, reason: str | None = None) -> Transition:
        # Cleaned before it is cut, lest half a secret remain.
        self.state, self.reason = state, None if reason is None else truncate(self.clean(reason), _REASON)
        if state in ENDED:
            self.ended_at = now
        return Transition(state, now, self.reason, self.stored())

    def _record(self, now: float) -> Transition:
        return Transition(self.state, now, self.reason, self.stored(), announce=False)

    def _expired(self, now: float) -> Step:
        reason = f"not sent within {self.command.ttl:g} s"
        if self.attempts:
            reason = f"not answered within {self.command.ttl:g} s, written {self._times()}"
        return Step((self._to(CommandState.EXPIRED, now, reason),))

    def _again(self, now: float, back: CommandState, end: CommandState, reason: str) -> Step:
        """Another try for a non-physical command, if it has one left."""
        if self.attempts >= self.allowed_writes:
            return Step((self._to(end, now, f"{reason}, written {self._times()}"),))
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

    def _unanswered_further(self, now: float) -> Step:
        if self._is_physical:
            reason = f"the lock said yes; no evidence within {self._confirm_timeout:g} s"
            return Step((self._to(CommandState.UNCONFIRMED, now, reason),))
        return Step((self._to(CommandState.DONE, now, "the lock said yes, but the data never came"),))

    def _note(self, answer: Answer, now: float) -> None:
        self.answer = {
            "accepted": answer.accepted,
            "understood": answer.understood,
            "wrong_password": answer.wrong_password,
        }
        # What the lock said may echo a secret, which only a run that knows its secrets can take out.
        if not self._masked:
            said = {"reason": answer.reason, "arguments": answer.arguments, "data": answer.data}
            self.answer.update(self.clean(said))
        if answer.accepted and self.acknowledged_at is None:
            self.acknowledged_at = now

    def _times(self) -> str:
        return {1: "once", 2: "twice"}.get(self.attempts, f"{self.attempts} times")
