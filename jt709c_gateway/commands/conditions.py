"""The conditions of a command: where, how fast and when it may be written to its lock (docs/commands.rst).

:func:`judge` decides for one moment, without clock, network or store. What can't be checked is never allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import attrs
import msgspec
from msgspec import UNSET, UnsetType

from jt709c_gateway.commands.areas import (
    AREA_EXPECTED,
    AREA_NAME,
    NAME_EXPECTED,
    InvalidArea,
    area_fields,
    read_area,
)
from jt709c_gateway.commands.geometry import Area, is_position
from jt709c_gateway.commands.value_description import described
from jt709c_gateway.util.timestamps import from_iso, iso

DEFAULT_POSITION_AGE: Final = 120.0
"""How old in seconds a position may be that counts as live, if the command says nothing else."""

MAX_POSITION_AGE: Final = 3600.0
MAX_SPEED_KMH: Final = 300.0
#: The latest accepted time in seconds since 1970, in the year 5138.
_MAX_TIME: Final = 1e11
_TIME: Final = "seconds since 1970, or text such as 2026-12-01T08:00:00Z with a time zone"


class WhenNotAllowed(StrEnum):
    """What becomes of a command whose lock is in the wrong place, or too fast."""

    REJECT = "reject"
    """It ends as `rejected`."""
    WAIT = "wait"
    """It waits within its ttl."""


class ConditionFields(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The JSON fields of a command that are conditions.

    None of them may be null: a program that has lost its area must not get a command without one.
    """

    only_within: dict[str, Any] | UnsetType = UNSET
    max_speed_kmh: int | float | UnsetType = UNSET
    not_before: int | float | str | UnsetType = UNSET
    not_after: int | float | str | UnsetType = UNSET
    position_max_age: int | float | UnsetType = UNSET
    when_not_allowed: str | UnsetType = UNSET

    def conditions(self) -> Conditions | None:
        """The conditions, ``None`` without any; raises :class:`InvalidCondition`."""
        given = {name: getattr(self, name) for name in FIELDS}
        return read_conditions({name: value for name, value in given.items() if value is not UNSET})


FIELDS: Final = ConditionFields.__struct_fields__
"""The fields of a command that are conditions."""

EXPECTED: Final[Mapping[str, str]] = {
    "only_within": f'{AREA_EXPECTED}, or {{"area": "name"}}',
    "max_speed_kmh": f"km/h from 0 to {MAX_SPEED_KMH:.0f}",
    "not_before": _TIME,
    "not_after": _TIME,
    "position_max_age": f"seconds from 1 to {MAX_POSITION_AGE:.0f}, beside only_within or max_speed_kmh",
    "when_not_allowed": "reject or wait, beside only_within or max_speed_kmh",
}


class InvalidCondition(ValueError):
    """A condition is malformed: ``field``, ``problem`` and what is ``expected``, without a value of it."""

    def __init__(self, field: str, problem: str, expected: str | None = None) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem
        self.expected = EXPECTED[field] if expected is None else expected


@attrs.frozen
class Conditions:
    """What must hold at the moment at which a command is written; ``None`` is no condition.

    ``area`` is the name of an area in Redis, ``within`` one that the command itself has; at most one of them
    is set. Times are seconds since 1970, from ``not_before`` on and before ``not_after``.
    ``position_max_age`` is in seconds.
    """

    within: Area | None = None
    area: str | None = None
    max_speed_kmh: float | None = None
    not_before: float | None = None
    not_after: float | None = None
    position_max_age: float = DEFAULT_POSITION_AGE
    when_not_allowed: WhenNotAllowed = WhenNotAllowed.REJECT

    @property
    def has_place(self) -> bool:
        """Whether the lock has to be in an area."""
        return self.within is not None or self.area is not None

    @property
    def needs_position(self) -> bool:
        """Whether a live position is needed to decide."""
        return self.has_place or self.max_speed_kmh is not None

    def fields(self) -> dict[str, Any]:
        """The conditions as the fields of a command, JSON; :func:`read_conditions` reads them again."""
        found: dict[str, Any] = {}
        if self.area is not None:
            found["only_within"] = {"area": self.area}
        elif self.within is not None:
            found["only_within"] = area_fields(self.within)
        if self.max_speed_kmh is not None:
            found["max_speed_kmh"] = self.max_speed_kmh
        for name, at in (("not_before", self.not_before), ("not_after", self.not_after)):
            if at is not None:
                found[name] = iso(at)
        if self.needs_position:
            found["position_max_age"] = self.position_max_age
            found["when_not_allowed"] = str(self.when_not_allowed)
        return found


def read_conditions(values: Mapping[str, Any]) -> Conditions | None:
    """Convert the fields of a command that are conditions; ``None`` without any.

    ``values`` has those of :data:`FIELDS` that the command has. Raises :class:`InvalidCondition`.
    """
    if not values:
        return None
    area, within = _place(values.get("only_within"))
    found = Conditions(
        within,
        area,
        _number("max_speed_kmh", values.get("max_speed_kmh"), 0.0, MAX_SPEED_KMH),
        _time("not_before", values.get("not_before")),
        _time("not_after", values.get("not_after")),
        _number("position_max_age", values.get("position_max_age"), 1.0, MAX_POSITION_AGE)
        or DEFAULT_POSITION_AGE,
        _manner(values.get("when_not_allowed")),
    )
    if found.not_before is not None and found.not_after is not None and found.not_after <= found.not_before:
        raise InvalidCondition("not_after", "is not behind not_before", "a time behind not_before")
    for name in ("position_max_age", "when_not_allowed"):
        if name in values and not found.needs_position:
            raise InvalidCondition(name, "has nothing to refer to")
    return found


