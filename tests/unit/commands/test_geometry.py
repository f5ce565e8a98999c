"""Circles and polygons on the earth: what is inside, and how far the rest is away."""

from math import cos, radians

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.geometry import (
    MAX_VERTICES,
    Circle,
    Polygon,
    Position,
    distance,
    is_position,
    problem_with,
    turn,
)

latitudes, longitudes = st.floats(-85, 85), st.floats(-180, 180)
positions = st.tuples(latitudes, longitudes)
DEPOT = Polygon(((51.50, -0.13), (51.50, -0.11), (51.52, -0.11), (51.52, -0.13)))


def box(center: Position, north: float, east: float) -> Polygon:
    """Return a rectangle of so many degrees to each side of its center."""
    latitude, longitude = center
    sides = ((-north, -east), (-north, east), (north, east), (north, -east))
    return Polygon(tuple((latitude + up, turn(longitude + right)) for up, right in sides))


class DistanceTests(SynchronousTestCase):
    def test_known_distances(self) -> None:
        """One degree of a great circle, Paris to London, and half round the earth."""
        self.assertApproximates(distance((0.0, 0.0), (0.0, 1.0)), 111_195.08, 0.1)
        self.assertApproximates(distance((48.8566, 2.3522), (51.5074, -0.1278)), 343_556, 100)
        self.assertApproximates(distance((0.0, -90.0), (0.0, 90.0)), 20_015_114, 1)

    @given(positions, positions)
    def test_both_ways_and_across_the_meridian(self, one: Position, other: Position) -> None:
        self.assertApproximates(distance(one, other), distance(other, one), 1e-3)
        moved = (other[0], other[1] + 360.0)
        self.assertApproximates(distance(one, other), distance(one, moved), 1e-3)

    def test_positions(self) -> None:
        self.assertTrue(is_position(-90.0, 180.0))
        for latitude, longitude in ((90.1, 0.0), (0.0, -180.1), (float("nan"), 0.0), (0.0, float("inf"))):
            self.assertFalse(is_position(latitude, longitude))


class CircleTests(SynchronousTestCase):
    def test_edge(self) -> None:
        circle = Circle((0.0, 179.999), 1_000.0)
        self.assertEqual(circle.meters_outside((0.0, -179.995)), 0.0)
        self.assertApproximates(circle.meters_outside((0.0, -179.981)), 1_223.9, 0.1)

    @given(positions, positions, st.floats(1, 1_000_000))
    def test_outside_is_what_is_beyond_the_radius(
        self, center: Position, position: Position, radius: float
    ) -> None:
        away = Circle(center, radius).meters_outside(position)
        self.assertEqual(away > 0.0, distance(center, position) > radius)


