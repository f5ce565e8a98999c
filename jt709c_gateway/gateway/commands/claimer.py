"""Claims a device's commands from Redis."""

import txredisapi
from attrs import define, field

from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.parked import ParkedCommands
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store_types import Claim, NotOurs, SessionClaim


@define(eq=False)
class CommandClaimer:
    """Claims the commands of one device, for the session that it has here."""

    context: CommandContext
    device: str
    #: The commands that are passed over.
    parked: ParkedCommands = field(repr=False)
    #: Whether a claim is in progress.
    claiming: bool = False
    #: Whether the last claim failed; `CommandDispatcher.retry` repeats it.
    failed: bool = False
    #: Whether the device has connected since the last claim.
    just_connected: bool = False

    async def claim(self, session: Session, can_send: bool) -> Claim | None:
        """Claim the next command if it `can_send`, and read the unsettled ones; None when that has failed."""
        session_claim = SessionClaim(session.token, self.just_connected, session.stored)
        self.claiming, self.failed, self.just_connected = True, False, False
        context = self.context
        passed_over = self.parked.passed_over(session) if can_send else []
        try:
            claim = await context.store.claim(
                self.device, can_send, context.now(), session_claim, passed_over
            )
        except Exception as error:
            self.failed = self.just_connected = True
            if isinstance(error, NotOurs):
                if error.moved:
                    context.gateway.lifecycle.session_superseded(session)
            elif isinstance(error, txredisapi.RedisError):
                context.refusals.report("a claim for the commands of a device", error)
            else:
                raise
            return None
        finally:
            self.claiming = False
        if claim.command is None and not claim.waiting:
            self.parked.clear()
        return claim
