"""Parses and formats times and durations."""

import re
import time
from datetime import UTC, datetime
from typing import Final

from jt709c_gateway.cli.errors import UserError

_DURATION: Final = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_UNKNOWN_TIME_OF_DAY: Final = "--:--:--"
_STEPS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def read_duration(option: str, text: str) -> float:
    """Parse `90s`, `30m`, `2h` or `7d` into seconds; raise UserError with the option."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UserError(f"{option}: {text!r} is not a duration; expected one such as 90s, 30m, 2h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def read_since(text: str | None, local: bool = False, option: str = "--since") -> float | None:
    """Parse a time or an age into epoch seconds; raise UserError with the option.

    A time without a zone is in UTC, or with `local` in the local zone.
    """
    if text is None:
        return None
    if _DURATION.fullmatch(text.strip()):
        return time.time() - read_duration(option, text)
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None and not local:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        right = "a duration such as 90s, 30m, 2h or 7d, or a time such as 2026-11-22T10:15"
        raise UserError(f"{option}: {text!r} is not a time; expected {right}") from None


def parse(value: object) -> datetime | None:
    """Parse a time of an event (RFC 3339), UTC by default; None if it is invalid."""
    try:
        moment = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def time_of_day(moment: datetime | None, local: bool) -> str:
    """Format a time of day with its zone: `20:06:19Z`, with `local` `21:06:19+01:00`."""
    return _UNKNOWN_TIME_OF_DAY if moment is None else _format(moment, "%H:%M:%S", local)


def date_and_time(moment: datetime | None, local: bool, *, milliseconds: bool = False) -> str:
    """Format a time with date and zone: `2026-11-25 20:06:15Z`; None is dashes."""
    if moment is None:
        return "-" * (23 if milliseconds else 19)
    if not milliseconds:
        return _format(moment, "%Y-%m-%d %H:%M:%S", local)
    return _format(moment, f"%Y-%m-%d %H:%M:%S.{moment.microsecond // 1000:03}", local)


def _format(moment: datetime, layout: str, local: bool) -> str:
    if not local:
        return f"{moment.astimezone(UTC):{layout}}Z"
    moment = moment.astimezone()
    offset = f"{moment:%z}"
    return f"{moment:{layout}}{offset[:3]}:{offset[3:5]}"


def age(seconds: float) -> str:
    """Format an age in its largest unit: `12 s`, `14 min`, `3 h`, `2 d`."""
    seconds = max(0.0, seconds)
    size, unit = next((step for step in _STEPS if seconds >= step[0]), _STEPS[-1])
    return f"{int(seconds // size)} {unit}"
