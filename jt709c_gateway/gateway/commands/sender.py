"""Sends one command to its device: authorizes, renders and records it, then writes its bytes."""

from enum import Enum, auto
from typing import Protocol

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.lifecycle import Action, CommandExecution, Step
from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.profiles import Rendered
from jt709c_gateway.gateway.commands import encoder, rejections
from jt709c_gateway.gateway.commands.address_proof import AddressProof
from jt709c_gateway.gateway.commands.condition_check import NamedArea, judge_now, read_area
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.parked import ParkedCommands
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store_types import Claim, NotOurs

_log = Logger()


def log_unexpected_error(failure: Failure, device: str) -> None:
    """Log an error of ours in a command for a device."""
    _log.failure("unexpected error in a command for {device}", failure, device=device)


class Hold(Enum):
    """Conditions for a device's next command, besides the device itself."""

    NOTHING = auto()
    DIALECT = auto()
    """Until the dialect of the device is known."""
    ADDRESS_PROOF = auto()
    """Until the device has proved its UDP address."""

    def is_over(self, session: Session, proof: AddressProof) -> bool:
        """Whether that has happened."""
        if self is Hold.DIALECT:
            return session.dialect_or_guess(None) is not None
        return self is Hold.NOTHING or proof.trusts(session)


class CommandOwner(Protocol):
    """What has the command sent, and carries out each step."""

    session: Session | None
    hold: Hold
    parked: ParkedCommands

    @property
    def current(self) -> CommandExecution | None:
        """The command that is being written or awaits its answer."""

    @property
    def reachable(self) -> bool:
        """Whether bytes can be sent now."""

    def apply(self, run: CommandExecution, step: Step) -> None:
        """Publish a step's transitions and carry out its action."""

    def finish(self, run: CommandExecution) -> None:
        """Watch or forget a command that has ended, or that awaits evidence."""

    def schedule_next(self) -> None:
        """Claim the next command, after the one in progress."""

    def drop(self, run: CommandExecution) -> None:
        """Forget a command that another gateway has adopted."""


