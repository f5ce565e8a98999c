"""Writes the track of a lock as GPX 1.1 or GeoJSON (RFC 7946)."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple
from xml.sax.saxutils import escape

import msgspec

from jt709c_gateway.util.timestamps import from_iso

#: Seconds between two positions from which a new segment begins.
SEGMENT_GAP: Final = 1800.0
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class TrackPosition(NamedTuple):
    """A position: RFC 3339 in UTC, degrees, km/h, degrees from north."""

    time: str
    latitude: float
    longitude: float
    speed_kmh: float | None
    course_deg: float | None


def _is_place(point: TrackPosition) -> bool:
    """Whether it is on Earth; 0,0 is what a receiver without a fix says."""
    if point.latitude == 0 and point.longitude == 0:
        return False
    return -90 <= point.latitude <= 90 and -180 <= point.longitude <= 180


def segments(points: Sequence[TrackPosition]) -> list[list[TrackPosition]]:
    """Split a track, oldest position first, where no position is known for half an hour."""
    found: list[list[TrackPosition]] = []
    last: float | None = None
    for point in filter(_is_place, points):
        at = from_iso(point.time)
        if last is None or at - last >= SEGMENT_GAP:
            found.append([])
        found[-1].append(point)
        last = at
    return found


def gpx(name: str, points: Sequence[TrackPosition]) -> bytes:
    """Write a track as GPX 1.1, one segment between gaps; `name` is that of the lock."""
    return "".join(_gpx(name, points)).encode()


def _gpx(name: str, points: Sequence[TrackPosition]) -> Iterator[str]:
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield '<gpx version="1.1" creator="jt709c-gateway" xmlns="http://www.topografix.com/GPX/1/1">\n'
    yield f"<trk><name>{escape(_NOT_XML.sub('', name))}</name>\n"
    for segment in segments(points):
        yield "<trkseg>\n"
        for one in segment:
            place = f'lat="{one.latitude:.7f}" lon="{one.longitude:.7f}"'
            yield f"<trkpt {place}><time>{one.time}</time></trkpt>\n"
        yield "</trkseg>\n"
    yield "</trk>\n</gpx>\n"


def geojson(device: str, name: str, points: Sequence[TrackPosition]) -> bytes:
    """Write a track as a feature collection: a line for each segment, and a point for each position."""
    features: list[dict[str, Any]] = []
    about = {"device": device, "name": name}
    for segment in segments(points):
        if len(segment) > 1:
            line = [[one.longitude, one.latitude] for one in segment]
            properties = {**about, "begin": segment[0].time, "end": segment[-1].time}
            features.append(_feature("LineString", line, properties))
        for one in segment:
            movement = {"time": one.time, "speed_kmh": one.speed_kmh, "course_deg": one.course_deg}
            features.append(_feature("Point", [one.longitude, one.latitude], {"device": device, **movement}))
    return msgspec.json.encode({"type": "FeatureCollection", "features": features})


def _feature(kind: str, coordinates: list[Any], properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}
