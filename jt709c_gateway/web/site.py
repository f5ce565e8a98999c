"""/metrics, /healthz and /readyz."""

import json
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from twisted.web.resource import Resource
from twisted.web.server import Site

Checks = Callable[[], dict[str, bool]]


class _Page(Resource):
    """A page without children, made anew for each request."""

    isLeaf = True

    def __init__(self, render: Callable[[], tuple[int, str, bytes]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._render = render

    def render_GET(self, request: Any) -> bytes:
        """Status, content type and body as `render` gives them; HEAD comes here too."""
        status, content_type, body = self._render()
        request.setResponseCode(status)
        request.setHeader(b"content-type", content_type.encode())
        request.setHeader(b"cache-control", b"no-store")
        return body


class _QuietSite(Site):
    """A site without an access log: those who watch ask every few seconds, for years."""

    noisy = False

    def log(self, request: Any) -> None:
        """Write nothing."""


def make_site(registry: CollectorRegistry, ready: Checks) -> Site:
    """The site. `/readyz` is 200 when all of `ready()` holds and 503 otherwise, and says what doesn't."""

    def metrics() -> tuple[int, str, bytes]:
        return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

    def health() -> tuple[int, str, bytes]:
        return 200, "text/plain; charset=utf-8", b"ok\n"

    def readiness() -> tuple[int, str, bytes]:
        checks = ready()
        status = 200 if all(checks.values()) else 503
        return status, "application/json", json.dumps({"ready": status == 200, **checks}).encode() + b"\n"

    root: Any = Resource()  # type: ignore[no-untyped-call]
    root.putChild(b"metrics", _Page(metrics))
    root.putChild(b"healthz", _Page(health))
    root.putChild(b"readyz", _Page(readiness))
    return _QuietSite(root)  # type: ignore[no-untyped-call]
