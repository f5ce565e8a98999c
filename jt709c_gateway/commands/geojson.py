"""Reads areas from GeoJSON (RFC 7946): polygons, features and collections of these."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from jt709c_gateway.commands.areas import AREA_NAME, MAX_AREAS, NAME_EXPECTED, InvalidArea, read_polygon
from jt709c_gateway.commands.geometry import Polygon

MAX_BYTES: Final = 4 * 1024 * 1024
_EXPECTED: Final = "a GeoJSON Polygon, a Feature with one, or a FeatureCollection"


def read_geojson(raw: bytes, name: str | None = None) -> dict[str, Polygon]:
    """Return the polygons by name; raise :class:`InvalidArea` for a mistake in any of them.

    The name is ``name``, for a file with one polygon, or else the property ``name`` of each feature.
    """
    if len(raw) > MAX_BYTES:
        raise InvalidArea("", f"{len(raw)} bytes", f"at most {MAX_BYTES}")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidArea("", "not JSON", _EXPECTED) from None
    features = list(_features(value))
    if len(features) > MAX_AREAS:
        raise InvalidArea("features", f"has {len(features)}", f"at most {MAX_AREAS}")
    if name is not None and len(features) != 1:
        raise InvalidArea("", f"has {len(features)} polygons", "one, for a name that is given")
    found: dict[str, Polygon] = {}
    for place, (properties, geometry) in enumerate(features):
        called = properties.get("name") if name is None else name
        where = f"features[{place}]"
        if not isinstance(called, str) or not AREA_NAME.fullmatch(called):
            raise InvalidArea(f"{where}.properties.name", "missing or no name of an area", NAME_EXPECTED)
        if called in found:
            raise InvalidArea(f"{where}.properties.name", "is that of another feature", "each name once")
        found[called] = _polygon(geometry, where)
    return found


def _features(value: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "FeatureCollection" and isinstance(value.get("features"), list):
        for one in value["features"]:
            if not isinstance(one, dict) or one.get("type") != "Feature":
                raise InvalidArea("features", "has something else than a Feature", _EXPECTED)
            yield from _features(one)
    elif kind == "Feature":
        properties = value.get("properties")
        yield properties if isinstance(properties, dict) else {}, value.get("geometry")
    elif kind == "Polygon":
        yield {}, value
    else:
        raise InvalidArea("", "is none of these", _EXPECTED)


def _polygon(geometry: Any, where: str) -> Polygon:
    if not isinstance(geometry, dict) or geometry.get("type") != "Polygon":
        raise InvalidArea(where, "has no Polygon as its geometry", _EXPECTED)
    rings = geometry.get("coordinates")
    if not isinstance(rings, list) or len(rings) != 1 or not isinstance(rings[0], list):
        raise InvalidArea(where, "is no polygon of one ring", "one without holes")
    if not all(isinstance(corner, list) and len(corner) in (2, 3) for corner in rings[0]):
        raise InvalidArea(where, "has a corner of another form", "[longitude, latitude]")
    # GeoJSON has the longitude first, and perhaps an altitude behind both.
    return read_polygon([[corner[1], corner[0]] for corner in rings[0]], where)
