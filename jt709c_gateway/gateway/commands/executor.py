"""The commands of one lock: one under way at a time, and those whose effect is still to be seen."""

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
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.command_store_types import NotOurs, SessionClaim

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
    from jt709c_gateway.gateway.commands.pending_query import PendingQuery
    from jt709c_gateway.gateway.gateway import Moment
    from jt709c_gateway.redis.command_store_types import Claim


@define(eq=False)
class CommandExecutor:
    """Takes commands for one lock from Redis, writes them, and hears what becomes of them.

    A command is recorded as being written before its bytes are handed over, and the bytes are handed over
    only in answer to that record. So whoever finds the record knows that they may be out. The next command is
    taken only when Redis knows all that became of the one before.
    """

    log = Logger()

    device: str
    dispatcher: "CommandDispatcher"
    session: Session | None = None
    current: CommandExecution | None = None
    testimony: EvidenceTracker = field(init=False)
    #: Commands wait in Redis that can't be sent yet.
    waiting: bool = False
    #: Redis refused the last look; Commands has it repeated.
    failed: bool = False
    _rendered: Rendered | None = field(default=None, repr=False)
    _claiming: bool = False
    _handed_over: bool = False
    _look_again: bool = False
    #: Records on their way to Redis that the next look has to wait for.
    _settling: int = 0
    #: A command waits because nobody knows yet which dialect the lock speaks.
    _dialect_wanted: bool = False
    #: A command waits until the lock has shown that it is where its datagrams come from.
    _proof_wanted: bool = False
    #: The lock has just come, and Redis doesn't know yet.
    _arrived: bool = False
    #: The gateway itself asks the lock something; commands wait until that is over.
    _question: "PendingQuery | None" = field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        self.testimony = EvidenceTracker(self.dispatcher)

    @property
    def watched(self) -> list[CommandExecution]:
        """Commands that are not under way any more, and whose effect is still to be seen."""
        return self.testimony.watched

    @property
    def busy(self) -> bool:
        """Whether a command is being taken, written or awaits its answer."""
        return self.current is not None or self._claiming or self._settling > 0

    @property
    def idle(self) -> bool:
        """Whether nothing is left to do or to be seen here."""
        if self.busy or self._question is not None:
            return False
        if self.session is None:
            # What has ended is in Redis, and comes back with the lock.
            return all(run.ended for run in self.watched)
        return not (self.watched or self.waiting or self.testimony.incomplete)

    @property
    def reachable(self) -> bool:
        """Whether bytes can be written now: a datagram finds its way only soon after one from the lock."""
        session = self.session
        if session is None or not session.conversation.is_open:
            return False
        return not session.conversation.is_datagram or self.dispatcher.heard_lately(session)

    def attach(self, session: Session, arrived: bool = True) -> None:
        """The lock is there, and has perhaps just `arrived`: send what waits for it."""
        if self.session is not None and self.session is not session:
            self.session.desk = None
        self.session = session
        session.desk = self
        self.testimony.begin()
        self._dialect_wanted, self._arrived = False, arrived
        self._proof_wanted = False
        self.kick()

    def detach(self) -> None:
        """The lock is gone: what was written and not answered ends or waits, as its kind asks."""
        if self.session is not None:
            self.session.desk = None
        self.session = None
        self.testimony.end()
        if self._question is not None:
            self._question.end(False)
        run = self.current
        if run is None:
            return
        now = self.dispatcher.now()
        if run.in_flight and not self._handed_over:
            step = run.write_failed(now, "the connection was lost before writing", nothing_written=True)
        else:
            step = run.connection_lost(now)
        self.apply(run, step)

    def hold(self, question: "PendingQuery", behind_commands: bool = True) -> bool:
        """Keep commands waiting while the gateway itself asks the lock something; False when they go
        first."""
        if self.busy or (self.waiting and behind_commands) or self._question is not None:
            return False
        self._question = question
        return True

    def let_go(self) -> None:
        """What the gateway had to ask is over: the lock's commands go on."""
        self._question = None
        self.kick()

    def kick(self) -> None:
        """Take the next command from Redis, unless one is under way."""
        if self.current is not None or self._settling or self._question is not None:
            return
        session = self.session
        if session is None:
            self.dispatcher.tidy(self)
            return
        if self._claiming:
            self._look_again = True
            return
        speaks = not self._dialect_wanted or session.speaks(None) is not None
        proven = not self._proof_wanted or self.dispatcher.proving.trusts(session)
        take = self.reachable and self.dispatcher.sending and speaks and proven
        arrived, self._arrived = self._arrived, False
        self.waiting = not take
        self.failed = self._look_again = False
        self._claiming = True
        asking = SessionClaim(session.token, arrived, session.stored)
        claim = self.dispatcher.store.claim(self.device, take, self.dispatcher.now(), asking)
        claiming = defer.Deferred.fromCoroutine(claim)
        claiming.addCallbacks(
            self._claimed, self._not_claimed, callbackArgs=(session,), errbackArgs=(session,)
        )
        claiming.addErrback(self._broken)

    def _claimed(self, claim: "Claim", session: Session) -> None:
        self._claiming = False
        self.testimony.take_along(claim)
        if self.session is session:
            for settled, step in self.testimony.catch_up(claim, session):
                self.apply(settled, step)
        if claim.command is None:
            self.waiting = claim.waiting > 0
            if self._look_again:
                self.kick()
            elif self.waiting and self._proof_wanted and self.session is not None:
                self.dispatcher.proving.ask(self, self.session)
            else:
                self.dispatcher.tidy(self)
            return
        try:
            command = from_queue_entry(claim.command)
        except InvalidCommand as error:
            rejections.cast_out(self.dispatcher, self.device, claim.command, claim.record, error)
            self.kick()
            return
        self.dispatcher.take(command.id, claim.record)
        try:
            run = self.dispatcher.restore(claim.record, command)
        except ValueError as error:
            # It stays in hand, so that nobody writes it, until a person has looked.
            self.log.error("command {id} has no readable record: {reason}", id=command.id, reason=str(error))
            self.kick()
            return
        self.current = run
        self._handed_over = False
        if run.ended or run.in_flight or run.state is CommandState.ACKNOWLEDGED:
            self.take_over(run)
        elif self.session is None or not self.reachable or not self.dispatcher.sending:
            self.apply(run, run.connection_lost(self.dispatcher.now()))
        else:
            self._prepare(run, claim, self.session)

    def _not_claimed(self, failure: Any, session: Session) -> None:
        """Redis is away, or refuses; `Commands` kicks again."""
        self._claiming = False
        self.waiting = self.failed = self._arrived = True
        if failure.check(NotOurs):
            if failure.value.moved:
                self.dispatcher.gateway.presence.moved_away(session)
        else:
            failure.trap(txredisapi.RedisError)
            self.dispatcher.refusals.report("a look for a lock's commands", failure.value)
        if self.session is None:
            self.dispatcher.tidy(self)

    def _broken(self, failure: Any) -> None:
        self.log.failure("a command for {device} could not be handled", failure, device=self.device)
        run = self.current
        if run is not None and not (run.in_flight and self._handed_over):
            self._give_up(run, CommandState.FAILED, "the gateway failed to handle it")

    def _give_up(self, run: CommandExecution, state: CommandState, reason: str) -> None:
        """End a command that can't be written (again)."""
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
        """Check the command against what this lock understands, and begin to write it."""
        now = self.dispatcher.now()
        try:
            self.dispatcher.authority.check_waited(run, session, now)
            checked = self.dispatcher.check(run.command, session, claim)
            if checked is None:
                self._dialect_wanted = True
                self.apply(run, run.connection_lost(now))
                return
            if not self.dispatcher.proving.allows(session, checked.spec):
                self._proof_wanted = True
                self.apply(run, run.connection_lost(now))
                return
            if lockout.blocks(claim.wrong_passwords, checked.spec):
                self.dispatcher.gateway.counters.locked_out += 1
                run.assign(checked.spec)
                self.apply(run, run.settle(now, CommandState.REJECTED, lockout.REASON))
                return
            self._rendered = run.prepare(checked, now, self.dispatcher.supplied(claim))
            self.dispatcher.authority.check_form(run, now)
        except InvalidCommand as error:
            rejections.refused(self.dispatcher, self.device, error)
            self._give_up(run, CommandState.INVALID, str(error))
            return
        self._write(run, session, claim.serial)

    def _write(self, run: CommandExecution, session: Session, number: int) -> None:
        assert self._rendered is not None
        self._handed_over = False
        data, serial = encoder.frame(self._rendered, session, number)
        step = run.writing(self.dispatcher.now(), serial)
        if step.action is Action.WRITE:
            self.dispatcher.authority.note(run.command)
            # On the server that stores it, another than took the claim if one has failed over meanwhile.
            self.dispatcher.publish(
                run, step, lambda recorded: self._recorded(run, data, recorded), writing=True
            )
        else:
            self.apply(run, step)

    def _recorded(self, run: CommandExecution, data: bytes, recorded: bool) -> None:
        """Redis knows that the bytes may be out from now on: let them out, while nobody takes us for dead."""
        if recorded and self.dispatcher.leased():
            self._hand_over(run, data, recorded)
            return
        checking = defer.Deferred.fromCoroutine(self.dispatcher.is_recorded(run))
        checking.addCallback(
            lambda known: self.drop(run) if known is None else self._hand_over(run, data, known)
        )
        checking.addErrback(self._not_known, run)

    def _hand_over(self, run: CommandExecution, data: bytes, recorded: bool) -> None:
        if self.current is not run or not run.in_flight or self._handed_over:
            return
        now = self.dispatcher.now()
        if not recorded:
            step = run.write_failed(now, "could not be recorded in Redis", nothing_written=True)
        elif self._is_late(run, now):
            step = self._late(run, now)
        elif not self.dispatcher.leased():
            step = run.write_failed(now, "this gateway was cut off from Redis", nothing_written=True)
        elif self.session is not None and self.reachable and self.session.send(data):
            self._handed_over = True
            step = run.written(now)
        else:
            step = run.write_failed(now, "the connection was gone", nothing_written=True)
        self.apply(run, step)

    def _is_late(self, run: CommandExecution, now: float) -> bool:
        due = run.next_deadline
        return due is not None and now >= due

    def _late(self, run: CommandExecution, now: float) -> Step:
        reason = f"could not be recorded in Redis within {run.command.timeout:g} s"
        return run.write_failed(now, reason, nothing_written=True)

    def _not_known(self, failure: Any, run: CommandExecution) -> None:
        """Redis was asked whose the command is, and is away: nothing is written, and `Recovery` settles
        it."""
        self.drop(run)
        if not failure.check(NotOurs):
            failure.trap(txredisapi.RedisError)
            self.dispatcher.refusals.report("to say whose a command is", failure.value)

    def drop(self, run: CommandExecution) -> None:
        """Forget a command that another gateway has adopted, which says what becomes of it."""
        self.dispatcher.held.pop(run.command.id, None)
        self._finish(run, watch=False)

    def apply(self, run: CommandExecution, step: Step) -> None:
        """Publish what happened, and do what is to be done next."""
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

    def take_over(self, run: CommandExecution) -> None:
        """Go on with a command that was in other hands, or in ours before a crash."""
        self.testimony.join(run)
        step = run.recovered(self.dispatcher.now())
        if run.ended and not step.transitions:
            # Its record says all there is to say.
            self.dispatcher.release(run)
        if step.transitions or step.action is not Action.NONE:
            self.apply(run, step)
        else:
            self._finish(run)

    async def drop_moved(self) -> None:
        """Forget commands that went to another gateway together with the lock."""
        for run in [run for run in self.watched if not run.ended]:
            found = await self.dispatcher.store.ownership(run.command.id)
            if found.holder != self.dispatcher.store.holder and run in self.watched and not run.ended:
                self.drop(run)

    def _finish(self, run: CommandExecution, watch: bool = True) -> None:
        """Watch or forget a command; take the next once Redis knows of it, since a refusal may forbid
        that."""
        if run is self.current:
            self.current = self._rendered = None
        self.testimony.forget(run)
        if watch and (run.confirmable or not run.ended):
            self.testimony.watch(run)
        self._settling += 1
        self.dispatcher.after_commit(self.device, self._settled)

    def _settled(self, written: bool) -> None:
        self._settling -= 1
        self.kick()

    def _resend(self, run: CommandExecution) -> None:
        numbering = defer.Deferred.fromCoroutine(self.dispatcher.store.next_serial(self.device))
        numbering.addCallbacks(
            lambda number: self._resent(run, number), self._not_numbered, errbackArgs=(run,)
        )
        numbering.addErrback(self._broken)

    def _resent(self, run: CommandExecution, number: int) -> None:
        if run is not self.current or run.ended:
            return
        if self.session is not None and self.reachable:
            self._write(run, self.session, number)
        else:
            self.apply(run, run.connection_lost(self.dispatcher.now()))

    def _not_numbered(self, failure: Any, run: CommandExecution) -> None:
        """Redis is away: the command waits for it in its lock's queue."""
        if run is self.current and not run.ended:
            self.apply(run, run.connection_lost(self.dispatcher.now()))
        failure.trap(txredisapi.RedisError)
        self.dispatcher.refusals.report("a serial for a command", failure.value)

    def hear(self, message: Message, moment: "Moment", elsewhere: bool = False) -> Callable[[], None] | None:
        """What a message means for the commands here.

        Names the command in the message's events; gives what is to be done once they are on their way, so
        that consumers see cause before effect. What was said `elsewhere` than where the session is proves
        nothing of that place.
        """
        if not elsewhere and self._question is not None and self._question.answered_by(message):
            self._prove()
            return partial(self._question.end, True)
        run = self.current
        answered_before = None if run is None else run.answer
        steps = self.testimony.hear(
            message,
            moment.epoch,
            self.session,
            run,
            # Nothing that is said now can be due to bytes that aren't out yet.
            may_be_due=run is None or not run.in_flight or self._handed_over,
            asking=self._claiming,
        )
        if not elsewhere and run is not None and run.answer is not answered_before:
            self._prove()
        if not steps and not self.waiting:
            return None
        return lambda: self._heard(steps)

    def _prove(self) -> None:
        """The lock has answered what was sent to it."""
        if self.session is not None and self.session.conversation.is_datagram:
            self.session.prove()

    def _heard(self, steps: list[tuple[CommandExecution, Step]]) -> None:
        for run, step in steps:
            self.apply(run, step)
        if self.waiting:
            self.kick()

    def _in_mind(self) -> list[CommandExecution]:
        return [*self.watched] if self.current is None else [self.current, *self.watched]

    def clock_set(self, change: float) -> None:
        """The clock that everybody's times go by was set by so many seconds."""
        if self._question is not None:
            self._question.until += change
        for run in self._in_mind():
            run.clock_set(change)

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self._question is not None and now >= self._question.until:
            self._question.end(False)
        for run in self._in_mind():
            if self._is_late(run, now):
                unwritten = run is self.current and run.in_flight and not self._handed_over
                self.apply(run, self._late(run, now) if unwritten else run.deadline(now))
        if self.testimony.forget_stale(now):
            self.dispatcher.tidy(self)
