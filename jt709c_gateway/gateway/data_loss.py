"""Notices that Redis has lost what it had been given, and tells it again which locks are here."""

import re
from collections.abc import Iterator
from typing import Any, Final

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.command_store import SESSIONS_AT_ONCE

#: Seconds from one look to the next.
_EVERY: Final = 0.5
#: Seconds from one look at which gateways there are to the next, and after a loss until Redis is told of
#: them: those that live have said so themselves by then.
_GATEWAYS: Final = 5.0
#: Seconds after which the marker that is looked at gets its time to live anew, and that time.
_RENEW: Final = 3600.0
_MARKER_TTL: Final = 86_400
#: The number of the last batch, and of the one before which something had been lost: see commit.lua.
_MARKER: Final = re.compile(rb"(\d+)(?:.* @(\d+))?")


class DataLossDetector(Service):
    """Compares what Redis says that this run has committed with what it had said before.

    A store that was emptied, that came back without its data or as an older copy of it, and a replica that
    took over before it had everything, all know of fewer batches than have been answered. Then each lock that
    is here is told again, some at a time, and the commands that were taken in for it meanwhile are looked
    for.
    """

    log = Logger()

    def __init__(self, reactor: Any, dispatcher: CommandDispatcher) -> None:
        self._dispatcher = dispatcher
        self._reactor = reactor
        self._looking = False
        #: The batch before which the last loss that has been dealt with was noticed.
        self._noticed = 0
        #: Up to which batch Redis is known to have lost all, when there was none behind it.
        self._gone = 0
        self._renew_at = reactor.seconds() + _RENEW
        #: The gateways that may have left something behind, when they are asked for again, and whether Redis
        #: is to be told of them first.
        self._gateways: set[str] = set()
        self._gateways_at = 0.0
        self._tell_gateways = False
        self._loop = task.LoopingCall(self.look)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Look every half second."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(_EVERY)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def look(self) -> "defer.Deferred[None] | None":
        """Look now, unless that is being done. What it gives never fails."""
        if self._looking:
            return None
        self._looking = True
        return defer.Deferred.fromCoroutine(self._look()).addBoth(self._looked)

    def _looked(self, result: Any) -> None:
        self._looking = False
        if result is not None and not result.check(txredisapi.RedisError):
            self.log.failure("telling Redis again what it has lost failed", result)

    async def _look(self) -> None:
        committer, caller = self._dispatcher.gateway.committer, self._dispatcher.store.caller
        applied = committer.applied
        if not committer.connection.connected:
            return
        if not applied and not committer.unacked:
            # So that there is something to be missed.
            self._dispatcher.after_commit(self._dispatcher.gateway.name, lambda written: None)
            return
        said = _MARKER.match(await caller.call("GET", committer.marker) or b"0")
        known, noticed = (0, 0) if said is None else (int(said[1]), int(said[2] or 0))
        # What has been seen to be gone is noticed once more by the script, with the batch that comes next.
        lost = self._noticed < noticed and noticed - 1 > self._gone
        self._noticed = max(self._noticed, noticed)
        if known < applied and applied > self._gone:
            self._gone, lost = applied, True
        if not lost:
            await self._renew(caller, committer.marker)
            await self._know_gateways()
            return
        await self._tell_again()

    async def _renew(self, caller: Any, marker: str) -> None:
        if self._reactor.seconds() >= self._renew_at:
            self._renew_at = self._reactor.seconds() + _RENEW
            await caller.call("EXPIRE", marker, _MARKER_TTL)

    async def _know_gateways(self) -> None:
        """Remember which gateways there are: what one had taken is to be adopted also after a loss."""
        now, store = self._reactor.seconds(), self._dispatcher.store
        if now < self._gateways_at:
            return
        self._gateways_at = now + _GATEWAYS
        if self._tell_gateways:
            await store.remember_gateways(self._gateways)
            self._tell_gateways = False
        self._gateways = set(await store.gateways())

    async def _tell_again(self) -> None:
        dispatcher = self._dispatcher
        self._tell_gateways, self._gateways_at = True, self._reactor.seconds() + _GATEWAYS
        dispatcher.gateway.counters.losses += 1
        sessions = [session for session in dispatcher.gateway.sessions if session.stored]
        self.log.warn(
            "Redis has lost what it had been given; telling it again of {count} locks that are here",
            count=len(sessions),
        )
        if dispatcher.sending:
            # A command that another gateway takes in is told to one that lives.
            await dispatcher.renew()
        for some in _in_parts(sessions):
            here = [one for one in some if dispatcher.gateway.sessions.get(one.device) is one]
            for session in here:
                dispatcher.gateway.presence.reintroduce(session)
            if not here:
                continue
            # The next ones wait until these are written, and reports come in between.
            await dispatcher.committed(here[-1].device)
            for device in await dispatcher.store.any_waiting([session.device for session in here]):
                dispatcher.dispatch(device)


def _in_parts(sessions: list[Session]) -> Iterator[list[Session]]:
    for start in range(0, len(sessions), SESSIONS_AT_ONCE):
        yield sessions[start : start + SESSIONS_AT_ONCE]
