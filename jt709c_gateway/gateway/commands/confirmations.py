"""Publishes confirmations, and has a command await evidence again when Redis refuses its confirmation."""

from functools import partial

import txredisapi
from attrs import define
from twisted.internet import defer

from jt709c_gateway.commands.lifecycle import CommandExecution, Step
from jt709c_gateway.commands.status import CommandStatus
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.evidence_tracker import EvidenceTracker
from jt709c_gateway.gateway.commands.sender import CommandOwner, log_unexpected_error


@define(eq=False)
class Confirmations:
    """Publishes the confirmations of one device's commands."""

    context: CommandContext
    owner: CommandOwner
    evidence: EvidenceTracker
    #: Number of confirmations that Redis has neither stored nor refused.
    pending: int = 0

    def publish(self, run: CommandExecution, step: Step, before: CommandStatus, report: str) -> None:
        """Publish that the report with the fingerprint `report` confirms a command.

        `before` is the command before that.
        """
        self.pending += 1
        on_settled = partial(self._on_settled, run, before, report)
        self.context.publisher.publish(run, step, on_settled=on_settled, report=report)

    def _on_settled(self, run: CommandExecution, before: CommandStatus, report: str, written: bool) -> None:
        """Have a command await evidence again if Redis has refused to confirm it.

        Either the report was not stored, and the device will repeat it; or another gateway has settled the
        command, which Redis tells.
        """
        self.pending -= 1
        if written:
            self.context.claims.discard(run.command.id)
            self.owner.schedule_next()
            return
        self.evidence.not_stored(report)
        step = run.undo(before, self.context.now())
        if step.transitions:
            self.owner.apply(run, step)
        else:
            self.owner.finish(run)
        checking = defer.Deferred.fromCoroutine(self._check_unsettled(run))
        checking.addErrback(log_unexpected_error, run.command.device)

    async def _check_unsettled(self, run: CommandExecution) -> None:
        """Drop a command that is not this gateway's any more, or that has been settled."""
        # Its present state may be on its way to Redis.
        await self.context.publisher.committed(run.command.device)
        state = run.state
        try:
            record = await self.context.store.record(run.command.id)
        except txredisapi.RedisError:
            return
        if run.state is state and not self.context.claims.may_settle(run, record):
            self.owner.drop(run)
