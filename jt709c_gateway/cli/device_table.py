"""The columns of the fleet's table."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from jt709c_gateway.cli import time_format
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.table import UNKNOWN, Cell, Column, known
from jt709c_gateway.redis.device_summary import DeviceSummary

#: Battery level in percent up to which it is highlighted; the locks raise their alarm at 20 or 30.
_LOW_BATTERY: Final = 30


def device_columns(now: datetime, local: bool, devices: Sequence[DeviceSummary] = ()) -> list[Column]:
    """Make the columns; ages are at `now`, times of the wide ones in UTC or local.

    There is one for names when any of the devices has a label.
    """

    def ago(text: str | None) -> Cell:
        moment = time_format.parse(text)
        return known(None if moment is None else f"{time_format.age((now - moment).total_seconds())} ago")

    def placed(one: DeviceSummary) -> Cell:
        """Format the age of the position; yellow if the last report had none."""
        if one.latitude is None:
            return UNKNOWN
        text, style = ago(one.position_time)
        return text, "yellow" if one.fix == "none" else style

    def time_of(name: str) -> Column:
        def cell(one: DeviceSummary) -> Cell:
            moment = time_format.parse(getattr(one, name))
            return known(None if moment is None else time_format.date_and_time(moment, local))

        return Column(name.replace("_", " "), cell, wide=True)

    def labelled(field: str, **more: Any) -> Column:
        return Column(field, lambda one: known((one.label and getattr(one.label, field)) or None), **more)

    names = [
        Column("name", lambda one: known((one.label and one.label.name) or None, "bold")),
        labelled("group", rank=7),
        labelled("plate", wide=True),
        labelled("note", wide=True),
    ]
    return [
        *(names if any(one.label for one in devices) else []),
        Column("device", lambda one: (plain(one.device), "bold")),
        Column("imei", lambda one: known(one.imei), rank=6),
        Column("dialect", lambda one: known(one.dialect), rank=5),
        Column("firmware", lambda one: known(one.firmware), wide=True),
        Column("state", _state),
        Column("battery", _battery, rank=1),
        Column("signal", lambda one: known(one.gsm_signal), rank=4),
        Column("seen", lambda one: ago(one.seen)),
        Column("position", placed, rank=3),
        time_of("seen"),
        time_of("position_time"),
        Column("latitude", lambda one: known(one.latitude), wide=True),
        Column("longitude", lambda one: known(one.longitude), wide=True),
        Column("km/h", lambda one: known(one.speed_kmh), wide=True),
        time_of("since"),
        Column("connection", _connection, rank=2),
        Column("alarms", lambda one: (plain(", ".join(one.alarms)), "bold red")),
    ]


def _connection(one: DeviceSummary) -> Cell:
    if not one.online:
        return "offline", "dim"
    return plain(" ".join(part for part in (one.gateway, one.transport, one.peer) if part)), "green"


def _state(one: DeviceSummary) -> Cell:
    return known(one.lock_state, "bold yellow" if one.lock_state == "unlocked" else "")


def _battery(one: DeviceSummary) -> Cell:
    if one.battery_percent is None:
        return UNKNOWN
    low = one.battery_percent <= _LOW_BATTERY
    return f"{one.battery_percent} %{' charging' * bool(one.charging)}", "red" if low else ""
