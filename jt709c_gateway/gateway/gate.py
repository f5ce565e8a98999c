"""Who is heard, and how often: admission and the message rate of each lock (DESIGN.md §6)."""

from math import inf
from typing import TYPE_CHECKING, Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.protocol.framing import MALFORMED_KEPT
from jt709c_gateway.protocol.message import Message

from .admission import Admission
from .conversation import Conversation
from .sessions import Session

if TYPE_CHECKING:
    from .core import Gateway, Moment

#: Why a link is closed, or a frame is kept in `jt709c:malformed`.
NOT_ADMITTED: Final = "not_admitted"
#: A lock may send the frames of so many seconds at once.
_BURST: Final = 10.0
#: Devices of which is known that they were reported. The first of more are forgotten.
_MAX_REPORTED: Final = 10_000


@define(eq=False)
class Gate:
    """Lets locks in, turns others away, and slows down those that send too much."""

    log = Logger()

    gateway: "Gateway" = field(repr=False)
    admission: Admission
    #: Frames a second of one lock; 0 for any number.
    max_rate: float
    _slowed: dict[Conversation, None] = field(factory=dict, repr=False)
    _reported: dict[str, None] = field(factory=dict, repr=False)

    def admits(self, device: str) -> bool | None:
        """Whether a lock is heard; None when that has to be asked for."""
        # One that is here was asked about when it came, and is so at each review.
        return device in self.gateway.sessions or self.admission.admits(device)

    def turn_away(self, conversation: Conversation, message: Message, moment: "Moment") -> None:
        """A device that isn't admitted spoke: it is reported once, and its link is closed without an answer.

        But a UDP address that others are heard from is not forgotten: anybody may claim to send from there.
        """
        link, device = conversation.link, message.device
        if device not in self._reported and self.gateway.may_log(moment.now):
            if len(self._reported) >= _MAX_REPORTED:
                del self._reported[next(iter(self._reported))]
            self._reported[device] = None
            self.log.info("lock {device} at {peer} is not admitted", device=device, peer=link.peer)
            content = ("", link.peer, NOT_ADMITTED, kept(message).hex(), moment.iso)
            self.gateway.committer.submit(content)
        if conversation.is_datagram:
            conversation.drop_datagram(NOT_ADMITTED)
        else:
            link.close(NOT_ADMITTED)

    async def review(self) -> None:
        """Close the links of locks that are admitted no more."""
        gone = await self.admission.review([session.device for session in self.gateway.sessions])
        if gone:
            self.log.info("{count} locks are admitted no more: {first} …", count=len(gone), first=gone[0])
        for device in gone:
            if (session := self.gateway.sessions.get(device)) is not None:
                session.conversation.link.close(NOT_ADMITTED)

    def begin(self, session: Session, before: Session | None) -> None:
        """Give a lock that comes its allowance; one that comes anew has what is left of it."""
        if before is not None:
            session.allowance, session.counted_at, session.hasty = (
                before.allowance,
                before.counted_at,
                before.hasty,
            )
        else:
            session.allowance, session.counted_at = self._burst, session.opened

    @property
    def _burst(self) -> float:
        return max(self.max_rate * _BURST, 1.0) if self.max_rate else inf

    def allows(self, session: Session, now: float) -> bool:
        """Whether a lock may send one more frame: what it has used up comes back with time."""
        if session.allowance < 1:
            earned = session.allowance + self.max_rate * (now - session.counted_at)
            session.allowance, session.counted_at = min(earned, self._burst), now
        return session.allowance >= 1

    def slow_down(self, conversation: Conversation, session: Session, now: float) -> None:
        """A lock sends too much. Its connection is read on with the next round of `read_on`."""
        if not session.hasty and self.gateway.may_log(now):
            session.hasty = True
            self.log.warn(
                "lock {device} at {peer} sends more than {rate:g} frames a second",
                device=session.device,
                peer=conversation.link.peer,
                rate=self.max_rate,
            )
        if not conversation.is_datagram:
            if conversation not in self._slowed:
                self.gateway.counters.rate_pauses += 1
            self._slowed[conversation] = None

    def read_on(self) -> None:
        """Read on from connections that were slowed down; to be called every few seconds."""
        slowed, self._slowed = self._slowed, {}
        for conversation in slowed:
            conversation.read_on()

    def left(self, conversation: Conversation) -> None:
        """A link is gone."""
        self._slowed.pop(conversation, None)


def kept(message: Message) -> bytes:
    """What is kept of a message for a person to look at; passwords are masked already."""
    raw = message.raw
    return (raw.encode("latin-1") if raw.startswith("(") else bytes.fromhex(raw))[:MALFORMED_KEPT]
