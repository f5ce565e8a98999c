"""Reads the positions of a lock."""

import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.cli.table import Column, known
from jt709c_gateway.cli.time_format import date_and_time, parse
from jt709c_gateway.reports.track_export import TrackPosition, geojson, gpx
from jt709c_gateway.util.timestamps import iso


class Point(msgspec.Struct):
    """A position: degrees, km/h, and degrees from north. `time` is by the lock's clock, in UTC."""

    time: str
    latitude: float
    longitude: float
    speed_kmh: float | None
    course_deg: float | None


_POINT: Final = msgspec.json.Decoder(tuple[str, float, float, float | None, float | None])


async def find_points(fleet: Fleet, name: str) -> list[Point]:
    """Read the positions of a lock, oldest first; raise UserError if it is unknown."""
    named = await resolve(fleet, name)
    part = await fleet.of(named.device)
    raw: Sequence[bytes] = await part.call("LRANGE", part.keys.track(named.device), 0, -1)
    if not raw and not await has_reported(part, named.device):
        raise UserError(f"{name}: such a device is unknown with the prefix {fleet.prefix}")
    points = []
    for entry in raw:
        try:
            points.append(Point(*_POINT.decode(entry)))
        except (msgspec.MsgspecError, RecursionError):
            notice("an entry of the track is not a position")
    # Reports from a lock's memory arrive after newer ones.
    return sorted(points, key=epoch)


def epoch(point: Point) -> float:
    """The time of a position in epoch seconds; 0 if it is unreadable."""
    moment = parse(point.time)
    return 0.0 if moment is None else moment.timestamp()


def print_file(device: str, points: Sequence[Point], form: str) -> None:
    """Print positions as GPX or GeoJSON."""
    positions = [
        TrackPosition(iso(epoch(one)), one.latitude, one.longitude, one.speed_kmh, one.course_deg)
        for one in points
        if parse(one.time) is not None
    ]
    made = gpx(device, positions) if form == "gpx" else geojson(device, device, positions)
    sys.stdout.buffer.write(made)
    sys.stdout.buffer.flush()


def track_columns(local: bool) -> list[Column]:
    """The columns of `jt709c track`."""
    return [
        Column("time", lambda point: known(date_and_time(parse(point.time), local))),
        Column("latitude", lambda point: known(f"{point.latitude:.6f}")),
        Column("longitude", lambda point: known(f"{point.longitude:.6f}")),
        Column("km/h", lambda point: known(point.speed_kmh)),
        Column("course", lambda point: known(point.course_deg)),
    ]
