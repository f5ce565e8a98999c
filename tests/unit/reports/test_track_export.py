"""Tracks as GPX and GeoJSON."""

import json
from typing import Any
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.reports.track_export import TrackPosition, geojson, gpx
from jt709c_gateway.util.timestamps import iso

NAMESPACE = "{http://www.topografix.com/GPX/1/1}"
START = 1_764_000_000.0


def points(*minutes: float, latitude: float = 51.9, longitude: float = 4.4) -> list[TrackPosition]:
    return [TrackPosition(iso(START + 60 * one), latitude, longitude, 42.5, 90.0) for one in minutes]


def read_gpx(data: bytes) -> list[list[tuple[float, float, str]]]:
    """Read the segments of a track, and check the structure that the schema of GPX 1.1 requires."""
    root = ElementTree.fromstring(data)
    assert root.tag == f"{NAMESPACE}gpx" and root.get("version") == "1.1" and root.get("creator")
    [track] = root
    assert track.tag == f"{NAMESPACE}trk"
    name, *found = track
    assert name.tag == f"{NAMESPACE}name"
    read = []
    for segment in found:
        assert segment.tag == f"{NAMESPACE}trkseg"
        read.append([_point(one) for one in segment])
    return read


def _point(element: Any) -> tuple[float, float, str]:
    assert element.tag == f"{NAMESPACE}trkpt" and set(element.attrib) == {"lat", "lon"}
    [time] = element
    assert time.tag == f"{NAMESPACE}time"
    latitude, longitude = float(element.get("lat")), float(element.get("lon"))
    assert -90 <= latitude <= 90 and -180 <= longitude <= 180
    return latitude, longitude, time.text


class TrackExportTests(SynchronousTestCase):
    def test_segments(self) -> None:
        """A line ends where no position is known for half an hour."""
        made = points(0, 10, 39, 70, 71)
        self.assertEqual(
            [[time for _, _, time in one] for one in read_gpx(gpx("Truck", made))],
            [[one.time for one in made[:3]], [one.time for one in made[3:]]],
        )

    def test_no_place_is_made_up(self) -> None:
        """0,0 and what is not on Earth are left out; a track without positions is empty."""
        for latitude, longitude in ((0.0, 0.0), (91.0, 4.0), (float("nan"), 4.0)):
            bad = points(5, latitude=latitude, longitude=longitude)
            self.assertEqual(read_gpx(gpx("x", bad)), [])
            self.assertEqual(json.loads(geojson("5", "x", bad))["features"], [])
        self.assertEqual(len(read_gpx(gpx("x", points(5, latitude=0.0)))), 1)

    def test_geojson(self) -> None:
        """A line for each segment of two or more, and all positions, longitude first."""
        found = json.loads(geojson("794308010001", "Truck", points(0, 10, 50)))
        self.assertEqual(found["type"], "FeatureCollection")
        kinds = [one["geometry"]["type"] for one in found["features"]]
        self.assertEqual(kinds, ["LineString", "Point", "Point", "Point"])
        self.assertEqual(found["features"][0]["geometry"]["coordinates"], [[4.4, 51.9]] * 2)
        self.assertEqual(found["features"][1]["properties"]["speed_kmh"], 42.5)

    @settings(max_examples=60, deadline=None)
    @given(
        st.text(),
        st.lists(
            st.tuples(st.floats(0, 1e6), st.floats(-95, 95), st.floats(-185, 185)).map(
                lambda one: TrackPosition(iso(START + one[0]), one[1], one[2], None, None)
            ),
            max_size=20,
        ),
    )
    def test_always_well_formed(self, name: str, made: list[TrackPosition]) -> None:
        made.sort()
        read = read_gpx(gpx(name, made))
        features = json.loads(geojson("5", name, made))["features"]
        positions = [one for one in features if one["geometry"]["type"] == "Point"]
        self.assertEqual(sum(map(len, read)), len(positions))
        self.assertTrue(all(read))
