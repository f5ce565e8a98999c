"""Matches a device's reports to its unconfirmed commands.

That includes reports that arrive before Redis has returned those commands.
"""

from collections.abc import Iterator
from typing import Final

from attrs import define, field

from jt709c_gateway.commands.lifecycle import CommandExecution, Step
from jt709c_gateway.gateway.commands import matching
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.heard_reports import HeardReports, without_committed
from jt709c_gateway.gateway.commands.restore import is_stale, restore_confirmable
from jt709c_gateway.gateway.lock_clock import LockClock
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.command_store_types import Claim

#: Ended commands per device that can still be confirmed; the oldest are forgotten first.
MAX_WATCHED: Final = 16
#: Messages kept until Redis has returned the unsettled commands.
MAX_EARLY: Final = 16


@define(eq=False)
class _Early:
    """A message that arrived at `now` (epoch seconds) before the unsettled commands were known.

    `news` is the message without repeated reports, None for a repeated message. `tentative` says that Redis
    has to be asked whether there are any. `used` says that the message has settled a command already.
    """

    message: Message
    now: float
    news: Message | None
    tentative: bool
    used: bool


@define(eq=False)
class EvidenceTracker:
    """Keeps one device's commands that await confirmation, and matches its messages to them.

    The unsettled commands of a device that has just connected are in Redis. Its messages are kept until
    Redis has returned those commands, and are then matched (`replay_early_messages`).
    """

    context: CommandContext
    watched: list[CommandExecution] = field(factory=list)
    #: None when all unsettled commands are known.
    _early: list[_Early] | None = field(default=None, repr=False)
    #: Commands that another gateway still holds: a movement that may be theirs is kept until they have ended.
    _elsewhere: list[CommandExecution] = field(factory=list, repr=False)
    #: Unsettled commands that were recovered or adopted since the last claim.
    _recovered: list[CommandExecution] = field(factory=list, repr=False)
    _heard: HeardReports = field(factory=HeardReports, repr=False)
    #: Ids of commands that were confirmed during a claim, which may return them as they were before.
    _confirmed: set[str] = field(factory=set, repr=False)
    #: Whether a claim has succeeded since the device connected.
    _claimed: bool = False

    @property
    def incomplete(self) -> bool:
        """Whether Redis may have unsettled commands that are not known here."""
        return self._early is not None

    def start(self) -> None:
        """Keep messages from now on: the device has connected."""
        self._early, self._elsewhere, self._recovered, self._claimed = [], [], [], False

    def stop(self) -> None:
        """Discard the kept messages: the device has disconnected."""
        self._early = None

    def watch(self, run: CommandExecution) -> None:
        """Match reports to a command from now on."""
        self.watched.append(run)
        self._trim()

    def forget(self, run: CommandExecution) -> None:
        """Stop matching reports to a command."""
        if run in self.watched:
            self.watched.remove(run)

    def forget_stale(self, now: float) -> bool:
        """Forget commands that can no longer be confirmed; returns whether there were any."""
        stale = [run for run in self.watched if is_stale(run, now)]
        for run in stale:
            self.watched.remove(run)
        return bool(stale)

    def not_stored(self, report: str) -> None:
        """Accept a report again: Redis has not stored the one with this fingerprint."""
        self._heard.forget(report)

    def track_recovered(self, run: CommandExecution) -> None:
        """Match the messages kept so far to a recovered command, too."""
        self._recovered.append(run)

    def adopt_migrated(self, claim: Claim) -> None:
        """Adopt acknowledged commands that followed the device from another gateway."""
        for record in claim.unsettled:
            if record["id"] in claim.along and (run := restore_confirmable(self.context, record)) is not None:
                self.context.claims.add(run.command.id, record)
                self.watched.append(run)
                self._recovered.append(run)

    def replay_early_messages(
        self, claim: Claim, session: Session
    ) -> Iterator[tuple[CommandExecution, Step, str | None]]:
        """Match the kept messages to the unsettled commands of a claim.

        Yields the resulting steps, each with the fingerprint of the report that has led to it.
        """
        found, self._elsewhere = self._restore(claim)
        early, state, clock = self._early or [], matching.LockState(claim.lock_state), session.clock
        if claim.clock_skew is not None:
            clock.restore(claim.clock_skew)
        sublocks = SubLockStates() if session.sublocks is None else session.sublocks.without_reports()
        self._early = early if self._elsewhere else None
        sublocks.restore(claim.sublocks)
        if claim.sublocks:
            session.sublocks = session.sublocks or SubLockStates()
            session.sublocks.restore(claim.sublocks)
        if session.lock_state is None and not early:
            session.lock_state = claim.lock_state
        self._heard.claimed(claim.recent)
        self._claimed = True
        count = self.context.publisher.count_wrong_passwords
        for one in early:
            if one.tentative and one.news is not None:
                one.news, one.tentative = without_committed(one.message, one.news, claim.recent), False
            if one.news is not None and not one.used:
                steps = matching.match_message(
                    one.message,
                    found,
                    state.state,
                    one.now,
                    count,
                    clock,
                    sublocks,
                    self._elsewhere,
                    one.news,
                )
                one.used = bool(steps)
                yield from ((run, step, one.message.fingerprint) for run, step in steps)
            state = state.after(one.message, clock, one.now)
            matching.note_sublocks(one.message, sublocks, one.now)

    def process_message(
        self,
        message: Message,
        now: float,
        session: Session | None,
        current: CommandExecution | None,
        *,
        claiming: bool,
    ) -> list[tuple[CommandExecution, Step]]:
        """Match a message to the watched commands and the `current` one; returns the resulting steps.

        Sets `command_id` in the message's events. `now` is in epoch seconds. `claiming` says whether a claim
        is in progress.
        """
        early = self._early
        runs = self.watched if current is None else [current, *self.watched]
        news = self._heard.hear(message) if runs or early is not None else message
        if news is None:
            runs = []
        elif current is not None and current.unwritten:
            # No message can be a reaction to bytes that have not been sent.
            runs = self.watched
        state, sublocks, clock = None, None, LockClock()
        if session is not None:
            state, sublocks, clock = session.lock_state, session.sublocks, session.clock
        steps = matching.match_message(
            message,
            runs,
            state,
            now,
            self.context.publisher.count_wrong_passwords,
            clock,
            sublocks,
            self._elsewhere,
            news,
        )
        if claiming:
            self._confirmed.update(run.command.id for run, step in steps if step.before is not None)
        if early is not None and len(early) < MAX_EARLY:
            early.append(_Early(message, now, news, claiming or not self._claimed, bool(steps)))
        return steps

    def _restore(self, claim: Claim) -> tuple[list[CommandExecution], list[CommandExecution]]:
        """The unsettled commands that kept messages may confirm, and those that another gateway holds.

        That gateway notifies this one when they have ended.
        """
        known = {run.command.id for run in self.watched} | self._confirmed
        self._confirmed = set()
        restored = [
            restore_confirmable(self.context, record)
            for record in claim.unsettled
            if record["id"] not in known
        ]
        unsettled = [run for run in restored if run is not None]
        elsewhere = [run for run in unsettled if not run.ended and run.command.id not in self.context.claims]
        found = [run for run in unsettled if run.ended]
        self.watched += found
        self._trim()
        found += [run for run in self._recovered if run in self.watched]
        self._recovered = []
        return found, elsewhere

    def _trim(self) -> None:
        ended = [run for run in self.watched if run.ended]
        for run in ended[:-MAX_WATCHED]:
            self.watched.remove(run)
