"""Regularly ends idle connections, resumes throttled ones, and reviews which devices are admitted."""

from typing import Any, Final

import txredisapi
from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.periodic import PeriodicService

#: Seconds between sweeps over all connections.
_SWEEP: Final = 2.0


class Maintenance(MultiService):
    """Runs what a gateway does for its connections regularly; errors are logged and end nothing."""

    log = Logger()

    def __init__(self, reactor: Any, gateway: Gateway) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gateway = gateway
        loops = [PeriodicService(reactor, _SWEEP, self._sweep)]
        if gateway.admission.review_every is not None:
            loops.append(PeriodicService(reactor, gateway.admission.review_every, self.review))
        for loop in loops:
            loop.setServiceParent(self)  # type: ignore[no-untyped-call]

    def _sweep(self) -> None:
        try:
            self._gateway.sweep()
        except Exception:
            self.log.failure("the sweep over all connections failed")

    def review(self) -> "defer.Deferred[None]":
        """Review now which devices are admitted. The Deferred never fails."""
        review = defer.Deferred.fromCoroutine(self._gateway.session_admission.review())
        return review.addErrback(self._failed)

    def _failed(self, failure: Any) -> None:
        if not failure.check(txredisapi.ConnectionError):
            self.log.failure("admission review failed", failure)
