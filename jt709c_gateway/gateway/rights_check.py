"""Looks again and again whether Redis lets the gateway do all that it has to."""

from typing import Any, Final

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.errors import is_state_of_server
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.rights import missing
from jt709c_gateway.redis.scripts import Caller

#: Seconds from one look to the next; a connection that is made anew has one at once.
EVERY: Final = 5.0


class RightsCheck(Service):
    """`missing` lists the rights that our user in Redis lacks, as far as the last look has shown."""

    log = Logger()

    def __init__(self, reactor: Any, keys: Keys, caller: Caller, admits: bool) -> None:
        """`admits` says that Redis is asked which locks are admitted."""
        self.missing: list[str] = []
        self.caller = caller
        self._keys = keys
        self._admits = admits
        self._loop = task.LoopingCall(self.check)
        self._loop.clock = reactor

    def startService(self) -> None:
        """Look at once, and then every `EVERY` seconds."""
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(EVERY)

    def stopService(self) -> None:
        """Look no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def check(self) -> "defer.Deferred[None]":
        """Look now. It never fails."""
        return defer.Deferred.fromCoroutine(self.examine(self.caller)).addErrback(self._failed)

    async def examine(self, caller: Caller) -> None:
        """Look over this connection. A connection that is lost meanwhile shows nothing."""
        try:
            found = await missing(caller, self._keys, self._admits)
        except txredisapi.ConnectionError:
            return
        except txredisapi.ResponseError as error:
            if not is_state_of_server(error) or "NOPERM" not in str(error):
                return
            found = [str(error)]
        if found != self.missing:
            self.missing = found
            self._log_missing()

    def _log_missing(self) -> None:
        if self.missing:
            self.log.error(
                "the gateway's user in Redis lacks rights: {missing}; not ready until it has them",
                missing="; ".join(self.missing),
            )
        else:
            self.log.info("the gateway's user in Redis has all rights that it needs")

    def _failed(self, failure: Any) -> None:
        self.log.failure("looking at the rights in Redis failed", failure)
