"""One link's conversation: frames to messages, messages to the gateway, committed answers back."""

from functools import cached_property
from typing import TYPE_CHECKING, Final

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.udp_decoder import DatagramDecoder
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.framing import Frame, Malformed
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.transport.interfaces import Link

if TYPE_CHECKING:
    from jt709c_gateway.gateway.gateway import Gateway, Moment

_LOGGED_HEX: Final = 64
#: Frames of one link that may wait for Redis. So one that sends without waiting for its answers keeps no
#: other waiting; and what was committed but not answered when a gateway dies is among the lock's last reports
#: (`Limits.recent`), by which it is recognised when it comes again.
_MAX_UNANSWERED: Final = 64
#: Bytes without a single sound frame among them that end a link: more than any frame has.
_MAX_SKIPPED: Final = 65_536
#: Questions whether a lock is admitted that may wait before datagrams that raise one more are let go.
_MAX_ASKING: Final = 500
#: Whoever speaks over a connection has a session.
_NOBODY: Final[dict[str, Session]] = {}


class DeviceConnection:
    """The gateway's side of one TCP connection or UDP address."""

    log = Logger()

    def __init__(self, gateway: "Gateway", link: Link, decoder: Decoder, now: float) -> None:
        self.link = link
        #: Whether this is an address rather than a connection.
        self.is_datagram = link.transport_name == "udp"
        self.sessions: dict[str, Session] = {}
        #: Over UDP: who speaks from here for devices whose session is elsewhere, or not known to Redis yet.
        self.guests: dict[str, Session] = {} if self.is_datagram else _NOBODY
        #: How many sessions it has, as `Room` counts.
        self.locks = 0
        self.opened = now
        self.last_received = now
        self.is_open = True
        self._gateway = gateway
        self._decoder = decoder
        self._parts = decoder.parts
        self._malformed_in_row = 0
        self._skipped_in_row = 0
        #: Frames that have been submitted and not been committed yet.
        self._unanswered = 0
        #: Frames received while there was no room: at most one read's worth, since reading stops then.
        self._held_back: list[Frame] = []
        #: The message before them, when it could not be heard yet, and the question whether it may be.
        self._kept: Message | None = None
        self._asked: defer.Deferred[bool] | None = None
        #: Datagrams that wait for such a question.
        self._asking = 0
        self._paused = False
        #: The last message was left unanswered, and those behind it are heard.
        self._passed_over = False

    @cached_property
    def origin(self) -> Origin:
        """Where its frames come from; behind a load balancer that is known with the first of them."""
        return Origin(self._gateway.name, self.link.transport_name, self.link.peer)

    def place(self, device: str) -> tuple[Location | None, float]:
        """Where a lock was when it was last heard in datagrams from here, and when that was."""
        places = self._decoder.places if isinstance(self._decoder, DatagramDecoder) else {}
        return places.get(device, (None, self.last_received))

    @property
    def asking(self) -> bool:
        """Whether a lock waits here to be told that it is admitted."""
        return self._asked is not None or self._asking > 0

    def received(self, frames: list[Frame]) -> None:
        """Take frames in order; when there is no room for more, keep them and stop reading."""
        gateway = self._gateway
        if not self.is_open or gateway.draining:
            return
        if self._held_back or self._kept is not None:
            self._held_back += frames
            return
        moment = gateway.moment()
        self.last_received = moment.now
        committer, decode = gateway.committer, self._decoder.decode
        for index, frame in enumerate(frames):
            if committer.full or self._unanswered >= _MAX_UNANSWERED:
                self._hold_back(frames[index:])
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
                        if self._passed_over:
                            self._passed_over = False
                            continue
                        return
                    if session.device in self.guests:
                        session.budget.charge(message)
                        gateway.guests.hear(session, message, moment)
                        continue
                session.budget.charge(message)
                gateway.take(session, message, moment)
            if not self.is_open:
                return
        if self.is_datagram:
            self._forget_if_empty()

    def _forget_if_empty(self) -> None:
        """An address from which nobody is heard is not remembered, once its guests have their answers."""
        if not self.is_datagram or self.sessions or self._asking:
            return
        if not self.guests or (
            self._unanswered <= 0 and not any(one.offered for one in self.guests.values())
        ):
            self.link.close("no_session")

    def _admit(
        self, message: Message, moment: "Moment", rest: list[Frame], admitted: bool | None = None
    ) -> Session | None:
        """The session of a lock that speaks here for the first time, or has used up what it may send.

        None when it may not be heard, or not now: then `message`, and the `rest` of what came with it, is
        kept until it may, but for a datagram over the limit, which is let go. `admitted`, if that is known.
        """
        gate = self._gateway.gate
        session = self.sessions.get(message.device)
        if session is None:
            if admitted is None and message.device in self.guests:
                admitted = True
            if admitted is None:
                admitted = gate.admits(message.device)
            if admitted is None:
                self._ask(message, rest)
                return None
            if admitted and not self.is_datagram and gate.is_spent(message.device, moment.now):
                self._let_go("rate")
                self._passed_over = self.is_open
                return None
            if (
                admitted
                and message.device not in self.guests
                and not gate.lets_come(self, message.device, moment.now)
            ):
                if self.is_datagram or self.sessions:
                    self._let_go("new_devices")
                    self._passed_over = not self.is_datagram
                else:
                    self._put_off(message, rest)
                    gate.wait(self)
                return None
            if admitted and self.is_datagram:
                session = self._gateway.guests.receive(self, message, moment)
            elif admitted and self._gateway.presence.waits(self, message.device, moment):
                self._put_off(message, rest)
                gate.wait(self)
                return None
            elif admitted:
                session = self._gateway.presence.open(self, message, moment)
            else:
                gate.turn_away(self, message, moment)
            if session is None:
                self._unanswered -= 1
                return None
        if gate.allows(session, moment.now):
            return session
        gate.complain(self, session, moment.now)
        if self.is_datagram or len(self.sessions) > 1:
            # What one lock sends too much of keeps no other from being heard over the same link.
            self._let_go("share" if session.budget.spent_share else "rate")
            self._passed_over = not self.is_datagram
        else:
            self._put_off(message, rest)
            gate.slow_down(self)
        return None

    def _ask(self, message: Message, rest: list[Frame]) -> None:
        """Wait to be told whether a lock is admitted."""
        admission = self._gateway.gate.admission
        if self.is_datagram and admission.asking >= _MAX_ASKING:
            self._let_go("admission")
            return
        asked = admission.ask(message.device)
        if self.is_datagram:
            # A datagram may claim any id: this one keeps no other waiting that comes from its address.
            self._asking += 1
        else:
            self._put_off(message, rest)
            self._asked = asked
        asked.addCallback(self._told, message, rest)
        asked.addErrback(self._not_told)

    def _told(self, admitted: bool, message: Message, rest: list[Frame]) -> None:
        if self.is_datagram:
            self._asking -= 1
        else:
            self._asked = None
        if not self.is_open:
            return
        if self.is_datagram:
            self._go_on(message, rest, admitted)
        else:
            self.read_on(admitted)

    def _not_told(self, failure: Failure) -> None:
        if not isinstance(failure.value, defer.CancelledError):
            self.log.failure("handling what {peer} sent failed", failure, peer=self.link.peer)
            self.link.close("error")

    def _go_on(self, message: Message, rest: list[Frame], admitted: bool | None) -> None:
        """Hear what had to wait, and what came behind it."""
        gateway = self._gateway
        if gateway.draining:
            return
        if gateway.committer.full:
            if self.is_datagram:
                self._unanswered -= 1
            else:
                self._kept = message
            self._hold_back(rest)
            return
        moment = gateway.moment()
        session = self._admit(message, moment, rest, admitted)
        if session is not None:
            session.budget.charge(message)
            if session.device in self.guests:
                gateway.guests.hear(session, message, moment)
            else:
                gateway.take(session, message, moment)
            self.received(rest)
        elif self._passed_over:
            self._passed_over = False
            self.received(rest)

    def _put_off(self, message: Message, rest: list[Frame]) -> None:
        """Keep what may not be heard yet, and stop reading."""
        self._kept, self._held_back = message, rest
        if not self._paused:
            self._paused = True
            self.link.pause()

    def _let_go(self, reason: str) -> None:
        """Leave a datagram unanswered, so that its lock sends it again."""
        self._unanswered -= 1
        self.drop_datagram(reason)

    def drop_datagram(self, reason: str) -> None:
        """Let one go. An address is forgotten unless a lock is heard from there, or may soon be."""
        if self.sessions or self.guests or self._asking:
            self._gateway.dropped(reason)
            self._forget_if_empty()
        else:
            self.link.close(reason)

    def _hold_back(self, frames: list[Frame]) -> None:
        if self.is_datagram:
            self.drop_datagram("unacked")
            return
        self._held_back = frames
        if self._gateway.committer.full:
            self._gateway.paused(self)
        if not self._paused:
            self._paused = True
            self._gateway.counters.pauses += 1
            self.link.pause()

    def read_on(self, admitted: bool | None = None) -> None:
        """There may be room again, or the lock may send again, or it is known whether it is `admitted`."""
        if self._asked is not None:
            return
        kept, self._kept = self._kept, None
        frames, self._held_back = self._held_back, []
        try:
            if kept is None:
                self.received(frames)
            else:
                self._go_on(kept, frames, admitted)
        except Exception:
            self.log.failure("handling what {peer} sent failed", peer=self.link.peer)
            self.link.close("error")
        if self.is_open and not self._held_back and self._kept is None:
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
        """So many bytes belonged to no frame."""
        self._gateway.counters.skipped_bytes += count
        self._skipped_in_row += count
        if self._skipped_in_row > _MAX_SKIPPED:
            self.link.close("skipped")

    def committed(self, answers: list[bytes]) -> None:
        """Redis has the events of these frames: the lock may forget them."""
        self._unanswered -= len(answers)
        if not self.is_open:
            return
        data = b"".join(answers)
        if data and self.link.send(data):
            self._gateway.counters.answers += len(answers) - answers.count(b"")
        if self.guests:
            self._forget_if_empty()
        if self._held_back and self._unanswered <= _MAX_UNANSWERED // 2:
            self.read_on()

    def superseded(self, token: str) -> None:
        """A device that spoke here has a newer session elsewhere, as Redis found when it took a report."""
        for session in self.sessions.values():
            if session.token == token:
                self._gateway.presence.moved_away(session)
                return

    def closed(self, reason: str) -> None:
        """The link is gone: its locks are offline."""
        if not self.is_open:
            return
        self.is_open = False
        self._held_back, self._kept = [], None
        self._parts.close()
        if self._asked is not None:
            self._asked.cancel()
        self._gateway.presence.ended(self, reason)