def from_fields(fields: object) -> Conditions | None:
    """Convert what :meth:`Conditions.fields` has made; raise :class:`InvalidCondition`."""
    try:
        return msgspec.convert(fields, ConditionFields, strict=True).conditions()
    except msgspec.ValidationError as error:
        raise InvalidCondition(FIELDS[0], f"or another condition is of the wrong kind: {error}") from None


def _place(value: Any) -> tuple[str | None, Area | None]:
    if value is None:
        return None, None
    if isinstance(value, dict) and "area" in value:
        name = value["area"]
        if len(value) > 1:
            raise InvalidCondition("only_within", "has more than the name of an area")
        if not isinstance(name, str) or not AREA_NAME.fullmatch(name):
            raise InvalidCondition("only_within", f"area is {described(name)}", NAME_EXPECTED)
        return name, None
    try:
        return None, read_area(value)
    except InvalidArea as error:
        problem = f"{error.field} {error.problem}" if error.field else error.problem
        expected = error.expected if error.field else EXPECTED["only_within"]
        raise InvalidCondition("only_within", problem, expected) from None


def _number(name: str, value: Any, least: float, most: float) -> float | None:
    if value is None:
        return None
    if not least <= value <= most:
        raise InvalidCondition(name, f"is {described(value)}")
    return float(value)


def _time(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = from_iso(value)
        except (ValueError, OverflowError):
            raise InvalidCondition(name, f"is {described(value)}") from None
    if not 0 < value < _MAX_TIME:
        raise InvalidCondition(name, f"is {described(value)}")
    return float(value)


def _manner(value: Any) -> WhenNotAllowed:
    if value is None:
        return WhenNotAllowed.REJECT
    try:
        return WhenNotAllowed(value)
    except ValueError:
        raise InvalidCondition("when_not_allowed", f"is {described(value)}") from None


@attrs.frozen
class LivePosition:
    """Where a lock is by its last live report: degrees, km/h (``None`` if unknown), seconds of age."""

    latitude: float
    longitude: float
    speed_kmh: float | None
    age: float

    def is_live(self, max_age: float) -> bool:
        """Whether it is a place on earth, and at most ``max_age`` seconds old."""
        return is_position(self.latitude, self.longitude) and 0 <= self.age <= max_age


@attrs.frozen
class Verdict:
    """Whether a command may be written now.

    ``reason`` says why not, and ``waits`` whether it may be allowed later; ``until`` is the epoch second
    before which that can't be, ``None`` if only a report of the lock can change it.
    """

    allowed: bool = False
    waits: bool = False
    reason: str = ""
    until: float | None = None


ALLOWED: Final = Verdict(allowed=True)


def judge_time(conditions: Conditions, now: float) -> Verdict | None:
    """Decide by the times alone; ``None`` if they allow the command at ``now``, in seconds since 1970."""
    if conditions.not_after is not None and now >= conditions.not_after:
        return Verdict(reason=f"not_after, {_shown(conditions.not_after)}, has passed")
    if conditions.not_before is not None and now < conditions.not_before:
        reason = f"waits for not_before, {_shown(conditions.not_before)}"
        return Verdict(waits=True, reason=reason, until=conditions.not_before)
    return None


def judge(conditions: Conditions, area: Area | None, position: LivePosition | None, now: float) -> Verdict:
    """Decide whether a command with these conditions may be written at ``now``, in seconds since 1970.

    ``area`` is what the area that the conditions name is now, and ``position`` the last one of the lock.
    """
    if (verdict := judge_time(conditions, now)) is not None:
        return verdict
    if not conditions.needs_position:
        return ALLOWED
    if conditions.area is not None and area is None:
        return Verdict(reason=f"area {conditions.area} is not defined")
    if position is None or not position.is_live(conditions.position_max_age):
        return Verdict(waits=True, reason=f"no live position within {conditions.position_max_age:g} s")
    within = conditions.within if conditions.area is None else area
    if within is not None and (verdict := _judge_place(conditions, within, position)) is not None:
        return verdict
    return _judge_speed(conditions, position) or ALLOWED


def _judge_place(conditions: Conditions, within: Area, position: LivePosition) -> Verdict | None:
    outside = within.meters_outside((position.latitude, position.longitude))
    if outside <= 0.0:
        return None
    name = "the area" if conditions.area is None else f"area {conditions.area}"
    if conditions.when_not_allowed is WhenNotAllowed.WAIT:
        # Without figures: each report would change them, and publish an event.
        return Verdict(waits=True, reason=f"waits until inside of {name}")
    return Verdict(reason=f"{distance_text(outside)} outside of {name}")


def _judge_speed(conditions: Conditions, position: LivePosition) -> Verdict | None:
    limit, speed = conditions.max_speed_kmh, position.speed_kmh
    if limit is None:
        return None
    if speed is None:
        return Verdict(waits=True, reason="the lock reports no speed")
    if speed <= limit:
        return None
    if conditions.when_not_allowed is WhenNotAllowed.WAIT:
        return Verdict(waits=True, reason=f"waits until not faster than {limit:g} km/h")
    return Verdict(reason=f"{speed:g} km/h, faster than {limit:g} km/h")


def distance_text(meters: float) -> str:
    """A distance for people: ``1,240 m``, ``12.4 km``. Never ``0 m``."""
    return f"{max(1, round(meters)):,} m" if meters < 10_000 else f"{meters / 1000:,.1f} km"


def _shown(at: float) -> str:
    return iso(at).replace(".000000", "")