class PolygonTests(SynchronousTestCase):
    def test_depot(self) -> None:
        """Inside, 1,112 m to the north, and off a corner."""
        self.assertEqual(DEPOT.meters_outside((51.51, -0.12)), 0.0)
        self.assertApproximates(DEPOT.meters_outside((51.53, -0.12)), 1_112, 1)
        corner = distance((51.53, -0.10), (51.52, -0.11))
        self.assertApproximates(DEPOT.meters_outside((51.53, -0.10)), corner, 1)

    def test_notch(self) -> None:
        """The notch of a U is outside, whichever way round the line goes."""
        shape = (
            (0.0, 0.0),
            (0.0, 0.3),
            (0.2, 0.3),
            (0.2, 0.2),
            (0.1, 0.2),
            (0.1, 0.1),
            (0.2, 0.1),
            (0.2, 0.0),
        )
        for vertices in (shape, shape[::-1], shape[3:] + shape[:3]):
            polygon = Polygon(vertices)
            self.assertEqual(polygon.meters_outside((0.15, 0.05)), 0.0)
            self.assertEqual(polygon.meters_outside((0.05, 0.15)), 0.0)
            self.assertApproximates(polygon.meters_outside((0.15, 0.15)), 5_560, 10)

    def test_across_the_180th_meridian(self) -> None:
        """Fiji: both sides of the line are inside, the other side of the earth is not."""
        fiji = Polygon(((-19.0, 177.0), (-19.0, -179.0), (-16.0, -179.0), (-16.0, 177.0)))
        for longitude in (178.0, 179.99, 180.0, -180.0, -179.5):
            self.assertEqual(fiji.meters_outside((-17.0, longitude)), 0.0, longitude)
        for longitude in (0.0, 176.0, -178.0):
            self.assertGreater(fiji.meters_outside((-17.0, longitude)), 100_000, longitude)

    @settings(deadline=None)
    @given(positions, st.floats(0.001, 4.0), st.floats(0.001, 89.0), st.floats(-2, 2), st.floats(-2, 2))
    def test_rectangle(self, center: Position, north: float, east: float, up: float, right: float) -> None:
        """A rectangle has inside what is between its sides, wherever it lies."""
        assume(abs(abs(up) - 1) > 1e-6 and abs(abs(right) - 1) > 1e-6)
        position = (center[0] + up * north, turn(center[1] + right * east))
        assume(abs(position[0]) < 90 and abs(right * east) < 180)
        away = box(center, north, east).meters_outside(position)
        self.assertEqual(away == 0.0, abs(up) < 1 and abs(right) < 1)

    @settings(deadline=None)
    @given(
        st.tuples(st.floats(-70, 70), longitudes),
        st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)), min_size=3, max_size=8),
        st.tuples(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4)),
    )
    def test_distance_to_the_edge(self, center: Position, corners: list[Position], offset: Position) -> None:
        """Within 60 km, the distance is that to the nearest of many points of the edge, to one percent."""
        vertices = [(center[0] + up, turn(center[1] + right)) for up, right in corners]
        assume(problem_with(vertices) is None)
        position = (center[0] + offset[0], turn(center[1] + offset[1]))
        away = Polygon(tuple(vertices)).meters_outside(position)
        assume(away > 0.0)
        nearest = min(
            distance(position, (one[0] + part * (other[0] - one[0]), one[1] + part * turn(other[1] - one[1])))
            for one, other in zip(vertices, [*vertices[1:], vertices[0]], strict=True)
            for part in (step / 200 for step in range(201))
        )
        longest = 0.2 * 111_195 * 1.5 / 200
        self.assertGreaterEqual(away, nearest - longest)
        self.assertLessEqual(away, nearest * 1.01 + 0.01)

    @given(positions, positions)
    def test_moved_round_the_earth(self, center: Position, position: Position) -> None:
        """A polygon and a position that are both moved to the east stay as they were to each other."""
        away = box(center, 1.0, 2.0).meters_outside(position)
        moved = box((center[0], turn(center[1] + 77.7)), 1.0, 2.0)
        self.assertApproximates(
            moved.meters_outside((position[0], turn(position[1] + 77.7))), away, 1e-3 * max(1.0, away)
        )

    def test_a_degree_to_the_east_is_shorter_in_the_north(self) -> None:
        north = box((60.0, 10.0), 1.0, 1.0).meters_outside((60.0, 12.0))
        self.assertApproximates(north, 111_195 * cos(radians(60.0)), 600)


class ProblemTests(SynchronousTestCase):
    """Lines that are no polygon are told from those that are."""

    def test_problems(self) -> None:
        ring = [(0.001 * number, 0.001 * (number % 2)) for number in range(MAX_VERTICES + 1)]
        pole = [(80.0, -120.0), (80.0, 0.0), (80.0, 120.0)]
        wide = [(0.0, -95.0), (10.0, 0.0), (0.0, 95.0), (-10.0, 0.0)]
        for vertices, problem in (
            (ring, "has 201 corners"),
            (ring[:2], "has 2 corners"),
            (pole, "goes round a pole"),
            (wide, "is 180 degrees wide or more"),
            ([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)], "has all corners on one line"),
            ([(1.0, 1.0)] * 3, "has all corners on one line"),
        ):
            self.assertEqual(problem_with(vertices), problem)
        self.assertIsNone(problem_with(ring[:MAX_VERTICES]))
        self.assertIsNone(problem_with(DEPOT.vertices))
