"""Whether a lock really is where its datagrams come from, before something that opens it is sent there.

The source of a datagram is anybody's claim. What is sent to it reaches whoever has that address. So before a
command that opens a lock, or shows a password, is written over UDP, the lock is asked something harmless:
only who receives the question can answer it under its serial.
"""

from enum import StrEnum
from typing import TYPE_CHECKING, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import CommandSpec
from jt709c_gateway.gateway.commands import encoder
from jt709c_gateway.gateway.commands.pending_query import PATIENCE, PendingQuery
from jt709c_gateway.gateway.sessions import Session

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
    from jt709c_gateway.gateway.commands.executor import CommandExecutor

#: Seconds from one question to the next while none is answered.
_PAUSE: Final = 5.0


class UdpCommands(StrEnum):
    """What commands that open a lock, or show a password, are written to over UDP."""

    CONFIRMED = "confirmed"
    """Addresses from which a question was answered that was sent there."""
    ANY = "any"
    """Wherever the lock's last datagram came from."""
    TCP = "tcp"
    """None: such commands wait until the lock comes over TCP."""


def needs_proof(spec: CommandSpec) -> bool:
    """Whether a command must not get into a stranger's hands."""
    return spec.physical or spec.shows_password or bool(spec.secret_names)


@define(eq=False)
class AddressProof:
    """Says which commands may be written over UDP, and asks locks for what is missing."""

    log = Logger()

    dispatcher: "CommandDispatcher" = field(repr=False)
    policy: UdpCommands = UdpCommands.CONFIRMED

    def trusts(self, session: Session) -> bool:
        """Whether commands that open may be written to where this session is."""
        if self.policy is UdpCommands.ANY or not session.conversation.is_datagram:
            return True
        return self.policy is UdpCommands.CONFIRMED and session.proven

    def allows(self, session: Session, spec: CommandSpec) -> bool:
        """Whether this command may be."""
        return self.trusts(session) or not needs_proof(spec)

    def ask(self, desk: "CommandExecutor", session: Session) -> None:
        """A command waits at `desk` for a proof: ask the lock, unless it was asked just now."""
        now = self.dispatcher.now()
        if self.policy is not UdpCommands.CONFIRMED or not desk.reachable or now < session.ask_again:
            return
        question = PendingQuery(now + PATIENCE)
        if desk.hold(question, behind_commands=False):
            session.ask_again = now + PATIENCE + _PAUSE
            asking = defer.Deferred.fromCoroutine(self._ask(desk, session, question))
            asking.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("asking a lock whether it is there failed", failure)

    async def _ask(self, desk: "CommandExecutor", session: Session, question: PendingQuery) -> None:
        profile = self.dispatcher.profiles.pick(session.device, session.speaks(None), None)
        try:
            if profile is None:
                return
            query = Command("", session.device, "query", {"what": "firmware"})
            checked = self.dispatcher.profiles.validate(query, profile)
            number = await self.dispatcher.store.next_serial(session.device)
            data, serial = encoder.frame(checked.render(self.dispatcher.now()), session, number)
            if desk.session is session and desk.reachable:
                answered = question.put(checked, serial)
                session.send(data)
                counted = self.dispatcher.gateway.counters.questions
                counted["asked"] += 1
                counted["answered" if await answered else "unanswered"] += 1
        except InvalidCommand as error:
            self.log.warn("lock {device} can't be asked: {reason}", device=session.device, reason=str(error))
        except txredisapi.RedisError as error:
            self.log.debug("a lock could not be asked: {reason}", reason=str(error))
        finally:
            desk.let_go()
