"""Finds or opens the session for a message: admission, limits and takeovers."""

from attrs import define

from jt709c_gateway.gateway.interfaces import NoSession
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.rate_limit import RateLimiter
from jt709c_gateway.gateway.session_lifecycle import SessionLifecycle
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.gateway.udp_guests import UdpGuests
from jt709c_gateway.protocol.message import Message


@define(eq=False)
class SessionAdmission:
    """Decides what becomes of a message whose device is new on its connection, or has used up its budget."""

    rate_limiter: RateLimiter
    lifecycle: SessionLifecycle
    guests: UdpGuests

    def session_for(
        self, connection: SessionConnection, message: Message, moment: Moment, admitted: bool | None = None
    ) -> Session | NoSession:
        """The session for a message, or why it gets none now; `admitted` is its admission if it is known."""
        session = connection.sessions.get(message.device)
        if session is None:
            found = self._new_session(connection, message, moment, admitted)
            if not isinstance(found, Session):
                return found
            session = found
        if self.rate_limiter.allows(session, moment.now):
            return session
        self.rate_limiter.warn_once(connection, session, moment.now)
        if connection.is_datagram or len(connection.sessions) > 1:
            # A device over its limit does not block others on the same connection.
            return NoSession.SHARE if session.budget.spent_share else NoSession.RATE
        self.rate_limiter.throttle(connection)
        return NoSession.WAIT

    def _new_session(
        self, connection: SessionConnection, message: Message, moment: Moment, admitted: bool | None
    ) -> Session | NoSession:
        limiter, device = self.rate_limiter, message.device
        is_guest = device in connection.guests
        if admitted is None:
            admitted = is_guest or limiter.admits(device)
        if admitted is None:
            return NoSession.QUERY
        if not admitted:
            limiter.reject(connection, message, moment)
            return NoSession.CLOSED
        if not connection.is_datagram and limiter.is_exhausted(device, moment.now):
            return NoSession.RATE
        if not is_guest and not limiter.admits_new_device(connection, device, moment.now):
            if connection.is_datagram or connection.sessions:
                return NoSession.NEW_DEVICES
            limiter.resume_later(connection)
            return NoSession.WAIT
        if connection.is_datagram:
            return self.guests.guest_for(connection, message, moment)
        if self.lifecycle.must_wait(connection, device, moment):
            limiter.resume_later(connection)
            return NoSession.WAIT
        return self.lifecycle.open_session(connection, message, moment) or NoSession.CLOSED