@define(eq=False)
class CommandSender:
    """Sends the command that `owner` executes, and sends it again if need be.

    The command is recorded as `writing` before its bytes are sent, and the bytes are sent only after that
    record is committed. A gateway that finds the record therefore knows that the bytes may have been sent.

    While `execute` waits, the command may end otherwise: by an answer to an earlier write, at its deadline,
    or with the connection. `owner` applies these steps at once and calls `end`.
    """

    context: CommandContext
    owner: CommandOwner
    run: CommandExecution
    #: Fires with whether the command has to be written again; until then its answer is awaited.
    _outcome: "defer.Deferred[bool] | None" = field(default=None, repr=False)

    async def execute(self, claim: Claim, session: Session) -> None:
        """Authorize, render, record and send the command; returns when it has ended or was requeued."""
        try:
            named = await read_area(self.context, self.run.command)
            if self._is_over:
                return
            if self.owner.session is not session:
                self.owner.apply(self.run, self.run.connection_lost(self.context.now()))
                return
            rendered = self._prepare(claim, session)
            if rendered is None or not self._is_allowed(named):
                return
            await self._write(rendered, session, claim.serial)
            while await self._is_to_be_resent():
                await self._write_again(rendered)
        except Exception:
            log_unexpected_error(Failure(), session.device)  # type: ignore[no-untyped-call]
            self._give_up(CommandState.FAILED, "the gateway failed to handle it")

    def resend(self) -> None:
        """Have the command written again: it was not answered in time."""
        self._resume(resend=True)

    def end(self) -> None:
        """Go on after the command has ended, was requeued, or is another gateway's."""
        self._resume(resend=False)

    @property
    def _is_over(self) -> bool:
        return self.owner.current is not self.run

    def _resume(self, resend: bool) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            outcome.callback(resend)

    async def _is_to_be_resent(self) -> bool:
        """Wait for the answer: false when the command has ended, true when it has to be written again."""
        if self._is_over:
            return False
        self._outcome = defer.Deferred()
        return await self._outcome

    def _prepare(self, claim: Claim, session: Session) -> Rendered | None:
        """Authorize, validate and render the command for this device; None when it must not be sent now."""
        run, context, now = self.run, self.context, self.context.now()
        try:
            context.authorizer.check_waited(run, session, now)
            checked = context.check(run.command, session, claim)
            if checked is None:
                self._hold(Hold.DIALECT)
                return None
            if not context.address_proof.allows(session, checked.spec):
                self._hold(Hold.ADDRESS_PROOF)
                return None
            if lockout.blocks(claim.wrong_passwords, checked.spec):
                context.gateway.counters.locked_out += 1
                run.assign(checked.spec)
                self.owner.apply(run, run.settle(now, CommandState.REJECTED, lockout.REASON))
                return None
            rendered = run.prepare(checked, now, context.gateway_parameters(claim))
            context.authorizer.check_form(run, now)
        except InvalidCommand as error:
            rejections.reject_claimed(context, session.device, error)
            self._give_up(CommandState.INVALID, str(error))
            return None
        return rendered

    def _is_allowed(self, named: NamedArea) -> bool:
        """Whether the command's conditions hold now; otherwise it has ended or was requeued."""
        run, now = self.run, self.context.now()
        verdict = judge_now(self.context, run.command, self.owner.session, named)
        if verdict.waits:
            wait = None if verdict.until is None else verdict.until - now
            self.owner.parked.park(
                run.command.id, self.owner.session, self.context.gateway.clock.seconds(), wait
            )
            self.owner.apply(run, run.hold_back(now, verdict.reason))
        elif not verdict.allowed:
            self.owner.apply(run, run.settle(now, CommandState.REJECTED, verdict.reason))
        return verdict.allowed

    def _hold(self, hold: Hold) -> None:
        """Requeue the command until it can be sent."""
        self.owner.hold = hold
        self.owner.apply(self.run, self.run.connection_lost(self.context.now()))

    async def _write(self, rendered: Rendered, session: Session, number: int) -> None:
        """Record the command as `writing`, then send its bytes."""
        data, serial = encoder.frame(rendered, session, number)
        step = self.run.writing(self.context.now(), serial)
        if step.action is not Action.WRITE:
            self.owner.apply(self.run, step)
            return
        self.context.authorizer.note_written(self.run.command)
        recording: defer.Deferred[bool] = defer.Deferred()
        self.context.publisher.publish(self.run, step, writing=True, on_stored=recording.callback)
        # After a failover the server that stores the record may not know the claim: it is checked again.
        recorded: bool | None = await recording
        if not recorded or not self.context.claims.leased():
            recorded = await self._is_recorded()
        # Read last, so that nothing but the check comes between its reply and the bytes.
        named = await read_area(self.context, self.run.command) if recorded else NamedArea()
        if recorded is None:
            self.owner.drop(self.run)
        elif not self._is_over and self.run.unwritten:
            self.owner.apply(self.run, self._send_bytes(data, recorded, named))

    async def _is_recorded(self) -> bool | None:
        """Whether Redis has the `writing` record; None when the command may be another gateway's.

        Then nothing is sent, and `CommandRecovery` settles the command.
        """
        try:
            return await self.context.claims.is_recorded(self.run)
        except NotOurs:
            return None
        except txredisapi.RedisError as error:
            self.context.refusals.report("to tell the owner of a command", error)
            return None

    def _send_bytes(self, data: bytes, recorded: bool, named: NamedArea) -> Step:
        """Send the bytes, provided that lease and conditions hold; returns the step that this is."""
        run, session, now = self.run, self.owner.session, self.context.now()
        if not recorded:
            return run.write_failed(now, "could not be recorded in Redis", nothing_written=True)
        if run.is_due(now):
            return self._fail_late(now)
        if not self.context.claims.leased():
            return run.write_failed(now, "this gateway was cut off from Redis", nothing_written=True)
        if not (verdict := judge_now(self.context, run.command, session, named)).allowed:
            return run.forbid(now, verdict.reason)
        if session is not None and self.owner.reachable and session.send(data):
            return run.written(now)
        return run.write_failed(now, "the connection was gone", nothing_written=True)

    async def _write_again(self, rendered: Rendered) -> None:
        """Write the command under a new serial, or requeue it when that is impossible."""
        run, number = self.run, None
        try:
            number = await self.context.store.next_serial(run.command.device)
        except txredisapi.RedisError as error:
            self.context.refusals.report("a serial for a command", error)
        session = self.owner.session
        if self._is_over or run.state is CommandState.ACKNOWLEDGED:
            # An earlier write was answered meanwhile.
            return
        if number is None or session is None or not self.owner.reachable:
            self.owner.apply(run, run.connection_lost(self.context.now()))
        else:
            await self._write(rendered, session, number)

    def connection_lost(self, now: float) -> Step:
        """The step when the connection is lost: the command ends or is requeued, depending on its kind."""
        if self.run.unwritten:
            reason = "the connection was lost before writing"
            return self.run.write_failed(now, reason, nothing_written=True)
        return self.run.connection_lost(now)

    def deadline(self, now: float) -> Step:
        """The step at the command's deadline."""
        return self._fail_late(now) if self.run.unwritten else self.run.deadline(now)

    def _fail_late(self, now: float) -> Step:
        reason = f"could not be recorded in Redis within {self.run.command.timeout:g} s"
        return self.run.write_failed(now, reason, nothing_written=True)

    def _give_up(self, state: CommandState, reason: str) -> None:
        """End a command that can't be written or resent."""
        run, now = self.run, self.context.now()
        if self._is_over:
            return
        if run.ended:
            self.owner.finish(run)
        elif not run.attempts:
            self.owner.apply(run, run.settle(now, state, reason))
        elif run.in_flight:
            self.owner.apply(run, run.write_failed(now, reason, nothing_written=run.unwritten))
        else:
            self.owner.apply(run, run.cancel(now, reason))
