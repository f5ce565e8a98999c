"""Executes a device's commands, one at a time, and keeps those that await confirmation."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.lifecycle import Action, CommandExecution, Step
from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.profiles import Rendered
from jt709c_gateway.commands.serialization import from_queue_entry
from jt709c_gateway.gateway.commands import encoder, rejections
from jt709c_gateway.gateway.commands.evidence_tracker import EvidenceTracker
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.command_store_types import NotOurs, SessionClaim

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
    from jt709c_gateway.gateway.commands.pending_query import PendingQuery
    from jt709c_gateway.redis.command_store_types import Claim


@define(eq=False)
class CommandExecutor:
    """Claims one device's commands from Redis, sends them and publishes their outcomes.

    A command is recorded as `writing` before its bytes are sent, and the bytes are sent only after that
    record is committed. A gateway that finds the record therefore knows that the bytes may have been sent.
    The next command is claimed only after the outcome of the previous one is committed.
    """

    log = Logger()

    device: str
    dispatcher: "CommandDispatcher"
    session: Session | None = None
    current: CommandExecution | None = None
    evidence: EvidenceTracker = field(init=False)
    #: Whether commands wait in Redis that can't be sent yet.
    waiting: bool = False
    #: Whether the last claim failed; `CommandDispatcher.retry` repeats it.
    failed: bool = False
    _rendered: Rendered | None = field(default=None, repr=False)
    _claiming: bool = False
    _bytes_sent: bool = False
    _claim_again: bool = False
    #: Commits that the next claim has to wait for.
    _pending_commits: int = 0
    #: Whether a command waits until the dialect of the device is known.
    _awaits_dialect: bool = False
    #: Whether a command waits until the device has proved its UDP address.
    _awaits_address_proof: bool = False
    #: Whether the device has connected since the last claim.
    _just_connected: bool = False
    #: A query of the gateway itself; commands wait until it has ended.
    _pending_query: "PendingQuery | None" = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self.evidence = EvidenceTracker(self.dispatcher)

    @property
    def watched(self) -> list[CommandExecution]:
        """Commands that have been answered or have ended and await confirmation."""
        return self.evidence.watched

    @property
    def busy(self) -> bool:
        """Whether a command is being claimed or written, or awaits its answer."""
        return self.current is not None or self._claiming or self._pending_commits > 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to execute and nothing to confirm."""
        if self.busy or self._pending_query is not None:
            return False
        if self.session is None:
            # Ended commands are in Redis; the next claim returns them.
            return all(run.ended for run in self.watched)
        return not (self.watched or self.waiting or self.evidence.incomplete)

    @property
    def reachable(self) -> bool:
        """Whether bytes can be sent now; over UDP only within the UDP window after the last datagram."""
        session = self.session
        if session is None or not session.connection.is_open:
            return False
        return not session.connection.is_datagram or self.dispatcher.heard_recently(session)

    def attach(self, session: Session, arrived: bool = True) -> None:
        """Use this session and claim the next command; `arrived` says that the device has just connected."""
        if self.session is not None and self.session is not session:
            self.session.executor = None
        self.session = session
        session.executor = self
        self.evidence.start()
        self._awaits_dialect, self._just_connected = False, arrived
        self._awaits_address_proof = False
        self.schedule_next()

    def detach(self) -> None:
        """Stop using the session; an unanswered command ends or is requeued, depending on its kind."""
        if self.session is not None:
            self.session.executor = None
        self.session = None
        self.evidence.stop()
        if self._pending_query is not None:
            self._pending_query.finish(False)
        run = self.current
        if run is None:
            return
        now = self.dispatcher.now()
        if run.in_flight and not self._bytes_sent:
            step = run.write_failed(now, "the connection was lost before writing", nothing_written=True)
        else:
            step = run.connection_lost(now)
        self.apply(run, step)

    def hold_for_query(self, pending_query: "PendingQuery", behind_commands: bool = True) -> bool:
        """Hold commands back during a query of the gateway; False when commands go first."""
        if self.busy or (self.waiting and behind_commands) or self._pending_query is not None:
            return False
        self._pending_query = pending_query
        return True

    def release_query(self) -> None:
        """End the hold of a query and claim the next command."""
        self._pending_query = None
        self.schedule_next()

    def schedule_next(self) -> None:
        """Claim the next command from Redis, unless one is in progress."""
        if self.current is not None or self._pending_commits or self._pending_query is not None:
            return
        session = self.session
        if session is None:
            self.dispatcher.remove_if_idle(self)
            return
        if self._claiming:
            self._claim_again = True
            return
        dialect_known = not self._awaits_dialect or session.dialect_or_guess(None) is not None
        proven = not self._awaits_address_proof or self.dispatcher.address_proof.trusts(session)
        can_send = self.reachable and self.dispatcher.sending and dialect_known and proven
        arrived, self._just_connected = self._just_connected, False
        self.waiting = not can_send
        self.failed = self._claim_again = False
        self._claiming = True
        session_claim = SessionClaim(session.token, arrived, session.stored)
        claim = self.dispatcher.store.claim(self.device, can_send, self.dispatcher.now(), session_claim)
        claiming = defer.Deferred.fromCoroutine(claim)
        claiming.addCallbacks(
            self._on_claimed, self._on_claim_failed, callbackArgs=(session,), errbackArgs=(session,)
        )
        claiming.addErrback(self._on_unexpected_error)

    def _on_claimed(self, claim: "Claim", session: Session) -> None:
        self._claiming = False
        self.evidence.adopt_migrated(claim)
        if self.session is session:
            for settled, step in self.evidence.replay_early_messages(claim, session):
                self.apply(settled, step)
        if claim.command is None:
            self.waiting = claim.waiting > 0
            if self._claim_again:
                self.schedule_next()
            elif self.waiting and self._awaits_address_proof and self.session is not None:
                self.dispatcher.address_proof.request(self, self.session)
            else:
                self.dispatcher.remove_if_idle(self)
            return
        try:
            command = from_queue_entry(claim.command)
        except InvalidCommand as error:
            rejections.reject_unreadable(self.dispatcher, self.device, claim.command, claim.record, error)
            self.schedule_next()
            return
        self.dispatcher.record_claim(command.id, claim.record)
        try:
            run = self.dispatcher.restore(claim.record, command)
        except ValueError as error:
            # It stays claimed, so that no gateway writes it, until an operator has looked.
            self.log.error("command {id} has no readable record: {reason}", id=command.id, reason=str(error))
            self.schedule_next()
            return
        self.current = run
        self._bytes_sent = False
        if run.ended or run.in_flight or run.state is CommandState.ACKNOWLEDGED:
            self.recover(run)
        elif self.session is None or not self.reachable or not self.dispatcher.sending:
            self.apply(run, run.connection_lost(self.dispatcher.now()))
        else:
            self._prepare(run, claim, self.session)

    def _on_claim_failed(self, failure: Any, session: Session) -> None:
        """Handle a failed claim; the dispatcher schedules the next one."""
        self._claiming = False
        self.waiting = self.failed = self._just_connected = True
        if failure.check(NotOurs):
            if failure.value.moved:
                self.dispatcher.gateway.lifecycle.session_superseded(session)
        else:
            failure.trap(txredisapi.RedisError)
            self.dispatcher.refusals.report("a claim for the commands of a device", failure.value)
        if self.session is None:
            self.dispatcher.remove_if_idle(self)

    def _on_unexpected_error(self, failure: Any) -> None:
        self.log.failure("unexpected error in a command for {device}", failure, device=self.device)
        run = self.current
        if run is not None and not (run.in_flight and self._bytes_sent):
            self._give_up(run, CommandState.FAILED, "the gateway failed to handle it")

    def _give_up(self, run: CommandExecution, state: CommandState, reason: str) -> None:
        """End a command that can't be written or resent."""
        now = self.dispatcher.now()
        if run.ended:
            self._finish(run)
        elif not run.attempts:
            self.apply(run, run.settle(now, state, reason))
        elif run.in_flight:
            self.apply(run, run.write_failed(now, reason, nothing_written=True))
        else:
            self.apply(run, run.cancel(now, reason))

    def _prepare(self, run: CommandExecution, claim: "Claim", session: Session) -> None:
        """Authorize, validate and render the command for this device, and begin to write it."""
        now = self.dispatcher.now()
        try:
            self.dispatcher.authorizer.check_waited(run, session, now)
            checked = self.dispatcher.check(run.command, session, claim)
            if checked is None:
                self._awaits_dialect = True
                self.apply(run, run.connection_lost(now))
                return
            if not self.dispatcher.address_proof.allows(session, checked.spec):
                self._awaits_address_proof = True
                self.apply(run, run.connection_lost(now))
                return
            if lockout.blocks(claim.wrong_passwords, checked.spec):
                self.dispatcher.gateway.counters.locked_out += 1
                run.assign(checked.spec)
                self.apply(run, run.settle(now, CommandState.REJECTED, lockout.REASON))
                return
            self._rendered = run.prepare(checked, now, self.dispatcher.gateway_parameters(claim))
            self.dispatcher.authorizer.check_form(run, now)
        except InvalidCommand as error:
            rejections.reject_claimed(self.dispatcher, self.device, error)
            self._give_up(run, CommandState.INVALID, str(error))
            return
        self._write(run, session, claim.serial)

    def _write(self, run: CommandExecution, session: Session, number: int) -> None:
        assert self._rendered is not None
        self._bytes_sent = False
        data, serial = encoder.frame(self._rendered, session, number)
        step = run.writing(self.dispatcher.now(), serial)
        if step.action is Action.WRITE:
            self.dispatcher.authorizer.note_written(run.command)
            # After a failover the server that stores the record may not know the claim; it is checked there.
            self.dispatcher.publish(
                run, step, lambda recorded: self._on_recorded(run, data, recorded), writing=True
            )
        else:
            self.apply(run, step)

    def _on_recorded(self, run: CommandExecution, data: bytes, recorded: bool) -> None:
        """Send the bytes after the `writing` record is committed, provided that the lease still holds."""
        if recorded and self.dispatcher.leased():
            self._send_bytes(run, data, recorded)
            return
        checking = defer.Deferred.fromCoroutine(self.dispatcher.is_recorded(run))
        checking.addCallback(
            lambda known: self.drop(run) if known is None else self._send_bytes(run, data, known)
        )
        checking.addErrback(self._on_ownership_unknown, run)

    def _send_bytes(self, run: CommandExecution, data: bytes, recorded: bool) -> None:
        if self.current is not run or not run.in_flight or self._bytes_sent:
            return
        now = self.dispatcher.now()
        if not recorded:
            step = run.write_failed(now, "could not be recorded in Redis", nothing_written=True)
        elif self._is_late(run, now):
            step = self._fail_late(run, now)
        elif not self.dispatcher.leased():
            step = run.write_failed(now, "this gateway was cut off from Redis", nothing_written=True)
        elif self.session is not None and self.reachable and self.session.send(data):
            self._bytes_sent = True
            step = run.written(now)
        else:
            step = run.write_failed(now, "the connection was gone", nothing_written=True)
        self.apply(run, step)

    def _is_late(self, run: CommandExecution, now: float) -> bool:
        due = run.next_deadline
        return due is not None and now >= due

    def _fail_late(self, run: CommandExecution, now: float) -> Step:
        reason = f"could not be recorded in Redis within {run.command.timeout:g} s"
        return run.write_failed(now, reason, nothing_written=True)

    def _on_ownership_unknown(self, failure: Any, run: CommandExecution) -> None:
        """Drop the command when Redis can't tell its owner: nothing is sent, `CommandRecovery` settles it."""
        self.drop(run)
        if not failure.check(NotOurs):
            failure.trap(txredisapi.RedisError)
            self.dispatcher.refusals.report("to tell the owner of a command", failure.value)

    def drop(self, run: CommandExecution) -> None:
        """Forget a command that another gateway has adopted and publishes from now on."""
        self.dispatcher.claims.pop(run.command.id, None)
        self._finish(run, watch=False)

    def apply(self, run: CommandExecution, step: Step) -> None:
        """Publish a step's transitions and carry out its action."""
        if not step.transitions and step.action is Action.NONE:
            return
        self.dispatcher.publish(run, step)
        if step.action is Action.RESEND:
            self._resend(run)
        elif step.action is Action.REQUEUE:
            self.dispatcher.requeue(run)
            self._finish(run, watch=False)
        elif run.ended or (run.confirmable and run.state is CommandState.ACKNOWLEDGED):
            self._finish(run)

    def recover(self, run: CommandExecution) -> None:
        """Continue a command of another gateway, or of this one before a crash."""
        self.evidence.track_recovered(run)
        step = run.recovered(self.dispatcher.now())
        if run.ended and not step.transitions:
            # The record is complete already.
            self.dispatcher.release(run)
        if step.transitions or step.action is not Action.NONE:
            self.apply(run, step)
        else:
            self._finish(run)

    async def drop_migrated(self) -> None:
        """Forget commands that another gateway has adopted together with the device."""
        for run in [run for run in self.watched if not run.ended]:
            found = await self.dispatcher.store.ownership(run.command.id)
            if found.holder != self.dispatcher.store.holder and run in self.watched and not run.ended:
                self.drop(run)

    def _finish(self, run: CommandExecution, watch: bool = True) -> None:
        """Watch or forget a command; claim the next one after the commit, since a lockout may forbid it."""
        if run is self.current:
            self.current = self._rendered = None
        self.evidence.forget(run)
        if watch and (run.confirmable or not run.ended):
            self.evidence.watch(run)
        self._pending_commits += 1
        self.dispatcher.after_commit(self.device, self._on_settled)

    def _on_settled(self, written: bool) -> None:
        self._pending_commits -= 1
        self.schedule_next()

    def _resend(self, run: CommandExecution) -> None:
        numbering = defer.Deferred.fromCoroutine(self.dispatcher.store.next_serial(self.device))
        numbering.addCallbacks(
            lambda number: self._write_again(run, number), self._on_serial_failed, errbackArgs=(run,)
        )
        numbering.addErrback(self._on_unexpected_error)

    def _write_again(self, run: CommandExecution, number: int) -> None:
        if run is not self.current or run.ended:
            return
        if self.session is not None and self.reachable:
            self._write(run, self.session, number)
        else:
            self.apply(run, run.connection_lost(self.dispatcher.now()))

    def _on_serial_failed(self, failure: Any, run: CommandExecution) -> None:
        """Requeue the command when Redis gives no serial for its retry."""
        if run is self.current and not run.ended:
            self.apply(run, run.connection_lost(self.dispatcher.now()))
        failure.trap(txredisapi.RedisError)
        self.dispatcher.refusals.report("a serial for a command", failure.value)

    def process_message(
        self, message: Message, moment: Moment, elsewhere: bool = False
    ) -> Callable[[], None] | None:
        """Match a message to this device's commands; returns a callback that applies the steps, or None.

        Sets `command_id` in the message's events. Call the callback after these are submitted, so that
        consumers see cause before effect. A message from `elsewhere`, not from the session's address, does
        not prove that address.
        """
        if not elsewhere and self._pending_query is not None and self._pending_query.is_answered_by(message):
            self._confirm_address()
            return partial(self._pending_query.finish, True)
        run = self.current
        answered_before = None if run is None else run.answer
        steps = self.evidence.process_message(
            message,
            moment.epoch,
            self.session,
            run,
            # No message can be a reaction to bytes that have not been sent.
            may_be_due=run is None or not run.in_flight or self._bytes_sent,
            claiming=self._claiming,
        )
        if not elsewhere and run is not None and run.answer is not answered_before:
            self._confirm_address()
        if not steps and not self.waiting:
            return None
        return lambda: self._apply_steps(steps)

    def _confirm_address(self) -> None:
        """Note that the device has answered from its UDP address."""
        if self.session is not None and self.session.connection.is_datagram:
            self.session.mark_address_proven()

    def _apply_steps(self, steps: list[tuple[CommandExecution, Step]]) -> None:
        for run, step in steps:
            self.apply(run, step)
        if self.waiting:
            self.schedule_next()

    def _tracked_commands(self) -> list[CommandExecution]:
        return [*self.watched] if self.current is None else [self.current, *self.watched]

    def clock_set(self, change: float) -> None:
        """Shift all deadlines by `change` seconds, after the wall clock was set."""
        if self._pending_query is not None:
            self._pending_query.until += change
        for run in self._tracked_commands():
            run.clock_set(change)

    def tick(self, now: float) -> None:
        """End queries and commands whose deadline has passed at `now`, in epoch seconds."""
        if self._pending_query is not None and now >= self._pending_query.until:
            self._pending_query.finish(False)
        for run in self._tracked_commands():
            if self._is_late(run, now):
                unwritten = run is self.current and run.in_flight and not self._bytes_sent
                self.apply(run, self._fail_late(run, now) if unwritten else run.deadline(now))
        if self.evidence.forget_stale(now):
            self.dispatcher.remove_if_idle(self)
