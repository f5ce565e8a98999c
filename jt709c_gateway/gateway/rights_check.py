"""Checks regularly whether the gateway's Redis user has all the rights it needs."""

from typing import Any, Final

import txredisapi
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.periodic import PeriodicService
from jt709c_gateway.redis.errors import is_state_of_server
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.rights import missing
from jt709c_gateway.redis.scripts import Caller

#: Seconds between checks; a new connection is checked at once.
EVERY: Final = 5.0


class RightsCheck(PeriodicService):
    """Keeps in `missing` the rights that the gateway's Redis user lacked at the last check."""

    log = Logger()

    def __init__(self, reactor: Any, keys: Keys, caller: Caller, admits: bool) -> None:
        """`admits` says that the allowlist is in Redis."""
        super().__init__(reactor, EVERY, self.check)
        self.missing: list[str] = []
        self.caller = caller
        self._keys = keys
        self._admits = admits

    def check(self) -> "defer.Deferred[None]":
        """Check now. The Deferred never fails."""
        return defer.Deferred.fromCoroutine(self.examine(self.caller)).addErrback(self._failed)

    async def examine(self, caller: Caller) -> None:
        """Check over this connection; a lost connection changes nothing."""
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
        self.log.failure("checking the rights in Redis failed", failure)
