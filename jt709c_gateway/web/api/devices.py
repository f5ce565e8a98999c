"""Serves devices, tracks and events."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from attrs import define

from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.redis.label_search import LabelSearch
from jt709c_gateway.redis.labels import Labels
from jt709c_gateway.reports.track_export import TrackPosition, geojson, gpx
from jt709c_gateway.util.timestamps import Timestamp, iso
from jt709c_gateway.web import query as read
from jt709c_gateway.web.device_rows import PeripheralSummary
from jt709c_gateway.web.device_table import MAX_DEVICES, DevicePage, DeviceTable
from jt709c_gateway.web.event_types import LOCATION_DATA
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, SharedResponse, json_response
from jt709c_gateway.web.pagination import Scan, ScanQuery, scan
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from jt709c_gateway.web.router import Result, Route

MAX_ENTRIES: Final = 1000
MAX_POINTS: Final = 10_000

_DEVICES: Final = read.limit_parameter(MAX_DEVICES, MAX_DEVICES)
_ENTRIES: Final = read.limit_parameter(MAX_ENTRIES, 100)
_POINTS: Final = read.limit_parameter(MAX_POINTS, 1000)

_JSON: Final = "json"
#: The media types of the files of a track, by their format.
_MEDIA: Final = {"gpx": "application/gpx+xml", "geojson": "application/geo+json"}
_FORMAT: Final = read.Parameter(
    "format",
    read.one_of(_JSON, *_MEDIA),
    "JSON, or a file for maps.",
    {"enum": [_JSON, *_MEDIA], "default": _JSON},
    _JSON,
)

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Point = tuple[Moment, float, float, float | None, float | None]
"""An element of a track (docs/redis.rst)."""


class DeviceAnswer(msgspec.Struct):
    """A lock, the `data` of its last live `location` event, and the sub-locks and sensors behind it."""

    device: DeviceSummary
    location: Annotated[dict[str, Any] | None, msgspec.Meta(extra_json_schema=LOCATION_DATA)]
    peripherals: list[PeripheralSummary]


class TrackPoint(msgspec.Struct):
    """A position of a lock. Degrees, km/h."""

    time: Timestamp
    latitude: float
    longitude: float
    speed_kmh: float | None
    course_deg: float | None


class Track(msgspec.Struct):
    """Positions of a lock, oldest first; `capacity` is the number that is kept."""

    points: list[TrackPoint]
    capacity: int


@define(eq=False)
class DevicesApi:
    """Handlers that read devices and their events. `wall()` returns the time in epoch seconds.

    `track_max` is the number of positions kept per lock.
    """

    web: PartitionedWebRedis
    fleet: DeviceTable
    shared: SharedResponse
    wall: Any
    track_max: int

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        entries = {200: Result(Scan)}
        device = read.DEVICE_IN_PATH
        past = (device, read.KIND, read.SINCE, read.UNTIL, _ENTRIES, read.ENTRY)
        events = (read.DEVICE, read.KIND, read.SINCE, _ENTRIES, read.ENTRY)
        return [
            Route(
                "GET",
                "/devices",
                self.devices,
                {200: Result(DevicePage)},
                (_DEVICES, read.RANKED, read.SEEN_SINCE, read.GROUP, read.TEXT),
            ),
            Route("GET", "/devices/{id}", self.device, {200: Result(DeviceAnswer)}, (device,)),
            Route("GET", "/devices/{id}/history", self.history, entries, past),
            Route(
                "GET",
                "/devices/{id}/track",
                self.track,
                {200: Result(Track, others=list(_MEDIA.values()))},
                (device, read.SINCE, read.UNTIL, _POINTS, _FORMAT),
            ),
            Route("GET", "/events", self.events, entries, events),
        ]

    async def devices(self, request: ApiRequest) -> Response:
        """GET /devices: the fleet, last seen first.

        The answer may be a second old. A lock that reports while its page is turned moves to the front. With
        `group` those of a group, with `text` those in whose names or ids it is found.
        """
        limit: int = request.param(_DEVICES)
        after: read.Ranked | None = request.param(read.RANKED)
        since: float | None = request.param(read.SEEN_SINCE)
        wanted = LabelSearch(request.params(read.GROUP), request.params(read.TEXT))

        async def make() -> Response:
            return Response(await self.fleet.read(limit, after, since, self.wall(), wanted))

        return await self.shared.get(("devices", limit, after, since, wanted), make)

    async def device(self, request: ApiRequest) -> Response:
        """GET /devices/{id}: the state of one lock."""
        name = request.path_param(read.DEVICE_IN_PATH)
        device = await self.fleet.resolve(name)
        found = await self.fleet.one(device)
        if found is None:
            raise unknown_device()
        summary, location = found
        peripherals = await self.fleet.peripherals(device)
        return json_response(DeviceAnswer(summary, location, peripherals))

    async def history(self, request: ApiRequest) -> Response:
        """GET /devices/{id}/history: the audit trail of a lock, newest first.

        Its `lock`, `alarm` and `command` events.
        """
        device = await self._known_device(request)
        query = _scan_query(request, until=request.param(read.UNTIL))
        return json_response(await scan([self.web.of(device)], lambda keys: keys.history(device), query))

    async def track(self, request: ApiRequest) -> Response:
        """GET /devices/{id}/track: the positions of a lock, oldest first.

        The newest `limit` of the positions that are kept. As GPX 1.1 or GeoJSON it is a file, in which
        a new segment begins where no position is known for half an hour.
        """
        since: float | None = request.param(read.SINCE)
        until: float | None = request.param(read.UNTIL)
        limit: int = request.param(_POINTS)
        device = await self._known_device(request)
        partition = self.web.of(device)
        key = partition.keys.track(device)
        raw: list[bytes] = await partition.redis.call("LRANGE", key, -MAX_POINTS, -1)
        points = [
            point
            for point in map(_point, raw)
            if point is not None
            and (since is None or point[0].timestamp() >= since)
            and (until is None or point[0].timestamp() <= until)
        ]
        # Buffered reports arrive after newer ones.
        points.sort(key=lambda point: point[0])
        kept = [TrackPosition(iso(point[0].timestamp()), *point[1:]) for point in points[-limit:]]
        form: str = request.param(_FORMAT)
        if form == _JSON:
            return json_response(Track([TrackPoint(*one) for one in kept], self.track_max))
        [label] = await Labels(partition.redis, partition.keys).read([device])
        name = str((label and label.name) or device)
        made = gpx(name, kept) if form == "gpx" else geojson(device, name, kept)
        saved = {"content-disposition": f'attachment; filename="track-{device}.{form}"'}
        return Response(made, content_type=_MEDIA[form], headers=saved)

    async def events(self, request: ApiRequest) -> Response:
        """GET /events: the events of all locks, newest first.

        They come from the stream in Redis. One answer reads a bounded number of entries; `next` continues.
        """
        name: str | None = request.param(read.DEVICE)
        device = None if name is None else await self.fleet.resolve(name)
        partitions = self.web.partitions if device is None else [self.web.of(device)]
        query = _scan_query(request, device=device)
        return json_response(
            await scan(partitions, lambda keys: keys.events, query, numbered=self.web.several)
        )

    async def _known_device(self, request: ApiRequest) -> str:
        """Resolve the device in the path; a device that never reported but has a history counts."""
        device = await self.fleet.resolve(request.path_param(read.DEVICE_IN_PATH))
        partition = self.web.of(device)
        keys = partition.keys
        if not await partition.redis.call("EXISTS", keys.device(device), keys.history(device)):
            raise unknown_device()
        return device


def unknown_device(name: str = "id") -> ApiError:
    """An error 404 about an unknown device; `name` is that of the parameter."""
    text = f"{name}: nothing is known of such a device; expected a device id or an IMEI"
    return ApiError(404, text, name)


def _scan_query(request: ApiRequest, device: str | None = None, until: float | None = None) -> ScanQuery:
    return ScanQuery(
        request.param(_ENTRIES),
        frozenset(request.params(read.KIND)),
        device,
        request.param(read.SINCE),
        until,
        request.param(read.ENTRY),
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
