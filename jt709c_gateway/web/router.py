"""Finds the handler for a method and a path."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from attrs import frozen

from jt709c_gateway.web.http import ApiError, Handler

BASE: Final = "/api/v1"


@frozen
class Route:
    """A method and a path below `BASE`; parts in braces are parameters: `/devices/{id}`."""

    method: str
    path: str
    handler: Handler

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """The parameters in a path that is split at its slashes; None if the route does not match."""
        template = self.path[1:].split("/")
        if len(template) != len(parts):
            return None
        found = {}
        for name, part in zip(template, parts, strict=True):
            if name.startswith("{"):
                found[name[1:-1]] = part
            elif name != part:
                return None
        return found


@frozen
class Routes:
    """The routes of the API; the first match counts."""

    routes: Sequence[Route]

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """Return the handler and the path parameters; raise :class:`ApiError` 404 or 405 without a match."""
        parts = [unquote(part) for part in path[len(BASE) + 1 :].split("/")]
        allowed = set()
        for route in self.routes:
            arguments = route.match(parts)
            if arguments is not None:
                # HEAD is served as GET; Twisted omits the body.
                if method in (route.method, "HEAD" if route.method == "GET" else ""):
                    return route.handler, arguments
                allowed.add(route.method)
        if allowed:
            right = ", ".join(sorted(allowed))
            raise ApiError(405, f"{method}: expected {right}", headers={"allow": right})
        raise ApiError(404, f"there is nothing here; {BASE}/openapi.json says what there is")
