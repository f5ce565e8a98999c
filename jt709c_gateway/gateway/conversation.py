"""One link's conversation: frames to messages, messages to the gateway, committed answers back."""

from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin
from jt709c_gateway.protocol.framing import Frame, Malformed
from jt709c_gateway.transport.link import Link

from .sessions import Session

if TYPE_CHECKING:
    from .core import Gateway

_LOGGED_HEX: Final = 64
#: Frames of one link that may wait for Redis. So one that sends without waiting for its answers keeps no
#: other waiting; and what was committed but not answered when a gateway dies is among the lock's last reports
#: (`Limits.recent`), by which it is recognised when it comes again.
_MAX_UNANSWERED: Final = 64
#: Bytes without a single sound frame among them that end a link: more than any frame has.
_MAX_SKIPPED: Final = 65_536


class Conversation:
    """The gateway's side of one TCP connection or UDP address."""

    log = Logger()

    def __init__(self, gateway: "Gateway", link: Link, decoder: Decoder, now: float) -> None:
        self.link = link
        self.sessions: dict[str, Session] = {}
        self.opened = now
        self.last_received = now
        self.is_open = True
        self.origin = Origin(gateway.name, link.transport_name, link.peer)
        self._gateway = gateway
        self._decoder = decoder
        self._malformed_in_row = 0
        self._skipped_in_row = 0
        #: Frames that have been submitted and not been committed yet.
        self._unanswered = 0
        #: Frames received while there was no room: at most one read's worth, since reading stops then.
        self._held_back: list[Frame] = []
        self._paused = False

    @property
    def is_datagram(self) -> bool:
        """Whether this is an address rather than a connection."""
        return self.link.transport_name == "udp"

    def received(self, frames: list[Frame]) -> None:
        """Take frames in order; when there is no room for more, keep them and stop reading."""
        gateway = self._gateway
        if not self.is_open or gateway.draining:
            return
        if self._held_back:
            self._held_back += frames
            return
        moment = gateway.moment()
        self.last_received = moment.now
        committer = gateway.committer
        for index, frame in enumerate(frames):
            if committer.full or self._unanswered >= _MAX_UNANSWERED:
                self._hold_back(frames[index:])
                return
            message = self._decoder.decode(frame, moment.now)
            if message is None:
                continue
            self._unanswered += 1
            if isinstance(message, Malformed):
                self._malformed(message, moment.iso)
            else:
                self._malformed_in_row = self._skipped_in_row = 0
                session = self.sessions.get(message.device)
                if session is None:
                    session = gateway.open_session(self, message, moment)
                    if session is None:
                        return
                gateway.take(session, message, moment)
            if not self.is_open:
                return
        if self.is_datagram and not self.sessions:
            self.link.close("no_session")

    def _hold_back(self, frames: list[Frame]) -> None:
        if self.is_datagram:
            if self.sessions:
                self._gateway.dropped("unacked")
            else:
                self.link.close("unacked")
            return
        self._held_back = frames
        if self._gateway.committer.full:
            self._gateway.paused(self)
        if not self._paused:
            self._paused = True
            self._gateway.counters.pauses += 1
            self.link.pause()

    def read_on(self) -> None:
        """There may be room again."""
        frames, self._held_back = self._held_back, []
        try:
            self.received(frames)
        except Exception:
            self.log.failure("handling what {peer} sent failed", peer=self.link.peer)
            self.link.close("error")
        if self.is_open and not self._held_back:
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
        if self._held_back and self._unanswered <= _MAX_UNANSWERED // 2:
            self.read_on()

    def closed(self, reason: str) -> None:
        """The link is gone: its locks are offline."""
        if not self.is_open:
            return
        self.is_open = False
        self._held_back = []
        self._gateway.conversation_ended(self, reason)
