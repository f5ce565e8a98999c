"""What the API tells about locks and events."""

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
from jt709c_gateway.web.stream_scan import Wanted, scan

MAX_ENTRIES: Final = 1000
_DEFAULT_ENTRIES: Final = 100
MAX_POINTS: Final = 10_000
_DEFAULT_POINTS: Final = 1000

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Point = tuple[Moment, float, float, float | None, float | None]
"""An element of a track (docs/redis.rst)."""


@define(eq=False)
class DevicesApi:
    """Handlers that read devices and their events. `wall()` is the time in epoch seconds.

    `track_max` is how many positions of a lock are kept.
    """

    redis: WebRedis = field(repr=False)
    fleet: DeviceTable
    shared: SharedResponse
    wall: Any
    track_max: int

    @property
    def _keys(self) -> Keys:
        return self.redis.keys

    async def devices(self, call: ApiRequest) -> Response:
        """GET /devices: the fleet, newest seen first; the same for all who ask within a second."""
        call.only("limit", "cursor", "seen_since")
        limit: int = call.one("limit", read.limit(MAX_DEVICES), MAX_DEVICES)
        after: read.Ranked | None = call.one("cursor", read.ranked)
        since: float | None = call.one("seen_since", read.moment)

        async def make() -> Response:
            return Response(await self.fleet.read(limit, after, since, self.wall()))

        return await self.shared.get(("devices", limit, after, since), make)

    async def device(self, call: ApiRequest) -> Response:
        """GET /devices/{id}: what is known of one lock."""
        call.only()
        name = call.argument("id", read.device)
        device = await self.fleet.resolve(name)
        found = await self.fleet.one(device)
        if found is None:
            raise unknown_device()
        summary, location = found
        peripherals = await self.fleet.peripherals(device)
        return json_response({"device": summary, "location": location, "peripherals": peripherals})

    async def history(self, call: ApiRequest) -> Response:
        """GET /devices/{id}/history: its audit trail."""
        call.only("kind", "since", "until", "limit", "cursor")
        device = await self._known(call)
        found = await scan(self.redis, self._keys.history(device), _wanted(call))
        return json_response(found)

    async def track(self, call: ApiRequest) -> Response:
        """GET /devices/{id}/track: where it was, oldest first."""
        call.only("since", "until", "limit")
        since: float | None = call.one("since", read.moment)
        until: float | None = call.one("until", read.moment)
        limit: int = call.one("limit", read.limit(MAX_POINTS), _DEFAULT_POINTS)
        device = await self._known(call)
        raw: list[bytes] = await self.redis.call("LRANGE", self._keys.track(device), -MAX_POINTS, -1)
        points = [
            point
            for point in map(_point, raw)
            if point is not None
            and (since is None or point[0].timestamp() >= since)
            and (until is None or point[0].timestamp() <= until)
        ]
        # A lock that empties its memory tells of what was before.
        points.sort(key=lambda point: point[0])
        return json_response({"points": [_shown(one) for one in points[-limit:]], "capacity": self.track_max})

    async def events(self, call: ApiRequest) -> Response:
        """GET /events: the durable stream backwards; each answer reads a bounded piece of it."""
        call.only("device", "kind", "since", "limit", "cursor")
        name: str | None = call.one("device", read.device)
        device = None if name is None else await self.fleet.resolve(name)
        return json_response(await scan(self.redis, self._keys.events, _wanted(call, device)))

    async def _known(self, call: ApiRequest) -> str:
        """The device in the path; one that is only in a history, since it has never been heard, counts."""
        name = call.argument("id", read.device)
        device = await self.fleet.resolve(name)
        if not await self.redis.call("EXISTS", self._keys.device(device), self._keys.history(device)):
            raise unknown_device()
        return device


def unknown_device() -> ApiError:
    """Nothing is known of a device."""
    return ApiError(404, "id: nothing is known of such a device; expected a device id or an IMEI", "id")


def _wanted(call: ApiRequest, device: str | None = None) -> Wanted:
    return Wanted(
        call.one("limit", read.limit(MAX_ENTRIES), _DEFAULT_ENTRIES),
        frozenset(call.many("kind", read.kind)),
        device,
        call.one("since", read.moment),
        call.one("until", read.moment),
        call.one("cursor", read.entry),
    )


#: Times that can be written in UTC, whatever their offset.
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)
_points: "Final[msgspec.json.Decoder[Point]]" = msgspec.json.Decoder(Point)


def _point(raw: bytes) -> Point | None:
    try:
        point = _points.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return point if _EARLIEST <= point[0] < _LATEST else None


def _shown(point: Point) -> dict[str, Any]:
    time, latitude, longitude, speed, course = point
    return {
        "time": iso(time.timestamp()),
        "latitude": latitude,
        "longitude": longitude,
        "speed_kmh": speed,
        "course_deg": course,
    }
