"""From a method and a path to the handler of a call."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from attrs import frozen

from jt709c_gateway.web.http import ApiError, Handler

BASE: Final = "/api/v1"


@frozen
class Route:
    """A method and a path below `BASE`, whose parts in braces are arguments: `/devices/{id}`."""

    method: str
    path: str
    handler: Handler

    def match(self, parts: Sequence[str]) -> dict[str, str] | None:
        """The arguments in a path, cut at its slashes; None when it is another."""
        own = self.path[1:].split("/")
        if len(own) != len(parts):
            return None
        found = {}
        for name, part in zip(own, parts, strict=True):
            if name.startswith("{"):
                found[name[1:-1]] = part
            elif name != part:
                return None
        return found


@frozen
class Routes:
    """All that the API knows; what stands first counts."""

    routes: Sequence[Route]

    def find(self, method: str, path: str) -> tuple[Handler, Mapping[str, str]]:
        """The handler, and the arguments in the path; :class:`ApiError` 404 or 405 when there is none."""
        parts = [unquote(part) for part in path[len(BASE) + 1 :].split("/")]
        allowed = set()
        for route in self.routes:
            arguments = route.match(parts)
            if arguments is not None:
                # HEAD is GET, of which the server leaves the body out.
                if method in (route.method, "HEAD" if route.method == "GET" else ""):
                    return route.handler, arguments
                allowed.add(route.method)
        if allowed:
            right = ", ".join(sorted(allowed))
            raise ApiError(405, f"{method}: expected {right}", headers={"allow": right})
        raise ApiError(404, f"there is nothing here; {BASE}/openapi.json says what there is")
