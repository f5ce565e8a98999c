"""The conditions of commands: how they are read and written, and what they allow."""

import json
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.areas import area_fields, parse_area
from jt709c_gateway.commands.check import check_local
from jt709c_gateway.commands.conditions import (
    ALLOWED,
    Conditions,
    LivePosition,
    Verdict,
    WhenNotAllowed,
    from_fields,
    judge,
)
from jt709c_gateway.commands.forwarding import forward_accepted, forwarded_entry, read_forwarded
from jt709c_gateway.commands.geometry import Circle, Polygon
from jt709c_gateway.commands.model import Command, InvalidCommand, parse_command
from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.serialization import from_queue_entry, to_queue_entry, to_wire
from jt709c_gateway.commands.signing import CommandRefused, SigningKey, SigningKeys
from jt709c_gateway.commands.sublocks import redirect_to_master
from jt709c_gateway.redis.command_store_types import Known
from tests.support.signing import SECRET, command_text, sign

T = 1_764_000_000.0
DEVICE = "794308010679"
CIRCLE = {"circle": {"center": [51.5, -0.12], "radius_m": 200}}
SQUARE = {"polygon": [[51.0, 0.0], [51.0, 1.0], [52.0, 1.0], [52.0, 0.0], [51.0, 0.0]]}
NAN, INFINITY = float("nan"), float("inf")

circles = st.builds(Circle, st.tuples(st.floats(-90, 90), st.floats(-180, 180)), st.floats(1, 1_000_000))
times = st.integers(1, 10**10).map(float) | st.none()
places = st.one_of(
    st.builds(lambda area: {"within": area}, circles),
    st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True).map(lambda name: {"area": name}),
    st.just({"max_speed_kmh": 5.0}),
)
conditions = st.builds(
    lambda place, before, length, age, manner: Conditions(
        **place,
        not_before=before,
        not_after=None if before is None else before + length,
        position_max_age=age,
        when_not_allowed=manner,
    ),
    places,
    times,
    st.integers(1, 10**6),
    st.floats(1, 3600),
    st.sampled_from(WhenNotAllowed),
)


def parse(**fields: Any) -> Command:
    return parse_command(json.dumps({"device": DEVICE, "command": "unlock", "id": "a", **fields}).encode(), T)


class ReadingTests(SynchronousTestCase):
    def test_all(self) -> None:
        found = parse(
            only_within=SQUARE,
            max_speed_kmh=5,
            not_before="2026-12-01T08:00:00+01:00",
            not_after=1796108460,
            position_max_age=30,
            when_not_allowed="wait",
        ).conditions
        self.assertEqual(
            found,
            Conditions(
                Polygon(((51.0, 0.0), (51.0, 1.0), (52.0, 1.0), (52.0, 0.0))),
                None,
                5.0,
                1_796_108_400.0,
                1_796_108_460.0,
                30.0,
                WhenNotAllowed.WAIT,
            ),
        )

    def test_none(self) -> None:
        """A command without conditions has the form that it has always had."""
        command = parse()
        self.assertIsNone(command.conditions)
        fields = json.loads(to_queue_entry(command))
        self.assertEqual(
            sorted(fields), ["command", "created_at", "device", "id", "params", "timeout", "ttl"]
        )

    def test_mistakes(self) -> None:
        """Each error names the field, and repeats no value."""
        corner = [51.0, 0.0]
        for field, value, problem in (
            ("only_within", None, "is null"),
            ("only_within", "depot", "is text of 5 characters"),
            ("only_within", {}, "has 0 of circle and polygon"),
            ("only_within", CIRCLE | SQUARE, "has 2 of circle and polygon"),
            ("only_within", {"area": "a b"}, "area is text of 3 characters"),
            ("only_within", {"area": "a", **CIRCLE}, "has more than the name of an area"),
            ("only_within", {"circle": {"center": corner}}, "circle.radius_m is null"),
            (
                "only_within",
                {"circle": {"center": [91, 0], "radius_m": 9}},
                "circle.center is no place on earth",
            ),
            ("only_within", {"circle": {"center": corner, "radius_m": 0.5}}, "circle.radius_m is a number"),
            ("only_within", {"circle": {"center": corner, "radius_m": 9, "x": 1}}, "circle unknown field 3"),
            ("only_within", {"polygon": [corner, corner]}, "polygon has 1 corners"),
            (
                "only_within",
                {"polygon": [[0, number / 10] for number in range(202)]},
                "polygon has 202 corners",
            ),
            ("only_within", {"polygon": [corner, [1], corner]}, "polygon[1] is a list of 1 item"),
            ("max_speed_kmh", -1, "is a number of 1 digit"),
            ("max_speed_kmh", True, "is true"),
            ("not_before", "2026-12-01T08:00:00", "is text of 19 characters"),
            ("not_after", 0, "is a number of 1 digit"),
            ("position_max_age", 30, "has nothing to refer to"),
            ("when_not_allowed", "wait", "has nothing to refer to"),
        ):
            with self.subTest(field=field, problem=problem):
                error = self.assertRaises(InvalidCommand, parse, **{field: value})
                self.assertEqual(error.field, field)
                self.assertIn(problem, str(error))
                self.assertEqual((error.command_id, error.device), ("a", DEVICE))
        error = self.assertRaises(InvalidCommand, parse, not_before=T, not_after=T)
        self.assertEqual(str(error), "not_after: is not behind not_before; expected a time behind not_before")

    def test_commands_of_the_gateway_itself(self) -> None:
        """They are written to no lock, so conditions would be ignored: that is refused."""
        known, profiles = Known(DEVICE, "jt709", None), load_profiles()
        for command, params in (("cancel", {"id": "b"}), ("clear_lockout", {})):
            given = parse(command=command, params=params, not_after=T)
            error = self.assertRaises(InvalidCommand, check_local, given, known, profiles)
            self.assertIn(f"not_after: has no meaning for {command}", str(error))

    @given(conditions)
    def test_kept_by_each_form(self, given: Conditions) -> None:
        """Queue entry, intake list, record, another partition and a redirection to a master keep them."""
        command = attrs.evolve(parse(), conditions=given, created_at=T)
        self.assertEqual(from_fields(json.loads(json.dumps(given.fields()))), given)
        self.assertEqual(from_queue_entry(to_queue_entry(command)), command)
        self.assertEqual(parse_command(to_wire(command, None, T), T), command)
        forwarded = forwarded_entry(forward_accepted(command))
        assert forwarded is not None
        self.assertEqual(read_forwarded(forwarded, T), command)
        sublock = attrs.evolve(command, device="AABBCCDDEE")
        self.assertEqual(redirect_to_master(sublock, DEVICE, "id").conditions, given)

    @given(circles)
    def test_named_areas(self, area: Circle) -> None:
        self.assertEqual(parse_area(json.dumps(area_fields(area)).encode()), area)


