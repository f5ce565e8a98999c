"""Verifies a device's UDP address before a command that opens it is sent there.

The source address of a datagram can be forged, and a command sent to it reaches the owner of that address.
Before a command that opens a lock or contains a password is sent over UDP, the gateway sends a harmless
query: only its receiver can answer with the query's serial.
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

#: Seconds between queries while none is answered.
_PAUSE: Final = 5.0


class UdpCommands(StrEnum):
    """When commands that open a lock or contain a password are sent over UDP."""

    CONFIRMED = "confirmed"
    """To addresses that have answered a query."""
    ANY = "any"
    """To the source of the device's last datagram."""
    TCP = "tcp"
    """Never: such commands wait until the device connects over TCP."""


def needs_proof(spec: CommandSpec) -> bool:
    """Whether a command may only be sent to a proven address."""
    return spec.physical or spec.shows_password or bool(spec.secret_names)


@define(eq=False)
class AddressProof:
    """Decides which commands may be sent over UDP, and queries devices to prove their addresses."""

    log = Logger()

    dispatcher: "CommandDispatcher" = field(repr=False)
    policy: UdpCommands = UdpCommands.CONFIRMED

    def trusts(self, session: Session) -> bool:
        """Whether commands that open a lock may be sent to this session's address."""
        if self.policy is UdpCommands.ANY or not session.connection.is_datagram:
            return True
        return self.policy is UdpCommands.CONFIRMED and session.address_proven

    def allows(self, session: Session, spec: CommandSpec) -> bool:
        """Whether this command may be sent to this session's address."""
        return self.trusts(session) or not needs_proof(spec)

    def request(self, executor: "CommandExecutor", session: Session) -> None:
        """Query the device for a command that waits for proof, unless it was queried a moment ago."""
        now = self.dispatcher.now()
        if self.policy is not UdpCommands.CONFIRMED or not executor.reachable or now < session.ask_again:
            return
        pending_query = PendingQuery(now + PATIENCE)
        if executor.hold_for_query(pending_query, behind_commands=False):
            session.ask_again = now + PATIENCE + _PAUSE
            asking = defer.Deferred.fromCoroutine(self._request(executor, session, pending_query))
            asking.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("address query failed", failure)

    async def _request(
        self, executor: "CommandExecutor", session: Session, pending_query: PendingQuery
    ) -> None:
        profile = self.dispatcher.profiles.pick(session.device, session.dialect_or_guess(None), None)
        try:
            if profile is None:
                return
            query = Command("", session.device, "query", {"what": "firmware"})
            checked = self.dispatcher.profiles.validate(query, profile)
            number = await self.dispatcher.store.next_serial(session.device)
            data, serial = encoder.frame(checked.render(self.dispatcher.now()), session, number)
            if executor.session is session and executor.reachable:
                answered = pending_query.sent(checked, serial)
                session.send(data)
                counted = self.dispatcher.gateway.counters.questions
                counted["asked"] += 1
                counted["answered" if await answered else "unanswered"] += 1
        except InvalidCommand as error:
            self.log.warn("no address query for {device}: {reason}", device=session.device, reason=str(error))
        except txredisapi.RedisError as error:
            self.log.debug(
                "address query of {device} failed: {reason}", device=session.device, reason=str(error)
            )
        finally:
            executor.release_query()
