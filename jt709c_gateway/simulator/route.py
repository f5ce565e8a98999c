"""The route of a virtual lock: a line of points that is travelled back and forth."""

import csv
import math
from bisect import bisect_right
from pathlib import Path
from typing import Final, Self

from attrs import define, field

_EARTH_M: Final = 6_371_000.0
#: An invented route from a harbour to a depot inland.
_BUILT_IN: Final = (
    (51.9496, 4.1453),
    (51.9412, 4.2101),
    (51.9203, 4.2987),
    (51.8874, 4.3655),
    (51.8691, 4.4783),
    (51.8522, 4.5810),
    (51.8307, 4.6702),
    (51.8219, 4.7894),
    (51.8390, 4.9126),
    (51.8573, 5.0418),
    (51.8831, 5.1764),
    (51.9017, 5.2989),
    (51.9402, 5.4105),
    (51.9711, 5.5533),
)


@define(frozen=True)
class Place:
    """A point of the route: degrees north and east, and the course there in degrees from north."""

    latitude: float
    longitude: float
    course: int


@define(frozen=True, eq=False)
class Route:
    """At least two points, (latitude, longitude) in degrees; one object is shared by a whole fleet."""

    points: tuple[tuple[float, float], ...]
    #: Metres from the first point to each.
    _marks: list[float] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        marks = [0.0]
        for start, end in zip(self.points, self.points[1:], strict=False):
            marks.append(marks[-1] + _metres(start, end))
        if marks[-1] <= 0:
            raise ValueError("a route needs two points that are apart")
        object.__setattr__(self, "_marks", marks)

    @classmethod
    def built_in(cls) -> Self:
        """The default route."""
        return cls(_BUILT_IN)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read CSV lines `latitude,longitude` in degrees; a heading is skipped.

        Raise OSError for an unreadable file, ValueError with the number of a line that is no point.
        """
        points = []
        with open(path, newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), 1):
                if not row or (number == 1 and not _is_number(row[0])):
                    continue
                points.append(_point(row, number))
        return cls(tuple(points))

    @property
    def length_m(self) -> float:
        """The length of the route in metres."""
        return self._marks[-1]

    def at(self, metres: float) -> Place:
        """Return the position after a distance in metres of travelling back and forth."""
        way = metres % (2 * self.length_m)
        back = way > self.length_m
        if back:
            way = 2 * self.length_m - way
        leg = min(bisect_right(self._marks, way), len(self.points) - 1)
        start, end = self.points[leg - 1], self.points[leg]
        length = self._marks[leg] - self._marks[leg - 1]
        share = (way - self._marks[leg - 1]) / length if length else 0.0
        course = _course(end, start) if back else _course(start, end)
        return Place(start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share, course)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _point(row: list[str], number: int) -> tuple[float, float]:
    try:
        latitude, longitude = float(row[0]), float(row[1])
    except (ValueError, IndexError):
        raise ValueError(f"line {number}: expected latitude,longitude in degrees") from None
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise ValueError(f"line {number}: latitude is at most 90 degrees and longitude at most 180")
    return latitude, longitude


def _metres(start: tuple[float, float], end: tuple[float, float]) -> float:
    (lat1, lon1), (lat2, lon2) = (map(math.radians, point) for point in (start, end))
    chord = (
        math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * _EARTH_M * math.asin(math.sqrt(chord))


def _course(start: tuple[float, float], end: tuple[float, float]) -> int:
    east = (end[1] - start[1]) * math.cos(math.radians(start[0]))
    return round(math.degrees(math.atan2(east, end[0] - start[0]))) % 360
