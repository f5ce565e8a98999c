"""Queries each device's IMEI and firmware once a day, with lower priority than commands.

A query is not a command: it enters no queue in Redis and leaves no record, so a fleet that reconnects at once
fills neither. Its answer is stored like any answer (`commit.lua`). The time of the query is stored in the
device's hash, so that no other gateway repeats it.
"""

from collections.abc import Callable, Iterable
from typing import Final

import txredisapi
from attrs import define, field
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.commands.profiles import CheckedCommand, Rendered
from jt709c_gateway.gateway.commands import encoder
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.executor import CommandExecutor
from jt709c_gateway.gateway.commands.pending_query import PATIENCE, PendingQuery
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store_types import Unasked

#: Seconds between two queries of one device.
EVERY: Final = 24 * 3600.0
#: Devices queried per call of `IdentityPoller.poll`, and seconds between calls: 20 devices a second.
PER_ROUND: Final = 5
ROUND: Final = 0.25
#: Devices that may wait for a query; further ones are queried after their next connection.
MAX_QUEUED: Final = 20_000


@define(eq=False)
class IdentityPoller:
    """Queues devices of these dialects when they report, and queries a few of them at a time."""

    log = Logger()

    dispatcher: CommandDispatcher
    dialects: frozenset[str]
    #: Called with the known IMEI of a device that may be queried, and the device.
    identified: Callable[[str, str], None] = lambda imei, device: None
    _context: CommandContext = field(init=False, repr=False)
    _queue: dict[str, None] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        self._context = self.dispatcher.context

    def enqueue(self, session: Session) -> None:
        """Have the device of a session queried that has reported, unless its dialect is not queried."""
        if session.dialect not in self.dialects:
            return
        if len(self._queue) >= MAX_QUEUED:
            self._context.gateway.counters.questions["dropped"] += 1
            return
        self._queue[session.device] = None

    async def poll(self) -> None:
        """Start the next queries; call it every `ROUND` seconds."""
        for device in list(self._queue)[:PER_ROUND]:
            del self._queue[device]
            defer.Deferred.fromCoroutine(self._query(device)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("identity query failed", failure)

    async def _query(self, device: str) -> None:
        context = self._context
        session = context.gateway.sessions.get(device)
        if session is None:
            return
        # A device that has just reported is awake.
        if not context.sending or not session.connection.is_open or not context.heard_recently(session):
            session.fresh = True
            return
        pending_query = PendingQuery(context.now() + PATIENCE)
        executor = self.dispatcher.ensure_executor(session)
        if not executor.hold_for_query(pending_query):
            session.fresh = True
            return
        try:
            known = await context.store.may_ask(device, context.now(), EVERY)
            if known is not None:
                if known.imei:
                    self.identified(known.imei, device)
                await self._send_queries(executor, session, pending_query, known)
        except txredisapi.RedisError as error:
            session.fresh = True
            self.log.debug("identity query of {device} failed: {reason}", device=device, reason=str(error))
        finally:
            executor.release_query()

    async def _send_queries(
        self, executor: CommandExecutor, session: Session, pending_query: PendingQuery, known: Unasked
    ) -> None:
        """Send the queries one after the other, until one is not answered."""
        counted = self._context.gateway.counters.questions
        for checked, rendered in self._queries(session, known):
            data, serial = encoder.frame(
                rendered, session, await self._context.store.next_serial(session.device)
            )
            if (
                executor.session is not session
                or not executor.reachable
                or self._context.now() >= pending_query.until
            ):
                return
            waiting = pending_query.sent(checked, serial)
            session.send(data)
            counted["asked"] += 1
            answered = await waiting
            counted["answered" if answered else "unanswered"] += 1
            if not answered:
                return

    def _queries(self, session: Session, known: Unasked) -> Iterable[tuple[CheckedCommand, Rendered]]:
        """The queries that the device's profile has: the IMEI only when it is unknown, firmware always."""
        profiles = self._context.profiles
        profile = profiles.pick(session.device, session.dialect_or_guess(known.dialect), known.firmware)
        for what in ("imei", "firmware") if known.imei is None else ("firmware",):
            if profile is None:
                return
            try:
                checked = profiles.validate(Command("", session.device, "query", {"what": what}), profile)
                rendered = checked.render(self._context.now())
            except InvalidCommand:
                continue
            if not checked.spec.physical:
                yield checked, rendered
