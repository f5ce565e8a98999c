"""The root resource of page and API, which every request passes."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import txredisapi
from attrs import evolve
from twisted.internet import defer
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from jt709c_gateway.web import logout
from jt709c_gateway.web.access import AccessControl
from jt709c_gateway.web.http import ApiError, ApiRequest, ClientGone, Response
from jt709c_gateway.web.redis_client import numbers_away
from jt709c_gateway.web.roles import User
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
    """The Content-Security-Policy: own scripts only, nothing from other hosts but map tiles.

    `tiles` is the source expression (CSP 3 §2.3.1) of the tiles.
    """
    images = "img-src 'self' data:" + (f" {tiles}" if tiles else "")
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; font-src 'self'; "
        f"manifest-src 'self'; {images}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class App(Resource):
    """Serves page and API. `local()` returns whether only this host can reach the server."""

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        access: AccessControl,
        routes: Routes,
        assets: Mapping[str, Asset],
        tiles: str | None,
        local: Callable[[], bool],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._access = access
        self._routes = routes
        self._assets = assets
        self._policy = content_policy(tiles).encode()
        self._local = local

    def render(self, request: Any) -> int:
        """Handle a request of any method."""
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
        is_api = path == BASE or path.startswith(f"{BASE}/")
        try:
            if path in (logout.LOGOUT, logout.GOODBYE):
                self._access.check_logout(request, self._local())
                await logout.answer(path, request.getHeader(b"authorization")).send(request, gone)
                return
            user = await self._access.admit(request, self._local())
            if gone.yes:
                return
            if not is_api:
                await self._file(request, path).send(request, gone)
                return
            answer = await self._handle(request, path, user, gone)
        except ApiError as error:
            answer = error.response() if is_api else _as_text(error)
        except txredisapi.ConnectionError as error:
            answer = _away(error).response()
        except txredisapi.ResponseError as error:
            self.log.error("Redis refused a request of the API: {reason}", reason=str(error))
            answer = ApiError(
                502, f"Redis refused the request: {str(error).partition(chr(10))[0][:200]}"
            ).response()
        if answer is not None and not gone.yes:
            await answer.send(request, gone)

    async def _handle(self, request: Any, path: str, user: User | None, gone: ClientGone) -> Response | None:
        route, arguments = self._routes.find(request.method.decode("ascii", "replace"), path)
        self._access.check_right(user, route.right)
        asked = ApiRequest(request, user, arguments, gone)
        asked.reject_unknown_params(route.query_names)
        return await route.handler(asked)

    def _file(self, request: Any, path: str) -> Asset:
        asset = self._assets.get(path)
        if asset is None:
            raise ApiError(404, "not found")
        if request.method not in (b"GET", b"HEAD"):
            raise ApiError(405, "expected GET", headers={"allow": "GET"})
        return asset

    def _failed(self, failure: Any, request: Any, gone: ClientGone) -> None:
        self.log.failure("a request for {path} failed", failure, path=request.path.decode("ascii", "replace"))
        if not gone.yes and not request.startedWriting:
            request.setResponseCode(500)
            request.write(b'{"error":{"field":null,"message":"internal error: see the log of the gateway"}}')
            request.finish()


def _away(error: txredisapi.ConnectionError) -> ApiError:
    retry = {"retry-after": "5"}
    away = numbers_away(error)
    which = f"partition{'s' if len(away) > 1 else ''} {', '.join(map(str, away))} of " if away else ""
    message = f"{which}Redis {'are' if len(away) > 1 else 'is'} away: try again later"
    return ApiError(503, message, headers=retry, partitions_away=away)


def _as_text(error: ApiError) -> Response:
    return evolve(
        error.response(), body=f"{error.message}\n".encode(), content_type="text/plain; charset=utf-8"
    )
