"""/metrics, /healthz and /readyz."""

import json
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.internet import defer
from twisted.protocols.policies import WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from .requests import BoundedRequest

#: Connections at a time; a browser makes some six.
MAX_CONNECTIONS: Final = 500

Page = tuple[int, str, bytes]
"""Status, content type and body."""


class _Page(Resource):
    """A page without children, made anew for each request, after what it shows has been refreshed."""

    isLeaf = True

    def __init__(self, render: Callable[[], Page], refresh: Callable[[], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._render = render
        self._refresh = refresh

    def render_GET(self, request: Any) -> int:
        """The page; HEAD comes here too."""
        waiting: defer.Deferred[Any] = defer.maybeDeferred(self._refresh)
        request.notifyFinish().addErrback(lambda _: waiting.cancel())
        waiting.addCallback(self._answer, request)
        waiting.addErrback(self._failed, request)
        return NOT_DONE_YET

    def _answer(self, _: Any, request: Any) -> None:
        status, content_type, body = self._render()
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"content-length", str(len(body)).encode())
        request.setHeader(b"cache-control", b"no-store")
        request.write(body)
        request.finish()

    @staticmethod
    def _failed(failure: Any, request: Any) -> None:
        # Whoever asked may have gone away meanwhile.
        if not failure.check(defer.CancelledError):
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


class _Bounded(WrappingFactory):
    """Takes a bounded number of connections at a time; one more is closed at once."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        """Return a new protocol, or None when there are too many."""
        if len(self.protocols) >= MAX_CONNECTIONS:
            return None
        return super().buildProtocol(addr)


def make_site(
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
    root.putChild(b"metrics", _Page(metrics, refresh))
    root.putChild(b"healthz", _Page(health, lambda: None))
    root.putChild(b"readyz", _Page(ready, refresh))
    return _Bounded(_QuietSite(root))  # type: ignore[no-untyped-call]
