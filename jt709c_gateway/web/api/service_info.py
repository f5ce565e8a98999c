"""Serves what the page has to know beforehand, and the description of the API."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final

import msgspec
from attrs import define, field
from msgspec import Meta

from jt709c_gateway import __version__
from jt709c_gateway.util.timestamps import Timestamp, iso
from jt709c_gateway.web.http import ApiRequest, Response, json_response
from jt709c_gateway.web.openapi import document
from jt709c_gateway.web.roles import Right, Role, refusal
from jt709c_gateway.web.router import Result, Route
from jt709c_gateway.web.settings import WebSettings

_MAX_ZOOM: Final = 19


class MapTiles(msgspec.Struct):
    """Where map tiles come from."""

    url: Annotated[
        str | None,
        Meta(description="A template with {z}, {x}, {y} and perhaps {s}; null: a map without tiles."),
    ]
    attribution: str
    max_zoom: int


class Config(msgspec.Struct):
    """The gateway and the user.

    `commands`: whether this user may give commands, `labels`: whether he may name locks.
    """

    gateway: str
    version: str
    prefix: Annotated[str, Meta(description="The prefix of keys and channels in Redis.")]
    tiles: MapTiles
    commands: bool
    labels: bool
    user: str | None
    server_time: Timestamp


class Me(msgspec.Struct):
    """Who asks, and what the user may do.

    `commands` are the names of the commands that the user may give, `groups` the groups of the locks that
    they may be for; None: all. Without --web-commands or users everybody is a viewer.
    """

    name: Annotated[str | None, Meta(description="null: there are no users here.")]
    role: Role
    commands: list[str] | None
    groups: list[str] | None


@define(eq=False)
class ServiceInfoApi:
    """The handlers of /config, /me and /openapi.json. `now()` returns the time in epoch seconds.

    `api_routes()` returns all routes of the API.
    """

    settings: WebSettings
    now: Callable[[], float]
    api_routes: Callable[[], Sequence[Route]] = field(repr=False)
    _document: Response | None = field(default=None, init=False, repr=False)

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        return [
            Route("GET", "/openapi.json", self.openapi, {200: Result(dict)}),
            Route("GET", "/config", self.config, {200: Result(Config)}),
            Route("GET", "/me", self.me, {200: Result(Me)}),
        ]

    async def openapi(self, request: ApiRequest) -> Response:
        """GET /openapi.json: this description."""
        if self._document is None:
            self._document = json_response(document(self.api_routes()))
        return self._document

    async def config(self, request: ApiRequest) -> Response:
        """GET /config: what the page has to know beforehand."""
        settings, tiles = self.settings, self.settings.web_tiles
        return json_response(
            Config(
                gateway=settings.gateway,
                version=__version__,
                prefix=settings.prefix,
                tiles=MapTiles(
                    None if tiles is None else tiles.url, settings.web_tiles_attribution, _MAX_ZOOM
                ),
                commands=refusal(request.user, Right.COMMAND, settings.web_commands) is None,
                labels=refusal(request.user, Right.ADMIN, settings.web_commands) is None,
                user=None if request.user is None else request.user.name,
                server_time=iso(self.now()),
            )
        )

    async def me(self, request: ApiRequest) -> Response:
        """GET /me: the user who asks, the role, and its limits.

        A role changes with the file of users; then the live events of its user end.
        """
        user = request.user
        if user is None:
            return json_response(Me(None, Role.VIEWER, [], []))
        if refusal(user, Right.COMMAND, self.settings.web_commands) is not None:
            return json_response(Me(user.name, Role.VIEWER, [], []))
        return json_response(
            Me(user.name, user.role, sorted(user.commands) or None, sorted(user.groups) or None)
        )
