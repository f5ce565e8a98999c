"""Serves /metrics, /healthz and /readyz."""

import json
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.internet import defer
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from jt709c_gateway.web.limits import BoundedRequest, ConnectionLimit

#: Seconds between two renderings: each takes some milliseconds, in which no lock is served.
_PACE: Final = 0.05

Page = tuple[int, str, bytes]
"""Status, content type and body."""


class _Page(Resource):
    """A page that is rendered after a refresh, at most every `_PACE` seconds for all waiting requests.

    Each request gets a page that was rendered after it arrived.
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
        """Queue a GET or HEAD request for the next rendering."""
        self._waiting.add(request)
        request.notifyFinish().addErrback(lambda _: self._waiting.discard(request))
        self._make_soon()
        return NOT_DONE_YET

    def _make_soon(self) -> None:
        if self._waiting and not self._making:
            self._making = True
            self._clock.callLater(max(0.0, self._made + _PACE - self._clock.seconds()), self._make)

    def _make(self) -> None:
        requests, self._waiting = self._waiting, set()
        making: defer.Deferred[Any] = defer.maybeDeferred(self._refresh)
        making.addCallback(lambda _: self._render())
        making.addCallbacks(self._answer, self._failed, callbackArgs=(requests,), errbackArgs=(requests,))
        making.addErrback(lambda failure: self.log.failure("rendering a monitoring page failed", failure))
        making.addCallback(self._is_made)

    def _is_made(self, _: Any) -> None:
        self._making = False
        self._made = self._clock.seconds()
        self._make_soon()

    @staticmethod
    def _answer(page: Page, requests: set[Any]) -> None:
        status, content_type, body = page
        for request in requests:
            # The client may have disconnected meanwhile.
            if request.channel is not None:
                request.setResponseCode(status)
                request.setHeader(b"content-type", content_type.encode())
                request.setHeader(b"content-length", str(len(body)).encode())
                request.setHeader(b"cache-control", b"no-store")
                request.write(body)
                request.finish()

    @staticmethod
    def _failed(failure: Any, requests: set[Any]) -> None:
        for request in requests:
            if request.channel is not None:
                request.processingFailed(failure)


class _Root(Resource):
    """The pages by name; all other paths are served by `rest`."""

    def __init__(self, rest: Resource | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rest = rest

    def getChild(self, path: bytes, request: Any) -> Any:
        """Return the resource of other paths."""
        return super().getChild(path, request) if self._rest is None else self._rest  # type: ignore[no-untyped-call]


class _QuietSite(Site):
    """A site without an access log, which monitoring would fill."""

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
    """Build the factory of the site. `/readyz` shows `readiness()`, with 200 if its `ready` is true, or 503.

    `refresh()`, which may return a Deferred, is called before `/metrics` and `/readyz` are rendered. `rest`
    serves all other paths.
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
