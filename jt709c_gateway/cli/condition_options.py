"""Options of `send` that say where, how fast and when a command may be written."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])
#: The options by the field of the command that they set.
CONDITION_OPTIONS: Final = {
    "only_within": "--only-within",
    "max_speed_kmh": "--max-speed",
    "not_before": "--not-before",
    "not_after": "--not-after",
    "position_max_age": "--position-max-age",
    "when_not_allowed": "--when-not-allowed",
}
AREA_FORMS: Final = "circle:LAT,LON,METRES, or polygon:LAT,LON;LAT,LON;… with three corners or more"


def condition_options(command: _Command) -> _Command:
    """Add these options."""
    options = (
        click.option(
            "--only-within",
            metavar="AREA",
            callback=_place,
            help="Write it only while the lock is there: area:NAME, circle:LAT,LON,METRES, or "
            "polygon:LAT,LON;LAT,LON (three corners or more).",
        ),
        click.option("--max-speed", "max_speed_kmh", type=float, metavar="KMH", help="… and not faster."),
        click.option(
            "--not-before", metavar="TIME", help="Write it from this time on, as 2026-12-01T08:00:00Z."
        ),
        click.option("--not-after", metavar="TIME", help="Do not write it from this time on."),
        click.option(
            "--position-max-age",
            type=float,
            metavar="S",
            help="How old the position of the lock may be; 120 by default.",
        ),
        click.option(
            "--when-not-allowed",
            type=click.Choice(["reject", "wait"]),
            help="What to do where the lock is elsewhere, or too fast: end, or wait within --ttl.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def condition_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the command that these options have set."""
    return {name: fields[name] for name in CONDITION_OPTIONS if fields.get(name) is not None}


def _place(context: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if text.startswith("area:"):
        return {"area": text.removeprefix("area:")}
    try:
        return parse_place(text)
    except ValueError:
        raise click.BadParameter(f"{text[:48]}: expected area:NAME, {AREA_FORMS}") from None


def parse_place(text: str) -> dict[str, Any]:
    """Convert `circle:…` or `polygon:…` to the JSON of an area; raise ValueError for another form.

    Whether the numbers make an area is not checked.
    """
    kind, _, rest = text.partition(":")
    if kind == "circle":
        latitude, longitude, radius = map(float, rest.split(","))
        return {"circle": {"center": [latitude, longitude], "radius_m": radius}}
    if kind != "polygon":
        raise ValueError("neither a circle nor a polygon")
    corners = [[float(part) for part in corner.split(",")] for corner in rest.split(";")]
    if any(len(corner) != 2 for corner in corners):
        raise ValueError("a corner has latitude and longitude")
    return {"polygon": corners}
