"""Areas as JSON: in the ``only_within`` of a command, and under a name in Redis (docs/commands.rst).

``{"circle": {"center": [51.5, -0.12], "radius_m": 200}}`` or ``{"polygon": [[51.5, -0.12], …]}``, in degrees
and metres.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from jt709c_gateway.commands.geometry import (
    MAX_RADIUS,
    MAX_VERTICES,
    MIN_RADIUS,
    MIN_VERTICES,
    Area,
    Circle,
    Polygon,
    Position,
    is_position,
    problem_with,
)
from jt709c_gateway.commands.value_description import described, unknown_names

AREA_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
NAME_EXPECTED: Final = "1 to 64 letters, digits, '-', '_' or '.'"
MAX_AREAS: Final = 1000
"""How many named areas a fleet may have."""

MAX_AREA_BYTES: Final = 16 * 1024
CIRCLE: Final = "circle"
POLYGON: Final = "polygon"
POSITION_EXPECTED: Final = "[latitude, longitude] in degrees"
RADIUS_EXPECTED: Final = f"metres from {MIN_RADIUS:.0f} to {MAX_RADIUS:.0f}"
POLYGON_EXPECTED: Final = (
    f"a list of {MIN_VERTICES} to {MAX_VERTICES} corners, each {POSITION_EXPECTED}, round an area less than "
    "180 degrees wide"
)
AREA_EXPECTED: Final = (
    'an object {"circle": {"center": [latitude, longitude], "radius_m": metres}} or '
    '{"polygon": [[latitude, longitude], …]}'
)


class InvalidArea(ValueError):
    """An area is malformed.

    ``field`` is the place in it, ``""`` for the whole; ``problem`` holds no value of it.
    """

    def __init__(self, field: str, problem: str, expected: str) -> None:
        super().__init__(
            f"{field}: {problem}; expected {expected}" if field else f"{problem}; expected {expected}"
        )
        self.field = field
        self.problem = problem
        self.expected = expected


def read_area(value: object) -> Area:
    """Convert the JSON of a circle or polygon; raise :class:`InvalidArea`."""
    fields = _object("", value, (CIRCLE, POLYGON), AREA_EXPECTED)
    if len(fields) != 1:
        raise InvalidArea("", f"has {len(fields)} of circle and polygon", "one of them")
    if CIRCLE in fields:
        return _circle(fields[CIRCLE])
    return read_polygon(fields[POLYGON], POLYGON)


def parse_area(raw: bytes) -> Area:
    """Parse the text under a named area's key; raise :class:`InvalidArea`."""
    if len(raw) > MAX_AREA_BYTES:
        raise InvalidArea("", f"{len(raw)} bytes", f"at most {MAX_AREA_BYTES} bytes")
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidArea("", "not JSON", AREA_EXPECTED) from None
    return read_area(value)


def area_fields(area: Area) -> dict[str, Any]:
    """The JSON of an area."""
    if isinstance(area, Circle):
        return {CIRCLE: {"center": list(area.center), "radius_m": area.radius_m}}
    return {POLYGON: [list(vertex) for vertex in area.vertices]}


def read_polygon(value: object, field: str) -> Polygon:
    """Convert a list of corners, of which the last may be the first again; raise :class:`InvalidArea`."""
    if not isinstance(value, list):
        raise InvalidArea(field, f"is {described(value)}", POLYGON_EXPECTED)
    # Bounded before each corner is looked at.
    if len(value) > MAX_VERTICES + 1:
        raise InvalidArea(field, f"has {len(value)} corners", POLYGON_EXPECTED)
    vertices = [read_position(corner, f"{field}[{place}]") for place, corner in enumerate(value)]
    if len(vertices) > 1 and vertices[0] == vertices[-1]:
        vertices.pop()
    if (problem := problem_with(vertices)) is not None:
        raise InvalidArea(field, problem, POLYGON_EXPECTED)
    return Polygon(tuple(vertices))


def read_position(value: object, field: str) -> Position:
    """Convert ``[latitude, longitude]``; raise :class:`InvalidArea`."""
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))):
        raise InvalidArea(field, f"is {described(value)}", POSITION_EXPECTED)
    latitude, longitude = float(value[0]), float(value[1])
    if not is_position(latitude, longitude):
        raise InvalidArea(field, "is no place on earth", POSITION_EXPECTED)
    return latitude, longitude


def _circle(value: object) -> Circle:
    fields = _object(CIRCLE, value, ("center", "radius_m"), "an object with center and radius_m")
    center = read_position(fields.get("center"), f"{CIRCLE}.center")
    radius = fields.get("radius_m")
    if not _is_number(radius) or not MIN_RADIUS <= radius <= MAX_RADIUS:
        raise InvalidArea(f"{CIRCLE}.radius_m", f"is {described(radius)}", RADIUS_EXPECTED)
    return Circle(center, float(radius))


def _object(field: str, value: object, known: tuple[str, ...], expected: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArea(field, f"is {described(value)}", expected)
    if unknown := unknown_names(value, known, "field"):
        raise InvalidArea(field, f"unknown {unknown}", "only " + " and ".join(known))
    return value


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
