"""Commits the steps of commands and publishes them as events (docs/commands.rst)."""

from collections.abc import Callable
from typing import Any, Final

import txredisapi
from attrs import define
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.lifecycle import CommandExecution, Step, Transition
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.replies import Answer
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, to_hash, to_queue_entry
from jt709c_gateway.gateway.commands.claims import Claims
from jt709c_gateway.gateway.commands.partition_routing import PartitionRouting
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.events import KIND_COMMAND, to_text
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.commit_records import (
    Condition,
    EventsRecord,
    PublishedEvent,
    RedisCommand,
    UnknownCondition,
)
from jt709c_gateway.redis.committer import Committer

_UNSETTLED: Final = frozenset({CommandState.UNCONFIRMED, CommandState.UNCERTAIN})


@define(eq=False)
class CommandPublisher:
    """Stores each step of a command together with its event, on the condition that the claim still holds."""

    log = Logger()

    gateway: Gateway
    committer: Committer
    store: CommandStore
    claims: Claims
    routing: PartitionRouting | None = None

    def publish(
        self,
        run: CommandExecution,
        step: Step,
        commands: list[RedisCommand] | None = None,
        *,
        local: bool = False,
        writing: bool = False,
        on_stored: Callable[[bool], None] | None = None,
        on_settled: Callable[[bool], None] | None = None,
        report: str | None = None,
    ) -> None:
        """Store and announce a step's transitions in order; calls `on_stored` after the last one.

        `on_stored` gets whether the last transition was stored: Redis refuses writes of a claim that has
        ended. Without it, a refused transition is stored again without its event; `on_settled` gets whether
        one of the two was stored. `local` is for commands that are not sent to a device: they have no record
        before they end. `writing` says that bytes follow: Redis refuses a second `writing` record of the same
        attempt. `report` is the fingerprint of the report that has led to the step.
        """
        for transition in step.transitions:
            last = transition is step.transitions[-1]
            further = list(commands or []) if last else []
            if not local or transition.fields["ended_at"] is not None:
                further = self._record_writes(run, transition) + further
            condition = self._condition(run, transition, local, writing, report)
            self._announce(
                run, transition, on_stored if last else None, further, condition, on_settled, report
            )

    def _condition(
        self, run: CommandExecution, transition: Transition, local: bool, writing: bool, report: str | None
    ) -> Condition:
        """The condition under which Redis stores a transition."""
        store, command_id = self.store, run.command.id
        if local:
            return store.unknown_condition(command_id)
        if transition.state is CommandState.CONFIRMED:
            return store.evidence_condition(command_id, report)
        if transition.state is CommandState.UNCERTAIN and not transition.announce:
            return store.answer_condition(command_id)
        return store.held_condition(
            command_id, self.claims.token(command_id), run.attempts - 1 if writing else None
        )

    def _record_writes(self, run: CommandExecution, transition: Transition) -> list[RedisCommand]:
        command = run.command
        commands = self.store.record_writes(command.id, to_hash(transition.fields))
        if transition.fields["ended_at"] is not None:
            commands += self.store.release_writes(command.id)
        if run.spec is not None and run.spec.evidence is not None and run.attempts:
            # As soon as its bytes may be sent: the device may move to another gateway before it answers.
            settled = transition.fields["ended_at"] is not None and transition.state not in _UNSETTLED
            written_at = None if settled else run.writing_at
            commands += self.store.unsettled_writes(command.device, command.id, written_at)
        return commands

    def _announce(
        self,
        run: CommandExecution,
        transition: Transition,
        on_stored: Callable[[bool], None] | None,
        commands: list[RedisCommand],
        condition: Condition,
        on_settled: Callable[[bool], None] | None,
        report: str | None,
    ) -> None:
        command = run.command
        token = self.claims.token(command.id)
        public = {name: transition.fields[name] for name in PUBLIC_FIELDS}
        ended = transition.fields["ended_at"] is not None
        if ended and transition.announce:
            commands = commands + self.reply_writes(command.reply_to, public)

        def committed(written: bool) -> None:
            if written and transition.announce:
                self.gateway.counters.commands[transition.state] += 1
            if ended and (written or report is None):
                self.claims.discard(command.id, token)
            if ended and run.attempts and self.gateway.sessions.get(command.device) is None:
                self.notify_owner(command.device)
            if not written and (on_stored is None or isinstance(condition, UnknownCondition)):
                self._retry_without_event(command.device, commands, condition, session, on_stored, on_settled)
            elif on_stored is not None:
                on_stored(written)
            elif on_settled is not None:
                on_settled(written)

        # Evidence counts only when it was seen in the device's newest session.
        session = (
            self.gateway.sessions.get(command.device) if transition.state is CommandState.CONFIRMED else None
        )
        event = public if transition.announce else None
        self.submit(command.device, event, commands, committed, condition, session)

    def _retry_without_event(
        self,
        device: str,
        commands: list[RedisCommand],
        condition: Condition,
        seen_in: Session | None,
        on_stored: Callable[[bool], None] | None,
        on_settled: Callable[[bool], None] | None,
    ) -> None:
        """Store a refused step again without its event.

        Either another gateway owns the command and publishes it; then that is refused, too. Or the event
        could not be written, for example because the device's history key has another type: record and reply
        are stored all the same.
        """

        def retried(written: bool) -> None:
            if on_settled is not None:
                on_settled(written)
            if on_stored is not None:
                on_stored(written)

        self.submit(device, None, commands, retried, condition, seen_in)

    def reply_writes(self, name: str | None, public: dict[str, Any]) -> list[RedisCommand]:
        """Redis commands that push an outcome to the reply list `name`; none without a name."""
        if name is None:
            return []
        text = to_text(public)
        if self.routing is not None:
            stored = self.routing.outcome_writes(name, text, self.gateway.wall().timestamp())
            if stored is not None:
                return stored
        return self.store.reply_writes(name, text)

    def submit(
        self,
        device: str,
        public: dict[str, Any] | None,
        commands: list[RedisCommand],
        then: Callable[[bool], None] | None = None,
        condition: Condition | None = None,
        seen_in: Session | None = None,
    ) -> None:
        """Commit Redis commands and, with `public`, a `command` event; all or nothing.

        Nothing is committed unless `condition` (see `commit_conditions.lua`) holds and `seen_in` is the
        device's newest session. What is among the commands for other partitions is delivered after that.
        """
        events: list[PublishedEvent] = []
        if public is not None:
            session = self.gateway.sessions.get(device)
            events.append((KIND_COMMAND, self.gateway.events.encode(device, KIND_COMMAND, public, session)))
        token = None if seen_in is None else seen_in.token
        record = EventsRecord(
            device=device, events=events, commands=commands, condition=condition, token=token
        )
        self.committer.submit(record, then=self._with_delivery(commands, then))

    def _with_delivery(
        self, commands: list[RedisCommand], then: Callable[[bool], None] | None
    ) -> Callable[[bool], None] | None:
        routing = self.routing
        if routing is None or not routing.has_transfers(commands):
            return then

        def committed(written: bool) -> None:
            if written:
                routing.deliver_stored(commands)
            if then is not None:
                then(written)

        return committed

    def after_commit(self, device: str, then: Callable[[bool], None]) -> None:
        """Call `then` when everything submitted up to now is committed."""
        self.submit(device, None, [], then)

    def committed(self, device: str) -> "defer.Deferred[bool]":
        """Wait until everything submitted up to now is committed."""
        done: defer.Deferred[bool] = defer.Deferred()
        self.after_commit(device, done.callback)
        return done

    def requeue(self, run: CommandExecution, *, last: bool = False) -> None:
        """Put a command back at the head of its device's queue, or at its end as the `last` one."""
        command = run.command
        payload = to_queue_entry(command).decode()
        commands = self.store.requeue_writes(
            command.id, command.device, payload, command.created_at + command.ttl, last=last
        )
        token = self.claims.token(command.id)

        def requeued(written: bool) -> None:
            self.claims.discard(command.id, token)
            if self.gateway.sessions.get(command.device) is None:
                self.notify_owner(command.device)

        self.submit(command.device, None, commands, requeued, self.store.requeue_condition(command.id, token))

    def release(self, run: CommandExecution) -> None:
        """Release the claim of a command that has ended."""
        command_id = run.command.id

        def released(written: bool) -> None:
            self.claims.discard(command_id)

        self.submit(run.command.device, None, self.store.release_writes(command_id), released)

    def notify_owner(self, device: str) -> None:
        """Notify the gateway that the device is connected to, so that it claims the device's commands."""
        defer.Deferred.fromCoroutine(self._notify_owner(device)).addErrback(
            lambda failure: self.log.failure("notifying another gateway failed", failure)
        )

    async def _notify_owner(self, device: str) -> None:
        try:
            await self.store.notify_owner(device)
        except txredisapi.RedisError as error:
            self.log.debug("could not notify the gateway of a device: {reason}", reason=str(error))

    def count_wrong_passwords(self, run: CommandExecution, answer: Answer) -> None:
        """Update the number of consecutive wrong passwords that commands have sent to a device."""
        if run.spec is None or not run.spec.shows_password:
            return
        device = run.command.device
        if answer.wrong_password:
            self.gateway.counters.wrong_passwords += 1
            commands: list[RedisCommand] = [("HINCRBY", self.store.keys.device(device), "wrong_passwords", 1)]
        elif lockout.next_count(1, run.spec, answer) == 0:
            commands = self.store.wrong_password_writes(device, 0)
        else:
            return
        self.submit(device, None, commands)
