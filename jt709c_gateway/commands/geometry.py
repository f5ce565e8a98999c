"""Places on the earth, and how far a position is outside of an area: a circle or a polygon.

Positions are (latitude, longitude) in degrees, distances in metres on a sphere. An edge of a polygon is
straight in degrees, as on a map, and goes the shorter way round: also across the 180th meridian.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import asin, cos, isfinite, radians, sin, sqrt
from typing import Final

import attrs

EARTH_RADIUS: Final = 6_371_008.8
"""The mean radius of the earth in metres."""

MIN_RADIUS: Final = 1.0
MAX_RADIUS: Final = 1_000_000.0
MIN_VERTICES: Final = 3
MAX_VERTICES: Final = 200

Position = tuple[float, float]
"""Latitude and longitude in degrees."""


def is_position(latitude: float, longitude: float) -> bool:
    """Whether these are degrees of a place on earth."""
    return isfinite(latitude) and isfinite(longitude) and abs(latitude) <= 90 and abs(longitude) <= 180


def distance(one: Position, other: Position) -> float:
    """The length in metres of the great circle between two positions."""
    north, east = radians(other[0] - one[0]), radians(other[1] - one[1])
    flat = cos(radians(one[0])) * cos(radians(other[0]))
    return 2 * EARTH_RADIUS * asin(min(1.0, sqrt(sin(north / 2) ** 2 + flat * sin(east / 2) ** 2)))


def turn(degrees: float) -> float:
    """The same difference of longitude, from -180 up to 180 degrees."""
    return (degrees + 180.0) % 360.0 - 180.0


@attrs.frozen
class Circle:
    """All positions within ``radius_m`` metres of ``center``."""

    center: Position
    radius_m: float

    def meters_outside(self, position: Position) -> float:
        """How many metres ``position`` is outside of the circle; 0.0 inside and on its edge."""
        return max(0.0, distance(self.center, position) - self.radius_m)


@attrs.frozen
class Polygon:
    """The positions within a closed line through ``vertices``, without the first again at the end.

    Where the line crosses itself, what it goes round twice is outside.
    """

    vertices: tuple[Position, ...]

    def meters_outside(self, position: Position) -> float:
        """How many metres ``position`` is outside of the polygon; 0.0 inside and on its edge.

        The distance to the edge is right to about one percent up to 100 km, a little too large beyond that.
        """
        line = _seen_from(position, self.vertices)
        if _surrounds(line):
            return 0.0
        return min(distance(position, _nearest(position, one, other)) for one, other in pairwise(line))


Area = Circle | Polygon


def problem_with(vertices: Sequence[Position]) -> str | None:
    """Why the vertices make no polygon that can be checked; ``None`` if they do."""
    if not MIN_VERTICES <= len(vertices) <= MAX_VERTICES:
        return f"has {len(vertices)} corners"
    steps = [turn(after[1] - before[1]) for before, after in pairwise([*vertices, vertices[0]])]
    if abs(sum(steps)) > 1.0:
        return "goes round a pole"
    places = [0.0]
    for step in steps[:-1]:
        places.append(places[-1] + step)
    if max(places) - min(places) >= 180.0:
        return "is 180 degrees wide or more"
    east = [(latitude, place) for (latitude, _), place in zip(vertices, places, strict=True)]
    if all(_turns_not(east[0], one, other) for one, other in pairwise(east[1:])):
        return "has all corners on one line"
    return None


def _turns_not(start: Position, one: Position, other: Position) -> bool:
    cross = (one[0] - start[0]) * (other[1] - start[1]) - (one[1] - start[1]) * (other[0] - start[0])
    return abs(cross) < 1e-12


def _seen_from(position: Position, vertices: Sequence[Position]) -> list[Position]:
    """The closed line with ``position`` as origin: degrees to the north and to the east.

    The east of the first vertex is the shorter way from the position, and the others follow the line.
    """
    east = turn(vertices[0][1] - position[1])
    line, before = [], vertices[0][1]
    for latitude, longitude in vertices:
        east += turn(longitude - before)
        before = longitude
        line.append((latitude - position[0], east))
    # A wide polygon may begin beyond the far side of the earth.
    middle = (min(place for _, place in line) + max(place for _, place in line)) / 2
    shift = turn(middle) - middle
    line = [(north, place + shift) for north, place in line]
    return [*line, line[0]]


def _surrounds(line: Sequence[Position]) -> bool:
    """Whether a closed line goes round its origin: a ray to the east crosses it an odd number of times."""
    inside = False
    for (north, east), (north_after, east_after) in pairwise(line):
        if (north > 0.0) != (north_after > 0.0):
            crossing = east - north * (east_after - east) / (north_after - north)
            inside ^= crossing > 0.0
    return inside


def _nearest(position: Position, one: Position, other: Position) -> Position:
    """The position on an edge that is nearest to ``position``, where the edge is seen from it."""
    # One degree to the east is shorter than one to the north; the middle between both latitudes is best.
    nearer = one if abs(one[0]) < abs(other[0]) else other
    scale = cos(radians(max(-90.0, min(90.0, position[0] + nearer[0] / 2))))
    north, east = other[0] - one[0], (other[1] - one[1]) * scale
    length = north * north + east * east
    part = 0.0 if length == 0.0 else -(one[0] * north + one[1] * scale * east) / length
    part = max(0.0, min(1.0, part))
    latitude = position[0] + one[0] + part * (other[0] - one[0])
    return latitude, position[1] + one[1] + part * (other[1] - one[1])
