"""Sends one command to its device: authorizes, renders and records it, then writes its bytes."""

from enum import Enum, auto
from typing import Any, Protocol

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.lifecycle import Action, CommandExecution, Step
from jt709c_gateway.commands.model import CommandState, InvalidCommand
from jt709c_gateway.commands.profiles import Rendered
from jt709c_gateway.gateway.commands import encoder, rejections
from jt709c_gateway.gateway.commands.address_proof import AddressProof
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store_types import Claim, NotOurs


class Hold(Enum):
    """What a device's next command waits for, besides the device itself."""

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

    @property
    def current(self) -> CommandExecution | None:
        """The command that is being written or awaits its answer."""

    @property
    def reachable(self) -> bool:
        """Whether bytes can be sent now."""

    def apply(self, run: CommandExecution, step: Step) -> None:
        """Publish a step's transitions and carry out its action."""

    def finish(self, run: CommandExecution, watch: bool = True) -> None:
        """Watch or forget a command, and go on with the next one."""

    def drop(self, run: CommandExecution) -> None:
        """Forget a command that another gateway has adopted."""


@define(eq=False)
class CommandSender:
    """Sends the command that `owner` executes, and sends it again if need be.

    The command is recorded as `writing` before its bytes are sent, and the bytes are sent only after that
    record is committed. A gateway that finds the record therefore knows that the bytes may have been sent.
    """

    log = Logger()

    context: CommandContext
    owner: CommandOwner
    run: CommandExecution
    _rendered: Rendered | None = field(default=None, repr=False)

    def send(self, claim: Claim, session: Session) -> None:
        """Authorize, validate and render the command for this device, and begin to write it."""
        run, context, now = self.run, self.context, self.context.now()
        try:
            context.authorizer.check_waited(run, session, now)
            checked = context.check(run.command, session, claim)
            if checked is None:
                self._hold(Hold.DIALECT)
                return
            if not context.address_proof.allows(session, checked.spec):
                self._hold(Hold.ADDRESS_PROOF)
                return
            if lockout.blocks(claim.wrong_passwords, checked.spec):
                context.gateway.counters.locked_out += 1
                run.assign(checked.spec)
                self.owner.apply(run, run.settle(now, CommandState.REJECTED, lockout.REASON))
                return
            self._rendered = run.prepare(checked, now, context.gateway_parameters(claim))
            context.authorizer.check_form(run, now)
        except InvalidCommand as error:
            rejections.reject_claimed(context, session.device, error)
            self._give_up(CommandState.INVALID, str(error))
            return
        self._write(session, claim.serial)

    def _hold(self, hold: Hold) -> None:
        """Requeue the command until it can be sent."""
        self.owner.hold = hold
        self.owner.apply(self.run, self.run.connection_lost(self.context.now()))

    def resend(self) -> None:
        """Write the command again under a new serial."""
        device = self.run.command.device
        numbering = defer.Deferred.fromCoroutine(self.context.store.next_serial(device))
        numbering.addCallbacks(self._write_again, self._on_serial_failed)
        numbering.addErrback(self.on_unexpected_error)

    def connection_lost(self, now: float) -> Step:
        """The step when the connection is lost: the command ends or is requeued, depending on its kind."""
        if self.run.unwritten:
            reason = "the connection was lost before writing"
            return self.run.write_failed(now, reason, nothing_written=True)
        return self.run.connection_lost(now)

    def deadline(self, now: float) -> Step:
        """The step at the command's deadline."""
        return self._fail_late(now) if self.run.unwritten else self.run.deadline(now)

    def on_unexpected_error(self, failure: Any) -> None:
        """Log an error; the command fails unless its bytes may have been sent."""
        self.log.failure(
            "unexpected error in a command for {device}", failure, device=self.run.command.device
        )
        if self.owner.current is self.run and (self.run.unwritten or not self.run.in_flight):
            self._give_up(CommandState.FAILED, "the gateway failed to handle it")

    def _give_up(self, state: CommandState, reason: str) -> None:
        """End a command that can't be written or resent."""
        run, now = self.run, self.context.now()
        if run.ended:
            self.owner.finish(run)
        elif not run.attempts:
            self.owner.apply(run, run.settle(now, state, reason))
        elif run.in_flight:
            self.owner.apply(run, run.write_failed(now, reason, nothing_written=True))
        else:
            self.owner.apply(run, run.cancel(now, reason))

    def _write(self, session: Session, number: int) -> None:
        assert self._rendered is not None
        data, serial = encoder.frame(self._rendered, session, number)
        step = self.run.writing(self.context.now(), serial)
        if step.action is Action.WRITE:
            self.context.authorizer.note_written(self.run.command)
            # After a failover the server that stores the record may not know the claim; it is checked there.
            self.context.publisher.publish(
                self.run, step, lambda recorded: self._on_recorded(data, recorded), writing=True
            )
        else:
            self.owner.apply(self.run, step)

    def _on_recorded(self, data: bytes, recorded: bool) -> None:
        """Send the bytes after the `writing` record is committed, provided that the lease still holds."""
        if recorded and self.context.claims.leased():
            self._send_bytes(data, recorded)
            return
        checking = defer.Deferred.fromCoroutine(self.context.claims.is_recorded(self.run))
        checking.addCallback(
            lambda known: self.owner.drop(self.run) if known is None else self._send_bytes(data, known)
        )
        checking.addErrback(self._on_ownership_unknown)

    def _send_bytes(self, data: bytes, recorded: bool) -> None:
        run, session = self.run, self.owner.session
        if self.owner.current is not run or not self.run.unwritten:
            return
        now = self.context.now()
        if not recorded:
            step = run.write_failed(now, "could not be recorded in Redis", nothing_written=True)
        elif run.is_due(now):
            step = self._fail_late(now)
        elif not self.context.claims.leased():
            step = run.write_failed(now, "this gateway was cut off from Redis", nothing_written=True)
        elif session is not None and self.owner.reachable and session.send(data):
            step = run.written(now)
        else:
            step = run.write_failed(now, "the connection was gone", nothing_written=True)
        self.owner.apply(run, step)

    def _fail_late(self, now: float) -> Step:
        reason = f"could not be recorded in Redis within {self.run.command.timeout:g} s"
        return self.run.write_failed(now, reason, nothing_written=True)

    def _on_ownership_unknown(self, failure: Any) -> None:
        """Drop the command when Redis can't tell its owner: nothing is sent, `CommandRecovery` settles it."""
        self.owner.drop(self.run)
        if not failure.check(NotOurs):
            failure.trap(txredisapi.RedisError)
            self.context.refusals.report("to tell the owner of a command", failure.value)

    def _write_again(self, number: int) -> None:
        run, session = self.run, self.owner.session
        if run is not self.owner.current or run.ended:
            return
        if session is not None and self.owner.reachable:
            self._write(session, number)
        else:
            self.owner.apply(run, run.connection_lost(self.context.now()))

    def _on_serial_failed(self, failure: Any) -> None:
        """Requeue the command when Redis gives no serial for its retry."""
        run = self.run
        if run is self.owner.current and not run.ended:
            self.owner.apply(run, run.connection_lost(self.context.now()))
        failure.trap(txredisapi.RedisError)
        self.context.refusals.report("a serial for a command", failure.value)
