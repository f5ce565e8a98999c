"""Makes the outlines of coasts and countries for the map of the status page.

    npm pack world-atlas@2.0.2 && tar xzf world-atlas-2.0.2.tgz
    python docs/make_outlines.py package/countries-50m.json

writes jt709c_gateway/web/static/outlines.json, or the file that is given as second argument. The npm package
has version 4.1.0 of Natural Earth (public domain), 1:50m, as TopoJSON (NOTICE). It takes half a minute.

The result is JSON: `scale` is the number of steps in a degree; `land` has the rings of all land, and
`borders` the lines between countries, each as text: the differences of longitude and latitude from point to
point in steps, zigzag-encoded in groups of five bits with 32 as the mark that more follow, least significant
first, plus 63. A ring that crosses the antimeridian goes on beyond 180 degrees; that around the south pole
ends 360 degrees from its beginning. `names` has for each country its name, longitude, latitude, and the zoom
from which the name fits there.
"""

import json
import math
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent.parent / "jt709c_gateway" / "web" / "static" / "outlines.json"
ABOUT = "Natural Earth 4.1.0, 1:50m, public domain, by way of world-atlas 2.0.2; see NOTICE"
#: Steps in a degree: 0.004 degrees are 440 m.
SCALE = 250
#: Where Mercator maps end.
EDGE = 85.0
#: A ring south of this is the pole.
POLE = -89.0
#: Of a name on the map, in pixels: the height of its line, and the width of a letter in heights.
LINE, LETTER = 11.0, 0.5
#: The zoom from which a name is shown also where it does not fit: small islands.
ANY_ZOOM = 7
#: Lines across a polygon in which room for its name is looked for.
ROWS = 80

Point = tuple[float, float]
Line = list[Point]


class Topology:
    """A TopoJSON file: `arc(n)` is a line in degrees, backwards for the complement of its number."""

    def __init__(self, path: Path) -> None:
        self.content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        (self._across, self._up), (self._west, self._south) = (
            self.content["transform"]["scale"],
            self.content["transform"]["translate"],
        )
        self._arcs = [self._decoded(arc) for arc in self.content["arcs"]]

    def _decoded(self, arc: Sequence[Sequence[int]]) -> Line:
        x = y = 0
        line = []
        for dx, dy in arc:
            x, y = x + dx, y + dy
            line.append((self._west + x * self._across, self._south + y * self._up))
        return line

    def arc(self, number: int) -> Line:
        """Return an arc."""
        return self._arcs[number] if number >= 0 else self._arcs[~number][::-1]

    def ring(self, numbers: Iterable[int]) -> Line:
        """Return the closed line of several arcs, each of which begins where the one before ends."""
        line: Line = []
        for number in numbers:
            line += self.arc(number)[1 if line else 0 :]
        return line


def polygons(geometry: dict[str, Any]) -> Iterator[list[list[int]]]:
    """Yield the polygons of a geometry, each as its rings of numbers of arcs."""
    if geometry["type"] == "Polygon":
        yield geometry["arcs"]
    elif geometry["type"] == "MultiPolygon":
        yield from geometry["arcs"]
    else:
        for one in geometry.get("geometries", ()):
            yield from polygons(one)


def unwrapped(line: Line) -> Line:
    """Return a line whose longitude goes on where it jumped at the antimeridian."""
    done = [line[0]]
    for longitude, latitude in line[1:]:
        turns = round((longitude - done[-1][0]) / 360)
        done.append((longitude - turns * 360, latitude))
    return done


def number_text(value: int) -> str:
    """Encode a whole number."""
    rest = value << 1 if value >= 0 else ~(value << 1)
    text = ""
    while rest >= 32:
        text += chr((32 | rest & 31) + 63)
        rest >>= 5
    return text + chr(rest + 63)


def encoded(line: Line) -> str:
    """Encode a line; "" when too little is left of it."""
    text, last, count = "", (0, 0), 0
    for longitude, latitude in line:
        point = round(longitude * SCALE), round(latitude * SCALE)
        if count and point == last:
            continue
        text += number_text(point[0] - last[0]) + number_text(point[1] - last[1])
        last = point
        count += 1
    return text if count > 1 else ""


def mercator(latitude: float) -> float:
    """Return the height of a latitude on a map whose width is 1, from the equator up."""
    sine = math.sin(math.radians(max(-EDGE, min(EDGE, latitude))))
    return math.atanh(sine) / (2 * math.pi)


