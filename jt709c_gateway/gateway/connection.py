"""One device connection: passes frames as messages to the gateway, and sends committed answers back."""

from functools import cached_property
from typing import TYPE_CHECKING, Final

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.udp_decoder import DatagramDecoder
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.framing import Frame, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.transport.interfaces import Link

if TYPE_CHECKING:
    from jt709c_gateway.gateway.gateway import Gateway

_LOGGED_HEX: Final = 64
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

    def __init__(self, gateway: "Gateway", link: Link, decoder: Decoder, now: float) -> None:
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
        #: Frames received while the committer was full: at most one read's worth, since reading is paused.
        self._pending_frames: list[Frame] = []
        #: The message before them, if it awaits admission or its rate limit; and the pending admission query.
        self._pending_message: Message | None = None
        self._admission_query: defer.Deferred[bool] | None = None
        #: Number of datagrams that await admission.
        self._pending_admissions = 0
        self._paused = False
        #: Whether the last message was dropped while the following ones are processed.
        self._skipped_message = False

    @cached_property
    def origin(self) -> Origin:
        """Gateway, transport and peer of its frames.

        Behind a load balancer, the peer is known with the first frame.
        """
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
        if self._pending_frames or self._pending_message is not None:
            self._pending_frames += frames
            return
        moment = gateway.moment()
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
                session = self.sessions.get(message.device)
                if session is None or session.budget.allowance < 1:
                    session = self._admit(message, moment, frames[index + 1 :])
                    if session is None:
                        if self._skipped_message:
                            self._skipped_message = False
                            continue
                        return
                    if session.device in self.guests:
                        session.budget.charge(message)
                        gateway.udp_guests.handle_message(session, message, moment)
                        continue
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

    def _admit(
        self, message: Message, moment: Moment, rest: list[Frame], admitted: bool | None = None
    ) -> Session | None:
        """The session of a device that is new on this connection, or has used up its budget.

        None when the message must not be processed now: then `message` and the `rest` of its frames are
        buffered, except for a datagram over the limit, which is dropped. `admitted` is the admission if it is
        known.
        """
        rate_limiter = self._gateway.rate_limiter
        session = self.sessions.get(message.device)
        if session is None:
            if admitted is None and message.device in self.guests:
                admitted = True
            if admitted is None:
                admitted = rate_limiter.admits(message.device)
            if admitted is None:
                self._query_admission(message, rest)
                return None
            if admitted and not self.is_datagram and rate_limiter.is_exhausted(message.device, moment.now):
                self._leave_unanswered("rate")
                self._skipped_message = self.is_open
                return None
            if (
                admitted
                and message.device not in self.guests
                and not rate_limiter.admits_new_device(self, message.device, moment.now)
            ):
                if self.is_datagram or self.sessions:
                    self._leave_unanswered("new_devices")
                    self._skipped_message = not self.is_datagram
                else:
                    self._buffer_and_pause(message, rest)
                    rate_limiter.resume_later(self)
                return None
            if admitted and self.is_datagram:
                session = self._gateway.udp_guests.guest_for(self, message, moment)
            elif admitted and self._gateway.lifecycle.must_wait(self, message.device, moment):
                self._buffer_and_pause(message, rest)
                rate_limiter.resume_later(self)
                return None
            elif admitted:
                session = self._gateway.lifecycle.open_session(self, message, moment)
            else:
                rate_limiter.reject(self, message, moment)
            if session is None:
                self._unanswered -= 1
                return None
        if rate_limiter.allows(session, moment.now):
            return session
        rate_limiter.warn_once(self, session, moment.now)
        if self.is_datagram or len(self.sessions) > 1:
            # A device over its limit does not block others on the same connection.
            self._leave_unanswered("share" if session.budget.spent_share else "rate")
            self._skipped_message = not self.is_datagram
        else:
            self._buffer_and_pause(message, rest)
            rate_limiter.throttle(self)
        return None

    def _query_admission(self, message: Message, rest: list[Frame]) -> None:
        """Wait for the admission of a device."""
        admission = self._gateway.rate_limiter.admission
        if self.is_datagram and admission.asking >= _MAX_ADMISSION_QUERIES:
            self._leave_unanswered("admission")
            return
        asked = admission.ask(message.device)
        if self.is_datagram:
            # A datagram may claim any id, so it does not block others from its address.
            self._pending_admissions += 1
        else:
            self._buffer_and_pause(message, rest)
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
            self.log.failure("handling what {peer} sent failed", failure, peer=self.link.peer)
            self.link.close("error")

    def _handle_pending(self, message: Message, rest: list[Frame], admitted: bool | None) -> None:
        """Process a buffered message and the frames after it."""
        gateway = self._gateway
        if gateway.draining:
            return
        if gateway.committer.full:
            if self.is_datagram:
                self._unanswered -= 1
            else:
                self._pending_message = message
            self._buffer_frames(rest)
            return
        moment = gateway.moment()
        session = self._admit(message, moment, rest, admitted)
        if session is not None:
            session.budget.charge(message)
            if session.device in self.guests:
                gateway.udp_guests.handle_message(session, message, moment)
            else:
                gateway.handle_message(session, message, moment)
            self.received(rest)
        elif self._skipped_message:
            self._skipped_message = False
            self.received(rest)

    def _buffer_and_pause(self, message: Message, rest: list[Frame]) -> None:
        """Buffer a message and its successors, and pause reading."""
        self._pending_message, self._pending_frames = message, rest
        if not self._paused:
            self._paused = True
            self.link.pause()

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

    def _buffer_frames(self, frames: list[Frame]) -> None:
        if self.is_datagram:
            self.drop_datagram("unacked")
            return
        self._pending_frames = frames
        if self._gateway.committer.full:
            self._gateway.add_paused(self)
        if not self._paused:
            self._paused = True
            self._gateway.counters.pauses += 1
            self.link.pause()

    def resume_reading(self, admitted: bool | None = None) -> None:
        """Process buffered frames and resume reading; `admitted` is the admission, if it was queried."""
        if self._admission_query is not None:
            return
        pending, self._pending_message = self._pending_message, None
        frames, self._pending_frames = self._pending_frames, []
        try:
            if pending is None:
                self.received(frames)
            else:
                self._handle_pending(pending, frames, admitted)
        except Exception:
            self.log.failure("handling what {peer} sent failed", peer=self.link.peer)
            self.link.close("error")
        if self.is_open and not self._pending_frames and self._pending_message is None:
            self._paused = False
            self.link.resume()

    def _malformed(self, malformed: Malformed, iso: str) -> None:
        self._malformed_in_row += 1
        self._gateway.malformed(self.link.peer, malformed.reason, malformed.raw, iso, self)
        if self._gateway.may_log(self.last_received):
            self.log.info(
                "malformed ({reason}) from {peer}: {raw}",
                reason=malformed.reason,
                peer=self.link.peer,
                raw=malformed.raw[:_LOGGED_HEX].hex(),
            )
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
        if self._pending_frames and self._unanswered <= _MAX_UNANSWERED // 2:
            self.resume_reading()

    def superseded(self, token: str) -> None:
        """End the session with this token: Redis has found a newer one of its device while committing."""
        for session in self.sessions.values():
            if session.token == token:
                self._gateway.lifecycle.session_superseded(session)
                return

    def closed(self, reason: str) -> None:
        """End the sessions of this connection."""
        if not self.is_open:
            return
        self.is_open = False
        self._pending_frames, self._pending_message = [], None
        self._parts.close()
        if self._admission_query is not None:
            self._admission_query.cancel()
        self._gateway.lifecycle.connection_closed(self, reason)
