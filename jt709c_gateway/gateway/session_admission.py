"""Finds or opens the session for a message: admission, limits and takeovers."""

from typing import Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.interfaces import NoSession
from jt709c_gateway.gateway.malformed import MalformedInput, kept_bytes
from jt709c_gateway.gateway.new_device_limit import NewDeviceLimiter
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.rate_limit import RateLimiter
from jt709c_gateway.gateway.session_lifecycle import SessionLifecycle
from jt709c_gateway.gateway.session_table import SessionTable
from jt709c_gateway.gateway.sessions import Session, SessionConnection
from jt709c_gateway.gateway.time_slices import TimeSlicer
from jt709c_gateway.gateway.udp_guests import UdpGuests
from jt709c_gateway.protocol.message import Message

#: Reason for which a connection is closed, or a frame is stored in `jt709c:malformed`.
NOT_ADMITTED: Final = "not_admitted"
#: Rejected devices that were logged; the oldest are forgotten first.
_MAX_REPORTED: Final = 10_000


@define(eq=False)
class SessionAdmission:
    """Decides on messages whose device is new on its connection, or has used up its budget."""

    log = Logger()

    sessions: SessionTable = field(repr=False)
    admission: Admission
    new_device_limiter: NewDeviceLimiter
    rate_limiter: RateLimiter = field(repr=False)
    lifecycle: SessionLifecycle = field(repr=False)
    guests: UdpGuests = field(repr=False)
    malformed: MalformedInput = field(repr=False)
    time_slicer: TimeSlicer = field(repr=False)
    #: Rejected devices that were logged.
    _reported: dict[str, None] = field(factory=dict, repr=False)

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

    async def review(self) -> None:
        """Close the connections of devices that are no longer admitted."""
        gone = await self.admission.review([session.device for session in self.sessions])
        if gone:
            self.log.info("{count} locks are no longer admitted: {first} …", count=len(gone), first=gone[0])
        self.time_slicer.run(gone, self._close)

    def _new_session(
        self, connection: SessionConnection, message: Message, moment: Moment, admitted: bool | None
    ) -> Session | NoSession:
        limiter, device = self.rate_limiter, message.device
        is_guest = device in connection.guests
        if admitted is None:
            admitted = is_guest or self._admits(device)
        if admitted is None:
            return NoSession.QUERY
        if not admitted:
            self._reject(connection, message, moment)
            return NoSession.CLOSED
        if not connection.is_datagram and limiter.is_exhausted(device, moment.now):
            return NoSession.RATE
        if not is_guest and not self._admits_new_device(connection, device, moment.now):
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

    def _admits(self, device: str) -> bool | None:
        """Whether a device is admitted; None when Redis has to be queried."""
        # A connected device was admitted when it connected, and is checked by each review.
        return device in self.sessions or self.admission.admits(device)

    def _reject(self, connection: SessionConnection, message: Message, moment: Moment) -> None:
        """Close the connection of a device that isn't admitted, without an answer; log and store that once.

        A UDP address with sessions of other devices stays open: the source of a datagram can be forged.
        """
        link, device = connection.link, message.device
        if device not in self._reported and self.malformed.may_log(moment.now):
            if len(self._reported) >= _MAX_REPORTED:
                del self._reported[next(iter(self._reported))]
            self._reported[device] = None
            self.log.info("lock {device} at {peer} is not admitted", device=device, peer=link.peer)
            self.malformed.store(link.peer, NOT_ADMITTED, kept_bytes(message), moment.iso)
        if connection.is_datagram:
            connection.drop_datagram(NOT_ADMITTED)
        else:
            link.close(NOT_ADMITTED)

    def _admits_new_device(self, connection: SessionConnection, device: str, now: float) -> bool:
        """Whether a device without session may connect now, within its address's limit of new devices."""
        if device in self.sessions:
            return True
        return self.new_device_limiter.admits(connection.link.peer, device, now)

    def _close(self, device: str) -> None:
        if (session := self.sessions.get(device)) is not None:
            session.connection.link.close(NOT_ADMITTED)
