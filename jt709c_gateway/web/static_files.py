"""Serves the files of the page, and those of the map library from its package."""

from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final

from attrs import frozen

from jt709c_gateway.web.http import ClientGone, Response

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "json": "application/json",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
#: The files served from the package of Leaflet, besides its pictures.
_LEAFLET: Final = ("leaflet.js", "leaflet.css")


@frozen
class Asset:
    """A file with its entity tag."""

    answer: Response
    etag: bytes

    async def send(self, request: Any, gone: ClientGone) -> None:
        """Send the file, or 304 if the client has this version (RFC 9110 §13.1.2)."""
        request.setHeader(b"etag", self.etag)
        # Cached but always revalidated: a new version of the gateway takes effect at once.
        request.setHeader(b"cache-control", b"no-cache")
        known = request.getHeader(b"if-none-match") or b""
        if self.etag in [one.strip().removeprefix(b"W/") for one in known.split(b",")]:
            request.setResponseCode(304)
            request.finish()
        else:
            await self.answer.send(request, gone)


def load() -> dict[str, Asset]:
    """Load all files, by URL path; `/` is the page."""
    found: dict[str, Asset] = {}
    _add(found, "/static/", files(__package__).joinpath("static"))
    leaflet = files("xstatic.pkg.leaflet").joinpath("data")
    for name in _LEAFLET:
        found[f"/static/leaflet/{name}"] = _asset(leaflet.joinpath(name))
    _add(found, "/static/leaflet/images/", leaflet.joinpath("images"))
    if "/static/index.html" in found:
        found["/"] = found["/static/index.html"]
    return found


def _add(found: dict[str, Asset], path: str, folder: Traversable) -> None:
    for item in folder.iterdir() if folder.is_dir() else ():
        if item.is_dir():
            _add(found, f"{path}{item.name}/", item)
        elif item.name.rpartition(".")[2] in _TYPES:
            found[f"{path}{item.name}"] = _asset(item)


def _asset(item: Traversable) -> Asset:
    body = item.read_bytes()
    etag = b'"%b"' % sha256(body).hexdigest()[:32].encode()
    return Asset(Response(body, content_type=_TYPES[item.name.rpartition(".")[2]]), etag)
