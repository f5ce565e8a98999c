"""Executes a device's commands, one at a time, and keeps those that await confirmation."""

from collections.abc import Callable
from functools import partial

from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.commands.lifecycle import Action, CommandExecution, Step
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.gateway.commands.address_query import AddressQuery
from jt709c_gateway.gateway.commands.claimer import CommandClaimer
from jt709c_gateway.gateway.commands.confirmations import Confirmations
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.evidence_tracker import EvidenceTracker
from jt709c_gateway.gateway.commands.parked import ParkedCommands
from jt709c_gateway.gateway.commands.pending_query import PendingQuery
from jt709c_gateway.gateway.commands.restore import restore_claimed
from jt709c_gateway.gateway.commands.sender import CommandSender, Hold, log_unexpected_error
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.message import Message


@define(eq=False)
class CommandExecutor:
    """Claims one device's commands from Redis, has them sent and publishes their outcomes.

    The next command is claimed only after the outcome of the previous one is committed.
    """

    device: str
    context: CommandContext
    #: Called when there may be nothing left to execute and to confirm.
    _on_idle: Callable[["CommandExecutor"], None] = field(repr=False)
    session: Session | None = None
    parked: ParkedCommands = field(factory=ParkedCommands, repr=False)
    claimer: CommandClaimer = field(init=False)
    evidence: EvidenceTracker = field(init=False)
    _confirmations: Confirmations = field(init=False, repr=False)
    #: Whether commands wait in Redis that can't be sent yet, and what for.
    waiting: bool = False
    hold: Hold = Hold.NOTHING
    #: Sends the command in progress.
    _sender: CommandSender | None = field(default=None, repr=False)
    #: Whether `_execute_commands` runs.
    _running: bool = False
    #: Whether there may be a command to claim, and whether everything submitted has to be committed first.
    _claim_due: bool = False
    _commit_due: bool = False
    #: A query of the gateway itself; commands wait until it has ended.
    _pending_query: PendingQuery | None = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self.claimer = CommandClaimer(self.context, self.device, self.parked)
        self.evidence = EvidenceTracker(self.context)
        self._confirmations = Confirmations(self.context, self, self.evidence)

    @property
    def current(self) -> CommandExecution | None:
        """The command that is being written or awaits its answer."""
        return None if self._sender is None else self._sender.run

    @property
    def busy(self) -> bool:
        """Whether a command is being claimed or written, or awaits its answer."""
        return self._sender is not None or self._running or self._confirmations.pending > 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to execute and nothing to confirm."""
        if self.busy or self._pending_query is not None:
            return False
        if self.session is None:
            # Ended commands are in Redis; the next claim returns them.
            return all(run.ended for run in self.evidence.watched)
        return not (self.evidence.watched or self.waiting or self.parked or self.evidence.incomplete)

    @property
    def reachable(self) -> bool:
        """Whether bytes can be sent now; over UDP only within the UDP window after the last datagram."""
        session = self.session
        return session is not None and session.connection.is_open and self.context.can_reach(session)

    def attach(self, session: Session, arrived: bool = True) -> None:
        """Use this session and claim the next command; `arrived` says that the device has just connected."""
        if self.session is not None and self.session is not session:
            self.session.assign_executor(None)
        self.session = session
        session.assign_executor(self)
        self.evidence.start()
        self.hold, self.claimer.just_connected = Hold.NOTHING, arrived
        self.schedule_next()

    def detach(self) -> None:
        """Stop using the session; an unanswered command ends or is requeued, depending on its kind."""
        if self.session is not None:
            self.session.assign_executor(None)
            self.session = None
        self.evidence.stop()
        if self._pending_query is not None:
            self._pending_query.finish(False)
        if self._sender is not None:
            self.apply(self._sender.run, self._sender.connection_lost(self.context.now()))

    def hold_for_query(self, pending_query: PendingQuery, behind_commands: bool = True) -> bool:
        """Hold commands back during a query of the gateway; False when commands go first."""
        if self.busy or (self.waiting and behind_commands) or self._pending_query is not None:
            return False
        self._pending_query = pending_query
        return True

    def release_query(self) -> None:
        """End the hold of a query and claim the next command."""
        self._pending_query = None
        self.schedule_next()

    def schedule_next(self, after_commit: bool = False) -> None:
        """Claim the next command from Redis, after the one in progress.

        With `after_commit`, everything submitted until now is committed before that.
        """
        self._claim_due = True
        self._commit_due = self._commit_due or after_commit
        if self._running or self._sender is not None or self._pending_query is not None:
            return
        self._running = True
        executing = defer.Deferred.fromCoroutine(self._execute_commands())
        executing.addErrback(log_unexpected_error, self.device)

    async def _execute_commands(self) -> None:
        """Claim and execute commands, one after the other, until none is left that can be sent."""
        try:
            while self._claim_due and self._sender is None and not self._confirmations.pending:
                if self._commit_due:
                    # The outcome of the last command may forbid the next one.
                    self._commit_due = False
                    await self.context.publisher.committed(self.device)
                elif self.session is not None:
                    self._claim_due = False
                    await self._execute_next(self.session)
                else:
                    break
        finally:
            self._running = False
        if self.waiting and self.hold is Hold.ADDRESS_PROOF and not self.claimer.failed:
            AddressQuery(self.context, self).start()
        self._on_idle(self)

    async def _execute_next(self, session: Session) -> None:
        """Claim one command and execute it, until it has ended or was requeued."""
        is_released = self.hold.is_over(session, self.context.address_proof)
        can_send = self.reachable and self.context.sending and is_released
        self.waiting = not can_send
        claim = await self.claimer.claim(session, can_send)
        if claim is None:
            self.waiting, self._claim_due = True, False
            return
        self.evidence.adopt_migrated(claim)
        if self.session is session:
            for settled, step, report in self.evidence.replay_early_messages(claim, session):
                self.apply(settled, step, report)
        run = restore_claimed(self.context, self.device, claim)
        if claim.command is None:
            self.waiting = claim.waiting > 0 and not (can_send and self.parked)
        elif run is None:
            self._claim_due = True
        elif run.ended or run.in_flight or run.state is CommandState.ACKNOWLEDGED:
            self.recover(run)
        elif self.session is None or not self.reachable or not self.context.sending:
            self.apply(run, run.connection_lost(self.context.now()))
        else:
            self._sender = CommandSender(self.context, self, run)
            await self._sender.execute(claim, self.session)

    def drop(self, run: CommandExecution) -> None:
        """Forget a command that another gateway has adopted and publishes from now on."""
        self.context.claims.discard(run.command.id)
        self.finish(run, watch=False)

    def apply(self, run: CommandExecution, step: Step, report: str | None = None) -> None:
        """Publish a step and carry out its action; `report` is the fingerprint of the report behind it."""
        if not step.transitions and step.action is Action.NONE:
            return
        if step.before is not None and report is not None:
            self._confirmations.publish(run, step, step.before, report)
        else:
            settled = partial(_drop_unless_written, self, run)
            self.context.publisher.publish(run, step, on_settled=settled, report=report)
        if step.action is Action.RESEND and self._sender is not None:
            self._sender.resend()
        elif step.action is Action.REQUEUE:
            self.context.publisher.requeue(run, last=run.command.id in self.parked)
            self.finish(run, watch=False)
        elif run.ended or (run.confirmable and run.state is CommandState.ACKNOWLEDGED):
            self.finish(run)

    def recover(self, run: CommandExecution) -> None:
        """Continue a command of another gateway, or of this one before a crash."""
        self.evidence.track_recovered(run)
        step = run.recovered(self.context.now())
        if run.ended and not step.transitions:
            # The record is complete already.
            self.context.publisher.release(run)
        if step.transitions or step.action is not Action.NONE:
            self.apply(run, step)
        else:
            self.finish(run)

    def finish(self, run: CommandExecution, watch: bool = True) -> None:
        """Watch or forget a command; claim the next one after the commit, since a lockout may forbid it."""
        sender = self._sender if run is self.current else None
        if sender is not None:
            self._sender = None
        self.evidence.forget(run)
        if watch and (run.confirmable or not run.ended):
            self.evidence.watch(run)
        self.schedule_next(after_commit=True)
        if sender is not None:
            sender.end()

    def process_message(
        self, message: Message, moment: Moment, elsewhere: bool = False
    ) -> Callable[[], None] | None:
        """Match a message to this device's commands; returns a callback that applies the steps, or None.

        Sets `command_id` in the message's events. Call the callback after these are submitted, so that
        consumers see cause before effect. A message from `elsewhere`, not from the session's address, does
        not prove that address.
        """
        if not elsewhere and self._pending_query is not None and self._pending_query.is_answered_by(message):
            self._mark_address_proven()
            return partial(self._pending_query.finish, True)
        run = self.current
        answered_before = None if run is None else run.answer
        steps = self.evidence.process_message(
            message, moment.epoch, self.session, run, claiming=self.claimer.claiming
        )
        if not elsewhere and run is not None and run.answer is not answered_before:
            self._mark_address_proven()
        if not steps and not self.waiting and not self.parked:
            return None
        return lambda: self._apply_steps(steps, message.fingerprint)

    def _mark_address_proven(self) -> None:
        if self.session is not None:
            self.session.mark_address_proven()

    def _apply_steps(self, steps: list[tuple[CommandExecution, Step]], report: str | None) -> None:
        for run, step in steps:
            self.apply(run, step, report)
        if self.waiting or self.parked.is_outdated(self.session):
            self.schedule_next()

    def clock_set(self, change: float) -> None:
        """Shift all deadlines by `change` seconds, after the wall clock was set."""
        if self._pending_query is not None:
            self._pending_query.until += change
        for run in filter(None, (self.current, *self.evidence.watched)):
            run.clock_set(change)

    def tick(self, now: float) -> None:
        """End queries and commands whose deadline has passed at `now`, in epoch seconds."""
        if self._pending_query is not None and now >= self._pending_query.until:
            self._pending_query.finish(False)
        if self.parked.release_due(self.context.gateway.clock.seconds()):
            self.schedule_next()
        if self._sender is not None and self._sender.run.is_due(now):
            self.apply(self._sender.run, self._sender.deadline(now))
        for run in [*self.evidence.watched]:
            if run.is_due(now):
                self.apply(run, run.deadline(now))
        if self.evidence.forget_stale(now):
            self._on_idle(self)


def _drop_unless_written(executor: CommandExecutor, run: CommandExecution, written: bool) -> None:
    if not written:
        executor.drop(run)
