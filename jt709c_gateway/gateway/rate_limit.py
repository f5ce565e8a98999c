"""Who is heard, and how often: admission, and what each lock may send (DESIGN.md §6)."""

from typing import TYPE_CHECKING, Final

from attrs import define, field
from twisted.logger import Logger

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.connection import DeviceConnection
from jt709c_gateway.gateway.event_budget import EventAllowance, EventBudget
from jt709c_gateway.gateway.new_device_limit import NewDeviceLimiter
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.protocol.framing import MALFORMED_KEPT
from jt709c_gateway.protocol.message import Message

if TYPE_CHECKING:
    from jt709c_gateway.gateway.gateway import Gateway, Moment

#: Why a link is closed, or a frame is kept in `jt709c:malformed`.
NOT_ADMITTED: Final = "not_admitted"
#: Locks that are gone of which is known what they have used up. The first of more are forgotten.
_MAX_REMEMBERED: Final = 20_000
#: Devices of which is known that they were reported. The first of more are forgotten.
_MAX_REPORTED: Final = 10_000


@define(eq=False)
class RateLimiter:
    """Lets locks in, turns others away, and slows down those that send too much."""

    log = Logger()

    gateway: "Gateway" = field(repr=False)
    admission: Admission
    #: What one lock may send.
    allowed: EventAllowance
    newcomers: NewDeviceLimiter
    _slowed: dict[DeviceConnection, None] = field(factory=dict, repr=False)
    _reported: dict[str, None] = field(factory=dict, repr=False)
    #: What locks that are gone have left, unless that is all.
    _remembered: dict[str, EventBudget] = field(factory=dict, repr=False)

    def admits(self, device: str) -> bool | None:
        """Whether a lock is heard; None when that has to be asked for."""
        # One that is here was asked about when it came, and is so at each review.
        return device in self.gateway.sessions or self.admission.admits(device)

    def turn_away(self, conversation: DeviceConnection, message: Message, moment: "Moment") -> None:
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
        self.gateway.slices.run(gone, self._close)

    def lets_come(self, conversation: DeviceConnection, device: str, now: float) -> bool:
        """Whether a lock that isn't here may come now, as far as others from its address leave room."""
        if device in self.gateway.sessions:
            return True
        return self.newcomers.admits(conversation.link.peer, device, now)

    def is_spent(self, device: str, now: float) -> bool:
        """Whether a lock that comes anew has nothing left of what it may send."""
        session = self.gateway.sessions.get(device)
        budget = self._remembered.get(device) if session is None else session.budget
        return budget is not None and not budget.look(self.allowed, now)

    def _close(self, device: str) -> None:
        if (session := self.gateway.sessions.get(device)) is not None:
            session.conversation.link.close(NOT_ADMITTED)

    def begin(self, session: Session, before: Session | None) -> None:
        """Give a lock that comes what it may send; one that comes anew has what is left of it."""
        if before is not None:
            session.budget = before.budget
        else:
            left = self._remembered.pop(session.device, None)
            session.budget = self.allowed.new(session.opened) if left is None else left

    def remember(self, session: Session, now: float) -> None:
        """A lock goes: coming anew it has no more than it has now."""
        budget = session.budget
        # That it came, and that it goes.
        budget.allowance -= 2
        budget.look(self.allowed, now)
        if budget.is_whole(self.allowed):
            return
        if len(self._remembered) >= _MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[session.device] = budget

    def allows(self, session: Session, now: float) -> bool:
        """Whether a lock may cause one more event."""
        return session.budget.allowance >= 1 or session.budget.look(self.allowed, now)

    def complain(self, conversation: DeviceConnection, session: Session, now: float) -> None:
        """A lock sends too much: that is said once."""
        budget = session.budget
        if not budget.hasty and self.gateway.may_log(now):
            budget.hasty = True
            self.log.warn(
                "lock {device} at {peer} sends more than {most:g} events {span} ({option})",
                device=session.device,
                peer=conversation.link.peer,
                most=self.allowed.share if budget.spent_share else self.allowed.rate,
                span="an hour" if budget.spent_share else "a second",
                option="--max-share" if budget.spent_share else "--max-rate",
            )

    def slow_down(self, conversation: DeviceConnection) -> None:
        """A connection's lock sends too much. It is read on with the next round of `read_on`."""
        if conversation not in self._slowed:
            self.gateway.counters.rate_pauses += 1
        self.wait(conversation)

    def wait(self, conversation: DeviceConnection) -> None:
        """Read on from a connection with the next round of `read_on`."""
        self._slowed[conversation] = None

    def read_on(self) -> None:
        """Read on from connections that were slowed down; to be called every few seconds."""
        slowed, self._slowed = self._slowed, {}
        self.gateway.slices.run(slowed, DeviceConnection.read_on)

    def left(self, conversation: DeviceConnection) -> None:
        """A link is gone."""
        self._slowed.pop(conversation, None)


def kept(message: Message) -> bytes:
    """What is kept of a message for a person to look at; passwords are masked already."""
    raw = message.raw
    return (raw.encode("latin-1") if raw.startswith("(") else bytes.fromhex(raw))[:MALFORMED_KEPT]
