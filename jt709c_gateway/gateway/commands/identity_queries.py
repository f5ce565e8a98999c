"""Asking locks what they are: their IMEI and firmware, once a day, behind everything else.

A question is no command: it is in no queue in Redis and leaves no record, so a fleet that reconnects at once
fills neither. What comes back is stored as any answer is (`commit.lua`). When a lock was asked stands in its
hash, so that no other gateway asks again.
"""

from collections.abc import Iterable
from typing import Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import CheckedCommand, Rendered
from jt709c_gateway.gateway.commands import encoder
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.executor import CommandExecutor
from jt709c_gateway.gateway.commands.pending_query import PATIENCE, PendingQuery
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store_types import Unasked

#: Seconds from one time that a lock is asked to the next.
EVERY: Final = 24 * 3600.0
#: Locks asked per round of `Asking.ask_some`, and seconds from one to the next: 20 a second.
PER_ROUND: Final = 5
ROUND: Final = 0.25
#: Locks that may wait to be asked. Another one's turn comes with its next connection.
MAX_QUEUED: Final = 20_000


@define(eq=False)
class IdentityPoller:
    """Takes locks of these dialects as they report, and asks a few of them at a time."""

    log = Logger()

    dispatcher: CommandDispatcher
    dialects: frozenset[str]
    _queue: dict[str, None] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.dialects:
            self.dispatcher.gateway.on_reported = self._reported

    def _reported(self, session: Session) -> None:
        if session.dialect not in self.dialects:
            return
        if len(self._queue) >= MAX_QUEUED:
            self.dispatcher.gateway.counters.questions["dropped"] += 1
            return
        self._queue[session.device] = None

    async def ask_some(self) -> None:
        """Begin with some of those whose turn it is; to be called every `ROUND` seconds."""
        for device in list(self._queue)[:PER_ROUND]:
            del self._queue[device]
            defer.Deferred.fromCoroutine(self._ask(device)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("asking a lock what it is failed", failure)

    async def _ask(self, device: str) -> None:
        dispatcher = self.dispatcher
        session = dispatcher.gateway.sessions.get(device)
        if session is None:
            return
        # A lock that was heard just now is awake.
        if not dispatcher.sending or not session.conversation.is_open or not dispatcher.heard_lately(session):
            session.fresh = True
            return
        question = PendingQuery(dispatcher.now() + PATIENCE)
        desk = dispatcher.seat(session)
        if not desk.hold(question):
            session.fresh = True
            return
        try:
            known = await dispatcher.store.may_ask(device, dispatcher.now(), EVERY)
            if known is not None:
                await self._put(desk, session, question, known)
        except txredisapi.RedisError as error:
            session.fresh = True
            self.log.debug("a lock could not be asked what it is: {reason}", reason=str(error))
        finally:
            desk.let_go()

    async def _put(
        self, desk: CommandExecutor, session: Session, question: PendingQuery, known: Unasked
    ) -> None:
        """One question after another, until one isn't answered."""
        counted = self.dispatcher.gateway.counters.questions
        for checked, rendered in self._questions(session, known):
            data, serial = encoder.frame(
                rendered, session, await self.dispatcher.store.next_serial(session.device)
            )
            if desk.session is not session or not desk.reachable or self.dispatcher.now() >= question.until:
                return
            waiting = question.put(checked, serial)
            session.send(data)
            counted["asked"] += 1
            answered = await waiting
            counted["answered" if answered else "unanswered"] += 1
            if not answered:
                return

    def _questions(self, session: Session, known: Unasked) -> Iterable[tuple[CheckedCommand, Rendered]]:
        """The questions that the lock's profile has: an IMEI stays what it is, firmware may be renewed."""
        profiles = self.dispatcher.profiles
        profile = profiles.pick(session.device, session.speaks(known.dialect), known.firmware)
        for what in ("imei", "firmware") if known.imei is None else ("firmware",):
            if profile is None:
                return
            try:
                checked = profiles.validate(Command("", session.device, "query", {"what": what}), profile)
                rendered = checked.render(self.dispatcher.now())
            except InvalidCommand:
                continue
            if not checked.spec.physical:
                yield checked, rendered