class SigningTests(SynchronousTestCase):
    """A signature covers the conditions."""

    def setUp(self) -> None:
        self.keys = SigningKeys({"k1": SigningKey("k1", SECRET)})
        self.text = command_text(DEVICE, "unlock", issued_at=T, only_within=CIRCLE, not_after=T + 60)

    def test_signed(self) -> None:
        command = parse_command(sign(self.text), T)
        self.keys.check_new(command, T)
        waited = from_queue_entry(to_queue_entry(command))
        self.keys.check(waited, T)
        self.assertEqual(waited, command)
        assert waited.conditions is not None
        self.assertEqual(waited.conditions.fields()["only_within"], CIRCLE)

    def test_changed(self) -> None:
        """A condition that was stripped or changed in Redis makes the signature wrong."""
        entry = json.loads(sign(self.text))
        for text in (
            self.text.replace(', "not_after": 1764000060.0', ""),
            self.text.replace('"radius_m": 200', '"radius_m": 900'),
            self.text.replace("only_within", "max_speed_kmh").replace(json.dumps(CIRCLE), "300"),
        ):
            self.assertNotEqual(text, self.text)
            command = parse_command(json.dumps(entry | {"order": text}).encode(), T)
            self.assertRaises(CommandRefused, self.keys.check_new, command, T)

    def test_conditions_beside_the_text(self) -> None:
        """A condition that is not signed is refused, not ignored."""
        entry = json.loads(sign(self.text)) | {"max_speed_kmh": 5}
        self.assertRaises(InvalidCommand, parse_command, json.dumps(entry).encode(), T)


class JudgeTests(SynchronousTestCase):
    """What can't be checked is never allowed."""

    here = LivePosition(51.5, -0.12, 3.0, 10.0)

    def judge(self, position: LivePosition | None, now: float = T, **fields: Any) -> Verdict:
        found = parse(**fields).conditions
        assert found is not None
        return judge(found, None, position, now)

    def test_allowed(self) -> None:
        self.assertEqual(self.judge(self.here, only_within=CIRCLE, max_speed_kmh=3), ALLOWED)
        self.assertEqual(self.judge(None, not_before=T, not_after=T + 1), ALLOWED)

    def test_times_come_first(self) -> None:
        """`not_after` ends a command for ever, whatever else holds; `not_before` makes it wait."""
        verdict = self.judge(self.here, T + 1, only_within=CIRCLE, not_after=T + 1)
        self.assertEqual((verdict.allowed, verdict.waits), (False, False))
        verdict = self.judge(None, only_within=CIRCLE, not_before=T + 9)
        self.assertEqual((verdict.allowed, verdict.waits, verdict.until), (False, True, T + 9))

    def test_unknown_positions_wait(self) -> None:
        for changes in (
            {"age": 120.1},
            {"age": -0.1},
            {"age": NAN},
            {"latitude": NAN},
            {"longitude": INFINITY},
            {"latitude": 91.0},
        ):
            verdict = self.judge(attrs.evolve(self.here, **changes), only_within=CIRCLE)
            self.assertEqual(verdict, Verdict(waits=True, reason="no live position within 120 s"))

    def test_unknown_speed(self) -> None:
        verdict = self.judge(attrs.evolve(self.here, speed_kmh=None), max_speed_kmh=5)
        self.assertEqual(verdict, Verdict(waits=True, reason="the lock reports no speed"))
        self.assertFalse(self.judge(attrs.evolve(self.here, speed_kmh=NAN), max_speed_kmh=5).allowed)

    def test_unknown_area(self) -> None:
        """An area that is not defined refuses, also before the position is known."""
        verdict = self.judge(None, only_within={"area": "depot"})
        self.assertEqual(verdict, Verdict(reason="area depot is not defined"))

    @given(st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 200), st.floats(-10, 10_000), st.booleans())
    def test_allowed_only_inside(
        self, latitude: float, longitude: float, speed: float, age: float, knows_area: bool
    ) -> None:
        """Allowed means: a defined area, a live position within it, and not too fast."""
        area = Circle((10.0, 20.0), 900_000.0) if knows_area else None
        found = Conditions(area="depot", max_speed_kmh=80.0)
        verdict = judge(found, area, LivePosition(latitude, longitude, speed, age), T)
        inside = area is not None and area.meters_outside((latitude, longitude)) == 0.0
        self.assertEqual(verdict.allowed, inside and speed <= 80.0 and 0 <= age <= 120)
