"""Prints the fleet as a table; rich's own takes seconds to measure 10,000 rows."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from jt709c_gateway.cli import time_format
from jt709c_gateway.cli.console import plain
from jt709c_gateway.redis.device_summary import DeviceSummary

#: A text and its style.
Cell = tuple[str, str]
_GAP: Final = "  "
#: Rows per write.
_ROWS: Final = 500
#: Battery level in percent up to which it is highlighted; the locks raise their alarm at 20 or 30.
_LOW_BATTERY: Final = 30
_NOTHING: Final[Cell] = ("-", "dim")


def _known(value: object, style: str = "") -> Cell:
    return _NOTHING if value is None else (plain(value), style)


def _where(one: DeviceSummary, _: datetime) -> Cell:
    if not one.online:
        return "offline", "dim"
    return plain(" ".join(part for part in (one.gateway, one.transport, one.peer) if part)), "green"


def _state(one: DeviceSummary, _: datetime) -> Cell:
    return _known(one.lock_state, "bold yellow" if one.lock_state == "unlocked" else "")


def _battery(one: DeviceSummary, _: datetime) -> Cell:
    if one.battery_percent is None:
        return _NOTHING
    low = one.battery_percent <= _LOW_BATTERY
    return f"{one.battery_percent} %{' charging' * bool(one.charging)}", "red" if low else ""


def _seen(one: DeviceSummary, now: datetime) -> Cell:
    moment = time_format.parse(one.seen)
    return _NOTHING if moment is None else (f"{time_format.age((now - moment).total_seconds())} ago", "")


def _placed(one: DeviceSummary, now: datetime) -> Cell:
    """Format the age of the position; yellow if the last report had none."""
    moment = time_format.parse(one.position_time)
    if moment is None or one.latitude is None:
        return _NOTHING
    return (
        f"{time_format.age(max((now - moment).total_seconds(), 0.0))} ago",
        "" if one.fix != "none" else "yellow",
    )


def _alarms(one: DeviceSummary, _: datetime) -> Cell:
    return plain(", ".join(one.alarms)), "bold red"


_COLUMNS: Final[Sequence[tuple[str, Callable[[DeviceSummary, datetime], Cell]]]] = (
    ("device", lambda one, _: (plain(one.device), "bold")),
    ("imei", lambda one, _: _known(one.imei)),
    ("dialect", lambda one, _: _known(one.dialect)),
    ("state", _state),
    ("battery", _battery),
    ("signal", lambda one, _: _known(one.gsm_signal)),
    ("seen", _seen),
    ("place", _placed),
    ("where", _where),
    ("alarms", _alarms),
)


def show(out: Console, devices: Iterable[DeviceSummary], now: datetime) -> None:
    """Print a heading and a line for each device."""
    rows = [[cell(one, now) for _, cell in _COLUMNS] for one in devices]
    heading: list[Cell] = [(name, "bold underline") for name, _ in _COLUMNS]
    widths = [max(map(cell_len, (text for text, _ in column))) for column in zip(heading, *rows, strict=True)]
    _print(out, [heading], widths)
    for start in range(0, len(rows), _ROWS):
        _print(out, rows[start : start + _ROWS], widths)


def _print(out: Console, rows: Sequence[Sequence[Cell]], widths: Sequence[int]) -> None:
    segments: list[Segment] = []
    for row in rows:
        gap = ""
        for (text, style), width in zip(row, widths, strict=True):
            if text:
                segments.append(Segment(gap + text if not style else gap))
                if style:
                    segments.append(Segment(text, _style(style)))
                gap = ""
            gap += " " * (width - cell_len(text)) + _GAP
        segments.append(Segment.line())
    out.print(Segments(segments), end="", soft_wrap=True)


_style = cache(Style.parse)
