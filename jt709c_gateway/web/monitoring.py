"""/metrics, /healthz and /readyz."""

import json
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.internet import defer
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from jt709c_gateway.web.connection_limit import ConnectionLimit
from jt709c_gateway.web.request_site import BoundedRequest

#: Seconds between two pages: making one takes some milliseconds, in which no lock is served.
_PACE: Final = 0.05

Page = tuple[int, str, bytes]
"""Status, content type and body."""


class _Page(Resource):
    """A page without children, made after what it shows has been refreshed.

    Whoever asks gets one that was made after that; it is made at most every `_PACE` seconds, for all who ask.
    """

    isLeaf = True
    log = Logger()

    def __init__(self, clock: Any, render: Callable[[], Page], refresh: Callable[[], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock = clock
        self._render = render
        self._refresh = refresh
        self._waiting: set[Any] = set()
        self._making = False
        self._made = -_PACE

    def render_GET(self, request: Any) -> int:
        """The page; HEAD comes here too."""
        self._waiting.add(request)
        request.notifyFinish().addErrback(lambda _: self._waiting.discard(request))
        self._make_soon()
        return NOT_DONE_YET

    def _make_soon(self) -> None:
        if self._waiting and not self._making:
            self._making = True
            self._clock.callLater(max(0.0, self._made + _PACE - self._clock.seconds()), self._make)

    def _make(self) -> None:
        asking, self._waiting = self._waiting, set()
        making: defer.Deferred[Any] = defer.maybeDeferred(self._refresh)
        making.addCallback(lambda _: self._render())
        making.addCallbacks(self._answer, self._failed, callbackArgs=(asking,), errbackArgs=(asking,))
        making.addErrback(lambda failure: self.log.failure("answering failed", failure))
        making.addCallback(self._is_made)

    def _is_made(self, _: Any) -> None:
        self._making = False
        self._made = self._clock.seconds()
        self._make_soon()

    @staticmethod
    def _answer(page: Page, asking: set[Any]) -> None:
        status, content_type, body = page
        for request in asking:
            # Whoever asked may have gone away meanwhile.
            if request.channel is not None:
                request.setResponseCode(status)
                request.setHeader(b"content-type", content_type.encode())
                request.setHeader(b"content-length", str(len(body)).encode())
                request.setHeader(b"cache-control", b"no-store")
                request.write(body)
                request.finish()

    @staticmethod
    def _failed(failure: Any, asking: set[Any]) -> None:
        for request in asking:
            if request.channel is not None:
                request.processingFailed(failure)


class _Root(Resource):
    """The pages by name; all else is `rest`, if there is any."""

    def __init__(self, rest: Resource | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rest = rest

    def getChild(self, path: bytes, request: Any) -> Any:
        """What isn't one of the pages."""
        return super().getChild(path, request) if self._rest is None else self._rest  # type: ignore[no-untyped-call]


class _QuietSite(Site):
    """A site without an access log: those who watch ask every few seconds, for years."""

    noisy = False
    requestFactory = BoundedRequest

    def log(self, request: Any) -> None:
        """Write nothing."""


def make_site(
    clock: Any,
    registry: CollectorRegistry,
    readiness: Callable[[], dict[str, Any]],
    refresh: Callable[[], Any] = lambda: None,
    rest: Resource | None = None,
) -> Any:
    """The site's factory. `/readyz` shows what `readiness()` says; 200 when its `ready` holds, otherwise 503.

    `refresh()`, which may give a Deferred, comes before either of the two is asked. `rest` serves all else.
    """

    def metrics() -> Page:
        return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

    def health() -> Page:
        return 200, "text/plain; charset=utf-8", b"ok\n"

    def ready() -> Page:
        state = readiness()
        return 200 if state["ready"] else 503, "application/json", json.dumps(state).encode() + b"\n"

    root: Any = _Root(rest)
    root.putChild(b"metrics", _Page(clock, metrics, refresh))
    root.putChild(b"healthz", _Page(clock, health, lambda: None))
    root.putChild(b"readyz", _Page(clock, ready, refresh))
    return ConnectionLimit(_QuietSite(root, reactor=clock))  # type: ignore[no-untyped-call]
