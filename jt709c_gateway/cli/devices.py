"""`jt709c devices`: shows the fleet."""

import re
from datetime import UTC, datetime
from typing import Any

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.device_sort import SORTS
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import IntegerRange, group_option, local_option, output_options, redis_options
from jt709c_gateway.cli.output import Output
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.time_format import read_duration
from jt709c_gateway.protocol.alarms import NAMES
from jt709c_gateway.protocol.dialects import DIALECTS, SENTENCE


@click.command()
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@redis_options
@click.option("--online/--offline", default=None, help="Only connected, or only disconnected devices.")
@click.option("--state", type=click.Choice(["locked", "unlocked"]), help="Only devices in this state.")
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    metavar="NAME",
    shell_complete=completion_values.alarms,
    help="Only devices with this alarm; repeatable (any of them).",
)
@click.option("--with-alarms", is_flag=True, help="Only devices with any alarm.")
@click.option(
    "--battery-below", type=IntegerRange(0, 101), metavar="N", help="Only devices below N % battery."
)
@click.option("--silent-for", metavar="DURATION", help="Only devices silent for at least 90s, 30m, 2h, 7d.")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice([*DIALECTS, SENTENCE]),
    help="Only this dialect; repeatable.",
)
@click.option(
    "--gateway", "gateways", multiple=True, metavar="NAME", help="Only devices of this gateway; repeatable."
)
@click.option(
    "--sort",
    type=click.Choice(list(SORTS)),
    metavar="KEY",
    default="seen",
    show_default=True,
    help=f"Sort key: {', '.join(SORTS)}. Unknown values come last.",
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=IntegerRange(1), metavar="N", help="Show at most N devices.")
@click.option(
    "-w",
    "--watch",
    is_flag=True,
    help="Show the fleet, read every 2 s, until interrupted.",
)
@group_option
@local_option
@output_options
def devices(
    texts: tuple[str, ...],
    redis: RedisOptions,
    prefix: str,
    silent_for: str | None,
    watch: bool,
    local: bool,
    output: str,
    **filters: Any,
) -> None:
    """Show the fleet: each device with lock state, battery, signal, alarms, the time of its last report, and
    its gateway. The last seen devices come first.

    On a narrow terminal, columns that do not fit are left out; -o wide shows all of them.

    A device must pass all filters. Each TEXT is searched in name, group, plate, note, device id, IMEI,
    firmware, gateway and peer. An unknown value passes no filter.

    \b
    Examples:
        jt709c devices --with-alarms
        jt709c devices --online -w
        jt709c devices --silent-for 2h -o csv
        jt709c devices --offline --silent-for 2h --sort seen --reverse
        jt709c devices --state unlocked --battery-below 20 --limit 10
        jt709c devices --group north --group south --online
        jt709c devices 867284 --json | jq -r .device
    """
    from jt709c_gateway.cli.console import console
    from jt709c_gateway.cli.device_query import DeviceFilter, Screen, find, page_summary
    from jt709c_gateway.cli.device_table import device_columns
    from jt709c_gateway.cli.query import end_partial, query
    from jt709c_gateway.cli.runner import notice
    from jt709c_gateway.cli.table import print_records
    from jt709c_gateway.redis.device_summary import DeviceSummary
    from jt709c_gateway.redis.labels import LABEL_FIELDS

    for name in filters["alarms"]:
        if name not in NAMES and re.fullmatch(r"bit_\d{1,2}", name) is None:
            known = ", ".join([*NAMES, "bit_<n>"])
            raise UserError(f"--alarm: {name!r} is not an alarm; expected one of {known}")
    filters |= {name: frozenset(filters[name]) for name in ("alarms", "dialects", "gateways")}
    filters["texts"] = tuple(text.casefold() for text in texts)
    filters["groups"] = frozenset(name.casefold() for name in filters["groups"])
    if silent_for is not None:
        filters["silent_for"] = read_duration("--silent-for", silent_for)
    wanted = DeviceFilter(**filters)
    table = output in (Output.TABLE, Output.WIDE)
    if watch:
        if not table or not console().is_terminal:
            raise UserError("--watch: expected a terminal, and -o table or wide")
        query(redis, prefix, "read the fleet", Screen(wanted, output, local).show, stay=True)
        return
    page = query(redis, prefix, "read the fleet", lambda fleet: find(fleet, wanted))
    columns = device_columns(datetime.now(UTC), local, page.devices)
    fields = [name for name in DeviceSummary.__struct_fields__ if name != "label"]
    print_records(page.devices, columns, [*fields, *(f"label.{name}" for name in LABEL_FIELDS)], output)
    if table:
        notice(page_summary(page, wanted))
    end_partial(page.away)
