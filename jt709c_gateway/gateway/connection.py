"""One device connection: passes frames as messages to the gateway, and sends committed answers back."""

from functools import cached_property
from typing import Final

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.gateway.interfaces import ConnectionGateway, NoSession
from jt709c_gateway.gateway.pending_frames import PendingFrames
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.udp_decoder import DatagramDecoder
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.framing import Frame, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.transport.interfaces import Link

#: Uncommitted frames of one connection, at most. A sender that doesn't wait for answers blocks no other; and
#: all that was committed but not answered when a gateway dies is among the device's last reports
#: (`Limits.recent`), by which its repetition is recognized.
_MAX_UNANSWERED: Final = 64
#: Bytes without a valid frame after which a connection is closed: more than any frame has.
_MAX_SKIPPED: Final = 65_536
#: Pending admission queries above which further datagrams that need one are dropped.
_MAX_ADMISSION_QUERIES: Final = 500
#: TCP connections have no guests.
_NO_GUESTS: Final[dict[str, Session]] = {}


class DeviceConnection:
    """The gateway's side of one TCP connection or UDP address."""

    log = Logger()

    def __init__(self, gateway: ConnectionGateway, link: Link, decoder: Decoder, now: float) -> None:
        self.link = link
        #: Whether this is a UDP address.
        self.is_datagram = link.transport_name == "udp"
        self.sessions: dict[str, Session] = {}
        #: UDP only: senders for devices whose session is elsewhere, or not yet in Redis.
        self.guests: dict[str, Session] = {} if self.is_datagram else _NO_GUESTS
        #: Number of sessions, kept by `SessionLimits`.
        self.locks = 0
        self.opened = now
        self.last_received = now
        self.is_open = True
        self._gateway = gateway
        self._decoder = decoder
        self._parts = decoder.parts
        self._malformed_in_row = 0
        self._skipped_in_row = 0
        #: Frames submitted but not yet committed.
        self._unanswered = 0
        self._pending = PendingFrames(link)
        #: The admission query of the pending message.
        self._admission_query: defer.Deferred[bool] | None = None
        #: Number of datagrams that await admission.
        self._pending_admissions = 0

    @cached_property
    def origin(self) -> Origin:
        """Gateway, transport and peer of its frames; behind a load balancer, known with the first frame."""
        return Origin(self._gateway.name, self.link.transport_name, self.link.peer)

    def last_location(self, device: str) -> tuple[Location | None, float]:
        """A device's last position in datagrams from this address, and when it arrived."""
        places = self._decoder.places if isinstance(self._decoder, DatagramDecoder) else {}
        return places.get(device, (None, self.last_received))

    @property
    def asking(self) -> bool:
        """Whether a device on this connection awaits its admission."""
        return self._admission_query is not None or self._pending_admissions > 0

    def received(self, frames: list[Frame]) -> None:
        """Process frames in order; when the committer is full, buffer them and pause reading."""
        gateway = self._gateway
        if not self.is_open or gateway.draining:
            return
        pending = self._pending
        if pending.frames or pending.message is not None:
            pending.frames += frames
            return
        moment = gateway.events.moment()
        self.last_received = moment.now
        committer, decode = gateway.committer, self._decoder.decode
        for index, frame in enumerate(frames):
            if committer.full or self._unanswered >= _MAX_UNANSWERED:
                self._buffer_frames(frames[index:])
                return
            message = decode(frame, moment.now)
            if message is None:
                continue
            self._unanswered += 1
            if isinstance(message, Malformed):
                self._malformed(message, moment.iso)
            else:
                self._malformed_in_row = self._skipped_in_row = 0
                if committer.of(message.device).full:
                    self._buffer_frames(frames[index + 1 :], message)
                    return
                session = self.sessions.get(message.device)
                if session is None or session.budget.allowance < 1:
                    found = gateway.session_for(self, message, moment)
                    if isinstance(found, NoSession):
                        if self._hold_back(found, message, frames[index + 1 :]):
                            continue
                        return
                    self._process(found, message, moment)
                else:
                    session.budget.charge(message)
                    gateway.handle_message(session, message, moment)
            if not self.is_open:
                return
        if self.is_datagram:
            self._forget_if_empty()

    def _forget_if_empty(self) -> None:
        """Close a UDP address without sessions, once its guests are answered."""
        if not self.is_datagram or self.sessions or self._pending_admissions:
            return
        if not self.guests or (
            self._unanswered <= 0 and not any(one.offered for one in self.guests.values())
        ):
            self.link.close("no_session")

    def _hold_back(self, why: NoSession, message: Message, rest: list[Frame]) -> bool:
        """Query, buffer or drop a message without session; whether the `rest` of its frames follow now."""
        if why is NoSession.QUERY:
            self._query_admission(message, rest)
        elif why is NoSession.WAIT:
            self._pending.hold(rest, message)
        elif why is NoSession.CLOSED:
            self._unanswered -= 1
        else:
            self._leave_unanswered(why.value)
            return self.is_open and not self.is_datagram
        return False

    def _query_admission(self, message: Message, rest: list[Frame]) -> None:
        """Wait for the admission of a device."""
        admission = self._gateway.admission
        if self.is_datagram and admission.asking >= _MAX_ADMISSION_QUERIES:
            self._leave_unanswered("admission")
            return
        asked = admission.ask(message.device)
        if self.is_datagram:
            # A datagram may claim any id, so it does not block others from its address.
            self._pending_admissions += 1
        else:
            self._pending.hold(rest, message)
            self._admission_query = asked
        asked.addCallback(self._on_admission, message, rest)
        asked.addErrback(self._on_admission_failed)

    def _on_admission(self, admitted: bool, message: Message, rest: list[Frame]) -> None:
        if self.is_datagram:
            self._pending_admissions -= 1
        else:
            self._admission_query = None
        if not self.is_open:
            return
        if self.is_datagram:
            self._handle_pending(message, rest, admitted)
        else:
            self.resume_reading(admitted)

    def _on_admission_failed(self, failure: Failure) -> None:
        if not isinstance(failure.value, defer.CancelledError):
            self.log.failure("handling data from {peer} failed", failure, peer=self.link.peer)
            self.link.close("error")

    def _handle_pending(self, message: Message, rest: list[Frame], admitted: bool | None) -> None:
        """Process a buffered message and the frames after it."""
        gateway = self._gateway
        if gateway.draining:
            return
        if gateway.committer.of(message.device).full:
            self._buffer_frames(rest, message)
            return
        moment = gateway.events.moment()
        session = gateway.session_for(self, message, moment, admitted)
        if isinstance(session, NoSession):
            if self._hold_back(session, message, rest):
                self.received(rest)
            return
        self._process(session, message, moment)
        self.received(rest)

    def _process(self, session: Session, message: Message, moment: Moment) -> None:
        session.budget.charge(message)
        if session.device in self.guests:
            self._gateway.handle_guest_message(session, message, moment)
        else:
            self._gateway.handle_message(session, message, moment)

    def _leave_unanswered(self, reason: str) -> None:
        """Drop a message unanswered, so that its device sends it again."""
        self._unanswered -= 1
        self.drop_datagram(reason)

    def drop_datagram(self, reason: str) -> None:
        """Count a dropped datagram, and close its address unless that has or may soon have a session."""
        if self.sessions or self.guests or self._pending_admissions:
            self._gateway.dropped(reason)
            self._forget_if_empty()
        else:
            self.link.close(reason)

    def _buffer_frames(self, frames: list[Frame], message: Message | None = None) -> None:
        """Process these later; the device's committer is full, or too many frames are unanswered."""
        if self.is_datagram:
            self._unanswered -= message is not None
            self.drop_datagram("unacked")
            return
        if message is not None or self._gateway.committer.full:
            self._gateway.add_paused(self)
        self._gateway.counters.pauses += self._pending.hold(frames, message)

    def resume_reading(self, admitted: bool | None = None) -> None:
        """Process buffered frames and resume reading; `admitted` is the admission, if it was queried."""
        if self._admission_query is not None:
            return
        message, frames = self._pending.take()
        try:
            if message is None:
                self.received(frames)
            else:
                self._handle_pending(message, frames, admitted)
        except Exception:
            self.log.failure("handling data from {peer} failed", peer=self.link.peer)
            self.link.close("error")
        if self.is_open:
            self._pending.resume_if_empty()

    def _malformed(self, malformed: Malformed, iso: str) -> None:
        self._malformed_in_row += 1
        self._gateway.malformed.report(malformed, self.link.peer, self.last_received, iso, self)
        if self._malformed_in_row >= self._gateway.policy.max_malformed:
            self.link.close("malformed")

    def skipped(self, count: int) -> None:
        """Count bytes that belong to no frame."""
        self._gateway.counters.skipped_bytes += count
        self._skipped_in_row += count
        if self._skipped_in_row > _MAX_SKIPPED:
            self.link.close("skipped")

    def committed(self, answers: list[bytes]) -> None:
        """Send the answers to committed frames."""
        self._unanswered -= len(answers)
        if not self.is_open:
            return
        data = b"".join(answers)
        if data and self.link.send(data):
            self._gateway.counters.answers += len(answers) - answers.count(b"")
        if self.guests:
            self._forget_if_empty()
        if self._pending.frames and self._unanswered <= _MAX_UNANSWERED // 2:
            self.resume_reading()

    def superseded(self, token: str) -> None:
        """End the session with this token: Redis has found a newer one of its device while committing."""
        for session in self.sessions.values():
            if session.token == token:
                self._gateway.session_superseded(session)
                return

    def closed(self, reason: str) -> None:
        """End the sessions of this connection."""
        if not self.is_open:
            return
        self.is_open = False
        self._pending.take()
        self._parts.close()
        if self._admission_query is not None:
            self._admission_query.cancel()
        self._gateway.connection_closed(self, reason)
