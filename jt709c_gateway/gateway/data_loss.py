"""Detects that Redis has lost committed data, and stores the connected devices again."""

import re
from collections.abc import Iterator
from typing import Any, Final

import txredisapi
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.periodic import PeriodicService
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.gateway_registry import SESSIONS_AT_ONCE

#: Seconds between checks.
_EVERY: Final = 0.5
#: Seconds between reads of the list of gateways, and from a loss until the list is restored: live gateways
#: have registered again by then.
_GATEWAYS: Final = 5.0
#: Seconds between renewals of the marker's time to live, and that time.
_RENEW: Final = 3600.0
_MARKER_TTL: Final = 86_400
#: Number of the last batch, and of the one before which data was lost: see commit.lua.
_MARKER: Final = re.compile(rb"(\d+)(?:.* @(\d+))?")


class DataLossDetector(PeriodicService):
    """Compares the number of the last batch in Redis with the last one that was committed.

    A store that was emptied or restored from an old copy, or a replica that was promoted too early, knows
    fewer batches than were acknowledged. Then all connected devices are stored again, some at a time, and
    their waiting commands are claimed.
    """

    log = Logger()

    def __init__(self, reactor: Any, dispatcher: CommandDispatcher) -> None:
        super().__init__(reactor, _EVERY, self.check)
        self._dispatcher = dispatcher
        self._context = dispatcher.context
        self._reactor = reactor
        self._checking = False
        #: The batch before which the last handled loss was noticed.
        self._noticed = 0
        #: Last batch of a loss after which nothing was committed yet.
        self._gone = 0
        self._renew_at = reactor.seconds() + _RENEW
        #: Known gateways, when they are read again, and whether they have to be restored first.
        self._gateways: set[str] = set()
        self._gateways_at = 0.0
        self._tell_gateways = False

    def check(self) -> "defer.Deferred[None] | None":
        """Check now, unless a check is running. The Deferred never fails."""
        if self._checking:
            return None
        self._checking = True
        return defer.Deferred.fromCoroutine(self._check()).addBoth(self._on_checked)

    def _on_checked(self, result: Any) -> None:
        self._checking = False
        if result is not None and not result.check(txredisapi.RedisError):
            self.log.failure("restoring the sessions that Redis has lost failed", result)

    async def _check(self) -> None:
        committer, caller = self._context.committer, self._context.store.caller
        applied = committer.applied
        if not committer.connection.connected:
            return
        if not applied and not committer.unacked:
            # Commit an empty batch, so that a loss can be noticed.
            self._context.publisher.after_commit(self._context.gateway.name, lambda written: None)
            return
        marker = _MARKER.match(await caller.call("GET", committer.marker) or b"0")
        known, noticed = (0, 0) if marker is None else (int(marker[1]), int(marker[2] or 0))
        # A loss that was seen here is noticed again by the script, with the next batch.
        lost = self._noticed < noticed and noticed - 1 > self._gone
        self._noticed = max(self._noticed, noticed)
        if known < applied and applied > self._gone:
            self._gone, lost = applied, True
        if not lost:
            await self._renew(caller, committer.marker)
            await self._remember_gateways()
            return
        await self._restore_sessions()

    async def _renew(self, caller: Any, marker: str) -> None:
        if self._reactor.seconds() >= self._renew_at:
            self._renew_at = self._reactor.seconds() + _RENEW
            await caller.call("EXPIRE", marker, _MARKER_TTL)

    async def _remember_gateways(self) -> None:
        """Keep the list of gateways: commands claimed by one are adopted also after a loss."""
        now, store = self._reactor.seconds(), self._context.store
        if now < self._gateways_at:
            return
        self._gateways_at = now + _GATEWAYS
        if self._tell_gateways:
            await store.remember_gateways(self._gateways)
            self._tell_gateways = False
        self._gateways = set(await store.gateways())

    async def _restore_sessions(self) -> None:
        context = self._context
        self._tell_gateways, self._gateways_at = True, self._reactor.seconds() + _GATEWAYS
        context.gateway.counters.losses += 1
        sessions = [session for session in context.sessions if session.stored]
        self.log.warn(
            "Redis has lost what it had been given; telling it again of {count} locks that are here",
            count=len(sessions),
        )
        if context.sending:
            # Other gateways route commands only to live ones.
            await context.claims.renew()
        for some in _in_parts(sessions):
            here = [one for one in some if context.gateway.sessions.get(one.device) is one]
            for session in here:
                context.gateway.lifecycle.restore_to_redis(session)
            if not here:
                continue
            # Wait for the commit, so that reports are not delayed.
            await context.publisher.committed(here[-1].device)
            for device in await context.store.any_waiting([session.device for session in here]):
                self._dispatcher.dispatch(device)


def _in_parts(sessions: list[Session]) -> Iterator[list[Session]]:
    for start in range(0, len(sessions), SESSIONS_AT_ONCE):
        yield sessions[start : start + SESSIONS_AT_ONCE]
