"""Serves and writes the named areas that the conditions of commands name."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from attrs import define
from msgspec import UNSET, UnsetType
from twisted.logger import Logger

from jt709c_gateway.commands.areas import AREA_NAME, MAX_AREAS, InvalidArea, area_fields, read_area
from jt709c_gateway.redis.areas import Areas, AreaUnusable
from jt709c_gateway.web.api.command_requests import REQUESTED_WITH_HEADER, check_same_site
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from jt709c_gateway.web.query import Parameter
from jt709c_gateway.web.router import Result, Route


def _name(text: str) -> str:
    if not AREA_NAME.fullmatch(text):
        raise ValueError("expected 1 to 64 letters, digits, '-', '_' or '.'")
    return text


_NAME: Final = Parameter(
    "name",
    _name,
    "The name of an area.",
    {"type": "string", "pattern": f"^{AREA_NAME.pattern}$"},
    place="path",
    required=True,
)


class CircleFields(msgspec.Struct):
    """A circle: its `center` in degrees, latitude and longitude, and its radius in metres."""

    center: tuple[float, float]
    radius_m: float


class AreaFields(msgspec.Struct):
    """An area: either a circle, or a polygon whose corners are latitude and longitude in degrees."""

    circle: CircleFields | UnsetType = UNSET
    polygon: list[tuple[float, float]] | UnsetType = UNSET


class AreaAnswer(msgspec.Struct):
    """A named area; without `area`, its definition in Redis is broken."""

    name: str
    area: dict[str, Any] | UnsetType = UNSET


class AreaList(msgspec.Struct):
    """The names of all areas."""

    areas: list[str]


@define(eq=False)
class AreasApi:
    """Handlers that read and write areas, which each partition has."""

    log = Logger()

    web: PartitionedWebRedis

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        one, from_page = {200: Result(AreaAnswer)}, REQUESTED_WITH_HEADER
        return [
            Route("GET", "/areas", self.list, {200: Result(AreaList)}),
            Route("GET", "/areas/{name}", self.show, one, (_NAME,)),
            Route(
                "PUT", "/areas/{name}", self.define, one, (_NAME, from_page), body=AreaFields, creates=True
            ),
            Route("DELETE", "/areas/{name}", self.remove, one, (_NAME, from_page)),
        ]

    async def list(self, request: ApiRequest) -> Response:
        """GET /areas: the names of all areas that commands may name in `only_within`."""
        return json_response(AreaList(await self._all[0].names()))

    async def show(self, request: ApiRequest) -> Response:
        """GET /areas/{name}: one area, a circle or a polygon."""
        name = request.path_param(_NAME)
        areas = self._all[0]
        if name not in await areas.names():
            raise ApiError(404, f"no area {name} is defined: expected one that GET /areas lists")
        try:
            return json_response(AreaAnswer(name, area_fields(await areas.read(name))))
        except AreaUnusable:
            return json_response(AreaAnswer(name))

    async def define(self, request: ApiRequest) -> Response:
        """PUT /areas/{name}: define an area, in place of one that has this name.

        As an admin. It counts at once, also for commands that wait. All partitions must be
        there; when one goes away meanwhile, send the same again.
        """
        user, name = self._admit(request), request.path_param(_NAME)
        try:
            area = read_area(request.json_object())
        except InvalidArea as error:
            raise ApiError(400, str(error), error.field.partition(".")[0] or None) from None
        for one in self._all:
            if not await one.has_room({name}):
                raise ApiError(400, f"there are {MAX_AREAS} areas: expected one that is there already")
        for one in self._all:
            await one.write(name, area)
        self.log.info("area {name} defined by web:{user}", name=name, user=user)
        return json_response(AreaAnswer(name, area_fields(area)))

    async def remove(self, request: ApiRequest) -> Response:
        """DELETE /areas/{name}: remove an area.

        As an admin. Commands that wait for it end as `rejected`.
        """
        user, name = self._admit(request), request.path_param(_NAME)
        for one in self._all:
            await one.names()
        found = [await one.remove(name) for one in self._all]
        if not any(found):
            raise ApiError(404, f"no area {name} is defined: expected one that GET /areas lists")
        self.log.info("area {name} removed by web:{user}", name=name, user=user)
        return json_response(AreaAnswer(name))

    @property
    def _all(self) -> Sequence[Areas]:
        return [Areas(one.redis, one.keys) for one in self.web.partitions]

    def _admit(self, request: ApiRequest) -> str:
        """Return the name of the user; raise :class:`ApiError` for a request from another site."""
        check_same_site(request.twisted_request)
        # Without a user these routes are refused.
        assert request.user is not None
        return request.user.name
