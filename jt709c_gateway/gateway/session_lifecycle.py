"""Locks that come, move and go: what becomes of their sessions, here and in Redis, and what is told of it."""

from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.gateway.connection import DeviceConnection
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.takeover_limit import TakeoverLimiter
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.transport.interfaces import SHUTDOWN

if TYPE_CHECKING:
    from jt709c_gateway.gateway.gateway import Gateway, Moment

#: What is told of a session: state and reason.
_Change = tuple[Literal["online", "offline", "replaced"], str]
#: When it takes over from an older one, here or at another gateway.
_TAKEN_OVER: Final[_Change] = ("replaced", "newer connection")
#: Seconds after which the end of a large link goes on when too much waits for Redis.
_BREATH: Final = 0.02
#: Silent sessions of one link that end with one sweep.
_ENDED_AT_ONCE: Final = 500


@define(eq=False)
class SessionLifecycle:
    """Opens sessions, hands them on to newer ones, and ends them."""

    gateway: "Gateway" = field(repr=False)
    contests: TakeoverLimiter = field(factory=TakeoverLimiter, repr=False)
    _tokens: int = 0

    # Locks that come

    def make(self, conversation: DeviceConnection, message: Message, moment: "Moment") -> Session:
        """A session of a device on a link, of which nobody knows yet."""
        self._tokens += 1
        session = Session(
            message.device,
            conversation,
            f"{self.gateway.token_start}{self._tokens}",
            moment.iso,
            moment.now,
            conversation.origin,
            # One that isn't its id is taken up like any that it says later.
            message.imei if message.imei == message.device else None,
            message.identity_wire,
            moment.now,
            moment.now,
        )
        session.utc8 = self.gateway.policy.utc8.is_sent_by(session.device)
        return session

    def open(self, conversation: DeviceConnection, message: Message, moment: "Moment") -> Session | None:
        """A device speaks on a link for the first time. None when there is no room for it."""
        session = self.make(conversation, message, moment)
        before = self.gateway.sessions.get(message.device)
        if before is None and not self._make_room(moment):
            conversation.link.close("max_sessions")
            return None
        self.gateway.gate.begin(session, before)
        self.begin(session, before, moment)
        return session

    def waits(self, conversation: DeviceConnection, device: str, moment: "Moment") -> bool:
        """Whether a device has to wait until it may end its older session, as that went on too fast."""
        if self.contests.may_take_over(device, moment.now):
            return False
        self.gateway.counters.contested += 1
        if (before := self.gateway.sessions.get(device)) is not None:
            self.contests.tell(device, before.origin.peer or "", conversation.link.peer)
        return True

    def begin(self, session: Session, before: Session | None, moment: "Moment") -> None:
        """Make this the device's session, in Redis too, and tell it."""
        told: list[_Change] = []
        if before is None:
            # Whether another gateway has an older session of this device only Redis knows.
            told = [("online", "connected"), _TAKEN_OVER]
        elif not (session.conversation.is_datagram and before.conversation.is_datagram):
            # A lock whose datagrams come from a new address behind a mobile network's NAT has not moved.
            told = [_TAKEN_OVER]
        opening = ("open", session.token, self.gateway.policy.session_ttl, *session.hash_fields())
        lasted = None if before is None else round(moment.now - before.opened, 3)
        self._tell(session, told, lasted, moment, opening)
        self._take_place(session, before, moment, told)

    def offer(self, session: Session, report: str | None, moment: "Moment", then: Any) -> None:
        """Ask Redis to take a session that datagrams have brought; `then` is told whether it has.

        It doesn't where another gateway has the device over TCP, or over UDP, unless `report`, the
        fingerprint of what it says, is new.
        """
        told: list[_Change] = [("online", "connected"), _TAKEN_OVER]
        ttl = self.gateway.policy.session_ttl
        offering = ("offer", session.token, ttl, report or "", *session.hash_fields())
        self._tell(session, told, None, moment, offering, then)

    def accepted(self, session: Session, moment: "Moment") -> bool:
        """Redis has taken an offered session; False when there is no room for it."""
        if not self._make_room(moment):
            session.conversation.link.close("max_sessions")
            return False
        session.stored = True
        self._take_place(session, None, moment, [("online", "connected")])
        return True

    def withdraw(self, session: Session) -> None:
        """Redis has taken an offered session that is of no use any more."""
        told: list[_Change] = [("offline", "replaced")]
        self._tell(session, told, None, self.gateway.moment(), ("close", session.token))

    def _take_place(
        self, session: Session, before: Session | None, moment: "Moment", told: list[_Change]
    ) -> None:
        gateway = self.gateway
        gateway.sessions.put(session)
        session.conversation.sessions[session.device] = session
        if told:
            # A lock that comes again and again takes room in the stream by that alone.
            session.budget.allowance -= before is not None
            gateway.counters.sessions[told[0][0]] += 1
        if before is not None:
            session.lock_state, session.state_at = before.lock_state, before.state_at
            session.sublocks = before.sublocks
            if told:
                # Otherwise it went on from there as a guest's, and has heard more since.
                session.clock.take_over(before.clock, same_link=False)
            session.dialect, session.guess = before.dialect, before.guess
            session.proofs = before.proofs
            session.master_version, session.sentence_version = before.master_version, before.sentence_version
            self.contests.taken_over(session.device, moment.now)
            self._taken_over(before)
        gateway.on_online(session)

    def _make_room(self, moment: "Moment") -> bool:
        """Have somebody go who has more than his places, if there are too many; False when nobody has."""
        sessions = self.gateway.sessions
        if not sessions.full:
            return True
        if (going := sessions.room.first_to_go()) is None:
            return False
        self.gateway.dropped("evicted")
        self._end(going, "max_sessions", moment)
        link = going.conversation
        if link.is_open and not link.sessions:
            link.link.close("max_sessions")
        return True

    # Locks that are elsewhere

    def moved_away(self, session: Session) -> None:
        """Another gateway has a newer session of this device, and has told so."""
        gateway = self.gateway
        if gateway.sessions.remove(session):
            gateway.counters.sessions["replaced"] += 1
            gateway.gate.remember(session, gateway.clock.seconds())
            self.contests.taken_over(session.device, gateway.clock.seconds())
            self._taken_over(session)

    def affirm(self, session: Session) -> None:
        """See to it that Redis knows of a session that it should know; where it didn't, that is told."""
        stored = ("affirm", session.token, self.gateway.policy.session_ttl, *session.hash_fields())
        self._tell(session, [("online", "known again")], None, self.gateway.moment(), stored)

    def reintroduce(self, session: Session) -> None:
        """Tell a Redis that may have lost all of it again what lock this is, and that it is here."""
        self.affirm(session)
        moment = self.gateway.moment()
        heard = moment.epoch - (moment.now - session.last_heard)
        iso = datetime.fromtimestamp(heard, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        state = (session.dialect, session.imei, None, None, None, None)
        self.gateway.committer.submit((session.device, None, iso, heard, [], state, None, None))

    def lost(self, device: str, gateway: str, gone: bool) -> None:
        """The gateway that had this device has died: say offline, unless it is somewhere by now.

        `gone` says that this is certain, even if Redis has the gateway's liveness still.
        """
        moment = self.gateway.moment()
        data = events.Session("offline", "gateway died", None)
        packed = [(events.KIND_SESSION, self.gateway.encode(device, events.KIND_SESSION, data))]
        change = ("lost", gateway, "1" if gone else "0", self.gateway.token_start)
        self.gateway.committer.submit((device, None, moment.iso, moment.epoch, packed, None, change, None))

    def _taken_over(self, before: Session) -> None:
        """The device has a newer session: close the old link, unless others speak over it too."""
        self.gateway.on_offline(before, "replaced")
        old = before.conversation
        old.sessions.pop(before.device, None)
        if not old.sessions:
            old.link.close("replaced")

    # Locks that go

    def ended(self, conversation: DeviceConnection, reason: str) -> None:
        """A link is gone: its locks are offline, but for those that are elsewhere by now."""
        gateway = self.gateway
        gateway.conversations.discard(conversation)
        gateway.forget_paused(conversation)
        gateway.gate.left(conversation)
        conversation.guests.clear()
        moment = gateway.moment()
        end = partial(self._end, reason=reason, moment=moment)
        gateway.slices.run(list(conversation.sessions.values()), end, self._breath)

    def _breath(self) -> "defer.Deferred[None] | None":
        committer = self.gateway.committer
        if committer.unacked < committer.max_unacked // 2:
            return None
        return task.deferLater(self.gateway.clock, _BREATH, lambda: None)  # type: ignore[arg-type]

    def _end(self, session: Session, reason: str, moment: "Moment") -> None:
        gateway, there = self.gateway, session.conversation.sessions
        if there.get(session.device) is session:
            del there[session.device]
        if gateway.sessions.remove(session):
            lasted = round(moment.now - session.opened, 3)
            gateway.counters.sessions["offline"] += 1
            gateway.gate.remember(session, moment.now)
            self._tell(session, [("offline", reason)], lasted, moment, ("close", session.token))
            gateway.on_offline(session, reason)

    # What is told

    def _tell(
        self,
        session: Session,
        told: list[_Change],
        lasted: float | None,
        moment: "Moment",
        stored: tuple[Any, ...],
        then: Any = None,
    ) -> None:
        """Have Redis take in what becomes of a session, and tell it.

        Of two in `told` the second is told when an older session, of another gateway or run, ends by that.
        """
        gateway = self.gateway
        packed: list[tuple[str, ...]] = []
        if told:
            changes = [events.Session(state, reason, lasted) for state, reason in told]
            texts = [gateway.encode(session.device, events.KIND_SESSION, data, session) for data in changes]
            packed.append((events.KIND_SESSION, *texts))
        content = (session.device, None, moment.iso, moment.epoch, packed, None, stored, None)
        gateway.committer.submit(content, None, None, then or session.noted)

    # Housekeeping

    def sweep(self) -> None:
        """Close links that have been silent for too long, read on from those that were slowed down.

        To be called every few seconds.
        """
        gateway = self.gateway
        gateway.gate.read_on()
        gateway.parts.expire(gateway.clock.seconds())
        gateway.slices.run(list(gateway.conversations), self._look_after)

    def _look_after(self, conversation: DeviceConnection) -> None:
        policy, now = self.gateway.policy, self.gateway.clock.seconds()
        limit = policy.idle_timeout
        if not conversation.is_open:
            return
        if now - conversation.last_received > limit:
            conversation.link.close("idle")
        elif not conversation.sessions and now - conversation.opened > policy.first_frame_timeout:
            conversation.link.close("admission" if conversation.asking else "no_frame")
        elif conversation.locks > 1:
            # Others on the same link speak; this one doesn't.
            moment = self.gateway.moment()
            silent = (one for one in conversation.sessions.values() if now - one.last_heard > limit)
            for session in list(islice(silent, _ENDED_AT_ONCE)):
                self._end(session, "idle", moment)

    def shut_down(self) -> None:
        """Say goodbye for every lock and close every link."""
        for conversation in list(self.gateway.conversations):
            conversation.link.close(SHUTDOWN)
