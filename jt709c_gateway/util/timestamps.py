"""Timestamps as ISO 8601 text in UTC, as events and hashes have them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, overload

from msgspec import Meta

Timestamp = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$",
        extra_json_schema={"format": "date-time"},
    ),
]
"""A time as `iso` formats it."""


@overload
def iso(at: float) -> str: ...
@overload
def iso(at: float | None) -> str | None: ...
def iso(at: float | None) -> str | None:
    """Format seconds since 1970 as ISO 8601 text with ``Z``."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def from_iso(text: str) -> float:
    """Parse ISO 8601 text with a time zone into seconds since 1970; raise :class:`ValueError` otherwise."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment.timestamp()
