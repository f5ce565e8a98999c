"""Serves devices, tracks and events."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from attrs import define, field

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.util.timestamps import iso
from jt709c_gateway.web import query as read
from jt709c_gateway.web.device_table import MAX_DEVICES, DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, SharedResponse, json_response
from jt709c_gateway.web.redis_client import WebRedis
from jt709c_gateway.web.stream_scan import ScanQuery, scan

MAX_ENTRIES: Final = 1000
_DEFAULT_ENTRIES: Final = 100
MAX_POINTS: Final = 10_000
_DEFAULT_POINTS: Final = 1000

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Point = tuple[Moment, float, float, float | None, float | None]
"""An element of a track (docs/redis.rst)."""


@define(eq=False)
class DevicesApi:
    """Handlers that read devices and their events. `wall()` returns the time in epoch seconds.

    `track_max` is the number of positions kept per lock.
    """

    redis: WebRedis = field(repr=False)
    fleet: DeviceTable
    shared: SharedResponse
    wall: Any
    track_max: int

    @property
    def _keys(self) -> Keys:
        return self.redis.keys

    async def devices(self, request: ApiRequest) -> Response:
        """GET /devices: the fleet, last seen first; requests within a second share a response."""
        request.reject_unknown_params("limit", "cursor", "seen_since")
        limit: int = request.param("limit", read.limit(MAX_DEVICES), MAX_DEVICES)
        after: read.Ranked | None = request.param("cursor", read.ranked)
        since: float | None = request.param("seen_since", read.moment)

        async def make() -> Response:
            return Response(await self.fleet.read(limit, after, since, self.wall()))

        return await self.shared.get(("devices", limit, after, since), make)

    async def device(self, request: ApiRequest) -> Response:
        """GET /devices/{id}: the state of one lock."""
        request.reject_unknown_params()
        name = request.path_param("id", read.device)
        device = await self.fleet.resolve(name)
        found = await self.fleet.one(device)
        if found is None:
            raise unknown_device()
        summary, location = found
        peripherals = await self.fleet.peripherals(device)
        return json_response({"device": summary, "location": location, "peripherals": peripherals})

    async def history(self, request: ApiRequest) -> Response:
        """GET /devices/{id}/history: the audit trail of a lock."""
        request.reject_unknown_params("kind", "since", "until", "limit", "cursor")
        device = await self._known_device(request)
        found = await scan(self.redis, self._keys.history(device), _scan_query(request))
        return json_response(found)

    async def track(self, request: ApiRequest) -> Response:
        """GET /devices/{id}/track: the positions of a lock, oldest first."""
        request.reject_unknown_params("since", "until", "limit")
        since: float | None = request.param("since", read.moment)
        until: float | None = request.param("until", read.moment)
        limit: int = request.param("limit", read.limit(MAX_POINTS), _DEFAULT_POINTS)
        device = await self._known_device(request)
        raw: list[bytes] = await self.redis.call("LRANGE", self._keys.track(device), -MAX_POINTS, -1)
        points = [
            point
            for point in map(_point, raw)
            if point is not None
            and (since is None or point[0].timestamp() >= since)
            and (until is None or point[0].timestamp() <= until)
        ]
        # Buffered reports arrive after newer ones.
        points.sort(key=lambda point: point[0])
        return json_response(
            {"points": [_point_json(one) for one in points[-limit:]], "capacity": self.track_max}
        )

    async def events(self, request: ApiRequest) -> Response:
        """GET /events: the durable stream, newest first; each response reads a bounded part."""
        request.reject_unknown_params("device", "kind", "since", "limit", "cursor")
        name: str | None = request.param("device", read.device)
        device = None if name is None else await self.fleet.resolve(name)
        return json_response(await scan(self.redis, self._keys.events, _scan_query(request, device)))

    async def _known_device(self, request: ApiRequest) -> str:
        """Resolve the device in the path; a device that never reported but has a history counts."""
        name = request.path_param("id", read.device)
        device = await self.fleet.resolve(name)
        if not await self.redis.call("EXISTS", self._keys.device(device), self._keys.history(device)):
            raise unknown_device()
        return device


def unknown_device() -> ApiError:
    """An error 404 about an unknown device."""
    return ApiError(404, "id: nothing is known of such a device; expected a device id or an IMEI", "id")


def _scan_query(request: ApiRequest, device: str | None = None) -> ScanQuery:
    return ScanQuery(
        request.param("limit", read.limit(MAX_ENTRIES), _DEFAULT_ENTRIES),
        frozenset(request.params("kind", read.kind)),
        device,
        request.param("since", read.moment),
        request.param("until", read.moment),
        request.param("cursor", read.entry),
    )


#: The range of times that can be converted to UTC with any offset.
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
_points: "Final[msgspec.json.Decoder[Point]]" = msgspec.json.Decoder(Point)


def _point(raw: bytes) -> Point | None:
    try:
        point = _points.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return point if _EARLIEST <= point[0] < _LATEST else None


def _point_json(point: Point) -> dict[str, Any]:
    time, latitude, longitude, speed, course = point
    return {
        "time": iso(time.timestamp()),
        "latitude": latitude,
        "longitude": longitude,
        "speed_kmh": speed,
        "course_deg": course,
    }
