"""The outlines of countries for the map: what the file has, how it is served, and how it is made."""

import gzip
import importlib.util
import json
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web import static_files
from tests.support import ROOT, temporary_path

#: Bytes of the file, compressed.
_MOST = 250_000
#: Two countries with a common border from (0, 0) to (0, 10), and one across the antimeridian.
_TOPOLOGY: dict[str, Any] = {
    "type": "Topology",
    "transform": {"scale": [1, 1], "translate": [-180, -90]},
    "arcs": [
        [[180, 90], [0, 10]],
        [[180, 100], [-10, 0], [0, -10], [10, 0]],
        [[180, 100], [10, 0], [0, -10], [-10, 0]],
        [[350, 90], [5, 10], [-350, 0], [0, -10], [345, 0]],
    ],
    "objects": {
        "countries": {
            "type": "GeometryCollection",
            "geometries": [
                {"type": "Polygon", "arcs": [[0, 1]], "properties": {"name": "West"}},
                {"type": "MultiPolygon", "arcs": [[[-1, 2]]], "properties": {"name": "East"}},
                {"type": "Polygon", "arcs": [[3]], "properties": {"name": "Over"}},
            ],
        },
        "land": {
            "type": "GeometryCollection",
            "geometries": [{"type": "MultiPolygon", "arcs": [[[1, -3]], [[3]]]}],
        },
    },
}


def decoded(text: str, scale: int) -> list[tuple[float, float]]:
    """Return the points of a line of the file, longitude and latitude."""
    numbers, value, shift = [], 0, 0
    for letter in text:
        part = ord(letter) - 63
        value |= (part & 31) << shift
        shift += 5
        if part < 32:
            numbers.append(~(value >> 1) if value & 1 else value >> 1)
            value = shift = 0
    longitude = latitude = 0
    points = []
    for dx, dy in zip(numbers[::2], numbers[1::2], strict=True):
        longitude, latitude = longitude + dx, latitude + dy
        points.append((longitude / scale, latitude / scale))
    return points


def inside(rings: list[list[tuple[float, float]]], longitude: float, latitude: float) -> bool:
    """Return whether a place is on land, in any copy of the world."""
    crossed = 0
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, [*ring[1:], ring[0]], strict=True):
            if (y1 > latitude) != (y2 > latitude):
                x = x1 + (latitude - y1) / (y2 - y1) * (x2 - x1)
                crossed += sum(longitude + turn < x for turn in (-360, 0, 360))
    return crossed % 2 == 1


class FileTests(SynchronousTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.text = files("jt709c_gateway.web").joinpath("static/outlines.json").read_bytes()
        cls.content = json.loads(cls.text)
        cls.land = [decoded(line, cls.content["scale"]) for line in cls.content["land"]]

    def test_small(self) -> None:
        """A browser gets it in 250 KB."""
        asset = static_files.load()["/static/outlines.json"]
        self.assertEqual(asset.answer.content_type, "application/json")
        self.assertLess(len(gzip.compress(self.text, 2)), _MOST)

    def test_land_and_sea(self) -> None:
        """Cities are on land; also that east of the antimeridian, whose ring begins in the west."""
        rings = [ring for ring in self.land if abs(ring[0][0] - ring[-1][0]) < 180]
        for name, longitude, latitude in (
            ("Paris", 2.35, 48.85),
            ("Nairobi", 36.82, -1.29),
            ("Alice Springs", 133.88, -23.7),
            ("Chukotka", -175.0, 66.5),
            ("Anadyr", 177.0, 65.0),
        ):
            self.assertTrue(inside(rings, longitude, latitude), name)
        for name, longitude, latitude in (
            ("the Atlantic", -30.0, 45.0),
            ("the Pacific at the antimeridian", 179.9, 30.0),
            ("the Caspian Sea", 51.0, 41.5),
        ):
            self.assertFalse(inside(rings, longitude, latitude), name)

    def test_no_line_across_the_map(self) -> None:
        """No line jumps at the antimeridian."""
        for line in [*self.land, *(decoded(one, self.content["scale"]) for one in self.content["borders"])]:
            for (x1, _), (x2, _) in pairwise(line):
                self.assertLess(abs(x2 - x1), 90)

    def test_names(self) -> None:
        """Each country has a name in its land, and the large ones are shown first."""
        names = {
            name: (longitude, latitude, zoom) for name, longitude, latitude, zoom in self.content["names"]
        }
        self.assertGreater(len(names), 200)
        for name in ("France", "Norway", "Chile", "Fiji", "Russia"):
            longitude, latitude, _ = names[name]
            self.assertTrue(inside(self.land, longitude, latitude), name)
        self.assertLess(names["Canada"][2], names["Belgium"][2])

    def test_notice(self) -> None:
        """The package says where it comes from, and under which licence."""
        notice = (ROOT / "NOTICE").read_text("utf-8")
        for text in ("outlines.json", "Natural Earth", "public domain", "world-atlas 2.0.2", "Bostock"):
            self.assertIn(text, notice)


class ScriptTests(SynchronousTestCase):
    """docs/make_outlines.py."""

    def test_makes_the_file(self) -> None:
        """Coasts become rings, a border is one line, and a ring at the antimeridian goes on beyond it."""
        spec = importlib.util.spec_from_file_location("make_outlines", ROOT / "docs" / "make_outlines.py")
        assert spec is not None and spec.loader is not None
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        directory = Path(temporary_path(self))
        directory.mkdir()
        (directory / "source.json").write_text(json.dumps(_TOPOLOGY))
        script.main(directory / "source.json", directory / "made.json")
        made = json.loads((directory / "made.json").read_text("utf-8"))
        borders = [decoded(line, made["scale"]) for line in made["borders"]]
        land = [decoded(line, made["scale"]) for line in made["land"]]
        self.assertEqual(borders, [[(0.0, 0.0), (0.0, 10.0)]])
        self.assertEqual(len(land), 2)
        self.assertTrue(inside(land, -5, 5) and inside(land, 5, 5))
        self.assertEqual(land[1], [(170.0, 0.0), (175.0, 10.0), (185.0, 10.0), (185.0, 0.0), (170.0, 0.0)])
        self.assertEqual(sorted(one[0] for one in made["names"]), ["East", "Over", "West"])
        for name, longitude, latitude, zoom in made["names"]:
            self.assertTrue(inside(land, longitude, latitude), name)
            self.assertTrue(1 <= zoom <= 7)
