"""Queries a device to prove its UDP address, for a command that waits for that proof (`address_proof.py`)."""

from typing import Final

import txredisapi
from attrs import define
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.gateway.commands import encoder
from jt709c_gateway.gateway.commands.address_proof import UdpCommands
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.pending_query import PATIENCE, PendingQuery, QueriedDevice
from jt709c_gateway.gateway.sessions import Session

#: Seconds between queries while none is answered.
_PAUSE: Final = 5.0


@define(eq=False)
class AddressQuery:
    """Sends the query to one device."""

    log = Logger()

    context: CommandContext
    device: QueriedDevice

    def start(self) -> None:
        """Query the device, unless it was queried a moment ago."""
        context, session, now = self.context, self.device.session, self.context.now()
        if context.udp_commands is not UdpCommands.CONFIRMED or session is None:
            return
        if not self.device.reachable or now < session.ask_again:
            return
        pending_query = PendingQuery(now + PATIENCE)
        if self.device.hold_for_query(pending_query, behind_commands=False):
            session.ask_again = now + PATIENCE + _PAUSE
            asking = defer.Deferred.fromCoroutine(self._send(pending_query, session))
            asking.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("address query failed", failure)

    async def _send(self, pending_query: PendingQuery, session: Session) -> None:
        context = self.context
        profile = context.profiles.pick(session.device, session.dialect_or_guess(None), None)
        try:
            if profile is None:
                return
            query = Command("", session.device, "query", {"what": "firmware"})
            checked = context.profiles.validate(query, profile)
            number = await context.store.next_serial(session.device)
            data, serial = encoder.frame(checked.render(context.now()), session, number)
            if self.device.session is session and self.device.reachable:
                answered = pending_query.sent(checked, serial)
                session.send(data)
                counted = context.gateway.counters.questions
                counted["asked"] += 1
                counted["answered" if await answered else "unanswered"] += 1
        except InvalidCommand as error:
            self.log.warn("no address query for {device}: {reason}", device=session.device, reason=str(error))
        except txredisapi.RedisError as error:
            self.log.debug(
                "address query of {device} failed: {reason}", device=session.device, reason=str(error)
            )
        finally:
            self.device.release_query()