def projected(ring: Line) -> Line:
    """Return a ring on this map; one around the south pole is closed along the edge of the map."""
    line = [(x / 360 + 0.5, mercator(y)) for x, y in ring]
    if abs(line[-1][0] - line[0][0]) > 0.5:
        line += [(line[-1][0], mercator(-EDGE)), (line[0][0], mercator(-EDGE)), line[0]]
    return line


def spans(rings: Sequence[Line], y: float) -> list[Point]:
    """Return from where to where a horizontal line is inside a polygon."""
    found = []
    for ring in rings:
        for (x1, y1), (x2, y2) in pairwise(ring):
            if (y1 > y) != (y2 > y):
                found.append(x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    found.sort()
    return list(zip(found[::2], found[1::2], strict=False))


def common(one: Point, rows: Sequence[list[Point]]) -> Point | None:
    """Return the part of a span that is inside in all rows."""
    low, high = one
    for row in rows:
        middle = (low + high) / 2
        at = bisect_left(row, (middle, math.inf)) - 1
        if at < 0 or row[at][1] < middle:
            return None
        low, high = max(low, row[at][0]), min(high, row[at][1])
    return low, high


def room(rings: Sequence[Line], ratio: float) -> tuple[float, Point]:
    """Return the height of the largest box of this ratio in a polygon, and its middle."""
    bottom, top = (pick(y for ring in rings for _, y in ring) for pick in (min, max))
    step = (top - bottom) / ROWS
    heights = [bottom + (row + 0.5) * step for row in range(ROWS)]
    rows = [spans(rings, y) for y in heights]
    best, where = 0.0, (0.0, 0.0)
    for at, row in enumerate(rows):
        for span in row:
            for reach in range(min(at, ROWS - 1 - at) + 1):
                inside = common(span, rows[at - reach : at + reach + 1])
                if inside is None:
                    break
                height = min((inside[1] - inside[0]) / ratio, (2 * reach + 1) * step)
                if height > best:
                    best, where = height, ((inside[0] + inside[1]) / 2, heights[at])
    return best, where


def label(topology: Topology, country: dict[str, Any]) -> list[Any]:
    """Return the name of a country, where it fits best, and from which zoom."""
    name = country["properties"]["name"]
    best, where = -1.0, (0.0, 0.0)
    for polygon in polygons(country):
        rings = [projected(unwrapped(topology.ring(ring))) for ring in polygon]
        found, middle = room(rings, LETTER * len(name))
        if found > best:
            best, where = found, middle
    zoom = math.ceil(math.log2(LINE / 256 / best)) if best > 0 else ANY_ZOOM
    latitude = math.degrees(math.asin(math.tanh(where[1] * 2 * math.pi)))
    longitude = (where[0] * 360) % 360 - 180
    return [name, round(longitude, 2), round(latitude, 2), max(1, min(ANY_ZOOM, zoom))]


def outlines(topology: Topology) -> dict[str, Any]:
    """Return what the file has."""
    objects = topology.content["objects"]
    rings = [ring for polygon in polygons(objects["land"]) for ring in polygon]
    coast = {number if number >= 0 else ~number for ring in rings for number in ring}
    countries = objects["countries"]["geometries"]
    used = {
        number if number >= 0 else ~number
        for polygon in polygons(objects["countries"])
        for ring in polygon
        for number in ring
    }
    lines = [unwrapped(topology.ring(ring)) for ring in rings]
    # The pole is a ring too.
    land = [encoded(line) for line in lines if max(y for _, y in line) > POLE]
    borders = [encoded(unwrapped(topology.arc(number))) for number in sorted(used - coast)]
    names = [label(topology, one) for one in countries if one["properties"]["name"]]
    return {
        "about": ABOUT,
        "scale": SCALE,
        "names": sorted(names, key=lambda one: (one[3], one[0])),
        "borders": [line for line in borders if line],
        "land": [line for line in land if line],
    }


def main(source: Path, target: Path = TARGET) -> None:
    """Convert a file."""
    made = outlines(Topology(source))
    rows = [f'"{key}": {json.dumps(made[key])}' for key in ("about", "scale")]
    for key in ("names", "borders", "land"):
        lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in made[key])
        rows.append(f'"{key}": [\n{lines}\n]')
    target.write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")
    print(f"{target}: {target.stat().st_size // 1024} KiB, {len(made['land'])} rings")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*map(Path, sys.argv[1:]))
