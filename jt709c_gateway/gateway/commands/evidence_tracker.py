"""What a lock says as evidence for its commands, also before it is known which commands that may be."""

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from attrs import define, field

from jt709c_gateway.commands.lifecycle import CommandExecution, Step
from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol.message import Message

if TYPE_CHECKING:
    from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
    from jt709c_gateway.redis.command_store_types import Claim

#: Ended commands per lock whose effect may still be seen; the oldest are forgotten first.
MAX_WATCHED: Final = 16
#: Reports kept in mind of which Redis did not know yet at the last look.
MAX_HEARD: Final = 64
#: Messages kept until it is known which commands they may be evidence for.
MAX_EARLY: Final = 16


@define(eq=False)
class _Early:
    """What a lock said at some moment (epoch seconds), and whether it was of use to a command already.

    `new` is false for a report that comes again, None as long as Redis has to be asked.
    """

    message: Message
    now: float
    new: bool | None
    used: bool


@define(eq=False)
class EvidenceTracker:
    """The commands of one lock whose effect is still to be seen, and what the lock has said about them.

    Of a lock that has just come it is not known at once which commands are unsettled: those are in Redis.
    What the lock says meanwhile is kept, and weighed when Redis has told (`catch_up`).
    """

    dispatcher: "CommandDispatcher"
    watched: list[CommandExecution] = field(factory=list)
    #: None when it is known which commands may be settled.
    _early: list[_Early] | None = field(default=None, repr=False)
    #: Unsettled commands that came into our hands since Redis was asked for them.
    _joined: list[CommandExecution] = field(factory=list, repr=False)
    #: Fingerprints of the lock's reports: those that Redis knew at the last look, and those heard here.
    _committed: frozenset[str] = field(default=frozenset(), repr=False)
    _reports: deque[str] = field(factory=lambda: deque(maxlen=MAX_HEARD), repr=False)
    #: Whether Redis has been asked since the lock came.
    _looked: bool = False

    @property
    def incomplete(self) -> bool:
        """Whether there may be unsettled commands of which nothing is known here."""
        return self._early is not None

    def begin(self) -> None:
        """The lock has come, or has come anew."""
        self._early, self._joined, self._looked = [], [], False

    def end(self) -> None:
        """The lock is gone: it says nothing more."""
        self._early = None

    def watch(self, run: CommandExecution) -> None:
        """Look out for the effect of a command from now on."""
        self.watched.append(run)
        self._trim()

    def forget(self, run: CommandExecution) -> None:
        """Look out for it no longer."""
        if run in self.watched:
            self.watched.remove(run)

    def forget_stale(self, now: float) -> bool:
        """Forget commands that nothing will settle any more; whether there were any."""
        stale = [run for run in self.watched if self.dispatcher.is_stale(run, now)]
        for run in stale:
            self.watched.remove(run)
        return bool(stale)

    def join(self, run: CommandExecution) -> None:
        """A command came into our hands: what the lock has said already may settle it."""
        self._joined.append(run)

    def take_along(self, claim: "Claim") -> None:
        """Commands that the lock has said yes to where it was before are ours from now on."""
        for record in claim.unsettled:
            if record["id"] in claim.along and (run := self.dispatcher.watched(record)) is not None:
                self.dispatcher.take(run.command.id, record)
                self.watched.append(run)
                self._joined.append(run)

    def catch_up(self, claim: "Claim", session: Session) -> Iterator[tuple[CommandExecution, Step]]:
        """Redis has told of unsettled commands: what that makes of them with what the lock said meanwhile."""
        found, elsewhere = self._restore(claim)
        early, state, clock = self._early or [], matching.LockState(claim.lock_state), session.clock
        if claim.clock_skew is not None:
            clock.learn(claim.clock_skew)
        sublocks = SubLockStates() if session.sublocks is None else session.sublocks.anew()
        self._early = early if elsewhere else None
        sublocks.learn(claim.sublocks)
        if claim.sublocks:
            session.sublocks = session.sublocks or SubLockStates()
            session.sublocks.learn(claim.sublocks)
        if session.lock_state is None and not early:
            session.lock_state = claim.lock_state
        self._committed, self._looked = claim.recent, True
        count = self.dispatcher.count_wrong_passwords
        for one in early:
            if one.new is None:
                one.new = one.message.fingerprint not in claim.recent
            if one.new and not one.used:
                steps = matching.match_message(
                    one.message, found, state.state, one.now, count, clock, sublocks
                )
                one.used = bool(steps)
                yield from steps
            state = state.after(one.message, clock, one.now)
            matching.note_sublocks(one.message, sublocks, one.now)

    def hear(
        self,
        message: Message,
        now: float,
        session: Session | None,
        current: CommandExecution | None,
        *,
        may_be_due: bool,
        asking: bool,
    ) -> list[tuple[CommandExecution, Step]]:
        """What a message leads to for the commands here and the `current` one, and names it in the events.

        `now` is in epoch seconds. `may_be_due` says whether bytes of the current command are out, so that
        what is said can be due to them; `asking`, whether Redis is being asked for unsettled commands.
        """
        early = self._early
        runs = self.watched if current is None else [current, *self.watched]
        new = self._is_new(message) if runs or early is not None else True
        if not new:
            runs = []
        elif current is not None and not may_be_due:
            runs = self.watched
        state, sublocks, clock = None, None, LockClock()
        if session is not None:
            state, sublocks, clock = session.lock_state, session.sublocks, session.clock
        steps = matching.match_message(
            message, runs, state, now, self.dispatcher.count_wrong_passwords, clock, sublocks
        )
        if early is not None and len(early) < MAX_EARLY:
            known = None if new and (asking or not self._looked) else new
            early.append(_Early(message, now, known, bool(steps)))
        return steps

    def _restore(self, claim: "Claim") -> tuple[list[CommandExecution], bool]:
        """The unsettled commands that what was said early may be evidence for, and whether there are others.

        Those are in the hands of another gateway, which tells when they have ended.
        """
        known = {run.command.id for run in self.watched}
        restored = [
            self.dispatcher.watched(record) for record in claim.unsettled if record["id"] not in known
        ]
        unsettled = [run for run in restored if run is not None]
        elsewhere = any(not run.ended and run.command.id not in self.dispatcher.held for run in unsettled)
        found = [run for run in unsettled if run.ended]
        self.watched += found
        self._trim()
        found += [run for run in self._joined if run in self.watched]
        self._joined = []
        return found, elsewhere

    def _is_new(self, message: Message) -> bool:
        """Whether a message may be evidence: a report that comes again tells nothing new.

        Taken for a second movement, it would confirm a command that moved nothing.
        """
        fingerprint = message.fingerprint
        if fingerprint is None:
            return True
        if fingerprint in self._committed or fingerprint in self._reports:
            return False
        self._reports.append(fingerprint)
        return True

    def _trim(self) -> None:
        ended = [run for run in self.watched if run.ended]
        for run in ended[:-MAX_WATCHED]:
            self.watched.remove(run)
