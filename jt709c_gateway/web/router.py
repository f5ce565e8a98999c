"""Finds the handler for a method and a path."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote

from attrs import field, frozen

from jt709c_gateway.web.http import ApiError, Handler
from jt709c_gateway.web.query import Parameter
from jt709c_gateway.web.roles import Right

BASE: Final = "/api/v1"


@frozen
class Result:
    """An answer to a request that succeeded: JSON of a type, or an endless stream of events (None).

    `others` are the media types of other forms of the same answer.
    """

    type: Any
    description: str = "Success."
    headers: Sequence[str] = ()
    others: Sequence[str] = ()


@frozen
class Route:
    """A method and a path below `BASE`; parts in braces are parameters: `/devices/{id}`.

    `results` are the answers by status, `body` is the type of the request's body. `errors` are the statuses
    beyond those that every route may answer with; one that `creates` what its path names has no 404. `right`
    is what a user needs for it: without a word, an admin's for everything but GET. The docstring of the
    handler describes the route in `openapi.json`: its first line the summary, the others the description.
    """

    method: str
    path: str
    handler: Handler
    results: Mapping[int, Result]
    parameters: Sequence[Parameter[Any]] = ()
    body: Any = None
    errors: Sequence[int] = ()
    creates: bool = False
    right: Right = field()

    @right.default
    def _right_of_method(self) -> Right:
        return Right.READ if self.method == "GET" else Right.ADMIN

    @property
    def query_names(self) -> Sequence[str]:
        """The names of its parameters in the query."""
        return [one.name for one in self.parameters if one.place == "query"]

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

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the route and the path parameters; raise :class:`ApiError` 404 or 405 without a match."""
        parts = [unquote(part) for part in path[len(BASE) + 1 :].split("/")]
        allowed = set()
        for route in self.routes:
            arguments = route.match(parts)
            if arguments is not None:
                # HEAD is served as GET; Twisted omits the body.
                if method in (route.method, "HEAD" if route.method == "GET" else ""):
                    return route, arguments
                allowed.add(route.method)
        if allowed:
            right = ", ".join(sorted(allowed))
            raise ApiError(405, f"{method}: expected {right}", headers={"allow": right})
        raise ApiError(404, f"there is nothing here; {BASE}/openapi.json says what there is")
