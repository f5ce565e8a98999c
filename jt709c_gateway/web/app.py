"""The page and the API as one resource: every request comes through here."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import txredisapi
from attrs import evolve
from twisted.internet import defer
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from jt709c_gateway.web.access import AccessControl
from jt709c_gateway.web.http import ApiError, ApiRequest, ClientGone, Response
from jt709c_gateway.web.router import BASE, Routes
from jt709c_gateway.web.static_files import Asset

_HEADERS: Final = {
    b"server": b"jt709c-gateway",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}


def content_policy(tiles: str | None) -> str:
    """The Content-Security-Policy: nothing from elsewhere but map tiles, no script but our files.

    `tiles` is where tiles come from, as a source expression (CSP 3 §2.3.1).
    """
    images = "img-src 'self' data:" + (f" {tiles}" if tiles else "")
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "
        f"manifest-src 'self'; {images}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class App(Resource):
    """Page and API. `local()` says whether only this host can reach us."""

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        gate: AccessControl,
        routes: Routes,
        assets: Mapping[str, Asset],
        tiles: str | None,
        local: Callable[[], bool],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._gate = gate
        self._routes = routes
        self._assets = assets
        self._policy = content_policy(tiles).encode()
        self._local = local

    def render(self, request: Any) -> int:
        """Any method; HEAD comes here too."""
        gone = ClientGone.watch(request)
        serving = defer.Deferred.fromCoroutine(self._serve(request, gone))
        serving.addErrback(self._failed, request, gone)
        return NOT_DONE_YET

    async def _serve(self, request: Any, gone: ClientGone) -> None:
        for name, value in _HEADERS.items():
            request.setHeader(name, value)
        request.setHeader(b"content-security-policy", self._policy)
        request.setHeader(b"cache-control", b"no-store")
        path = request.path.decode("utf-8", "replace")
        of_api = path == BASE or path.startswith(f"{BASE}/")
        try:
            user = await self._gate.admit(request, self._local())
            if gone.yes:
                return
            if not of_api:
                await self._file(request, path).send(request, gone)
                return
            answer = await self._call(request, path, user, gone)
        except ApiError as error:
            answer = error.answer() if of_api else _as_text(error)
        except txredisapi.ConnectionError:
            answer = ApiError(503, "Redis is away: try again later", headers={"retry-after": "5"}).answer()
        except txredisapi.ResponseError as error:
            self.log.error("Redis refuses what the API asks for: {reason}", reason=str(error))
            answer = ApiError(502, f"Redis refuses: {str(error).partition(chr(10))[0][:200]}").answer()
        if answer is not None and not gone.yes:
            await answer.send(request, gone)

    async def _call(self, request: Any, path: str, user: str | None, gone: ClientGone) -> Response | None:
        handler, arguments = self._routes.find(request.method.decode("ascii", "replace"), path)
        return await handler(ApiRequest(request, user, arguments, gone))

    def _file(self, request: Any, path: str) -> Asset:
        asset = self._assets.get(path)
        if asset is None:
            raise ApiError(404, "there is nothing here")
        if request.method not in (b"GET", b"HEAD"):
            raise ApiError(405, "expected GET", headers={"allow": "GET"})
        return asset

    def _failed(self, failure: Any, request: Any, gone: ClientGone) -> None:
        self.log.failure("a request for {path} failed", failure, path=request.path.decode("ascii", "replace"))
        if not gone.yes and not request.startedWriting:
            request.setResponseCode(500)
            request.write(b'{"error":{"field":null,"message":"the gateway failed at this; see its log"}}')
            request.finish()


def _as_text(error: ApiError) -> Response:
    return evolve(
        error.answer(), body=f"{error.message}\n".encode(), content_type="text/plain; charset=utf-8"
    )
