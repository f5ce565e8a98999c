"""`jt709c devices`: shows the fleet."""

import re
import sys
from typing import Any

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.common import RedisOptions, UserError, redis_options

#: `sentence`: only sentences that several dialects share were received.
_DIALECTS = ("jt709", "jt705", "jt701", "sentence")
_SORTS = ("seen", "device", "imei", "battery", "signal", "state", "alarms", "gateway", "since", "speed")


@click.command(short_help="Show the fleet, with filters.")
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
    "--battery-below", type=click.IntRange(0, 101), metavar="N", help="Only devices below N % battery."
)
@click.option("--silent-for", metavar="DURATION", help="Only devices silent for at least 90s, 30m, 2h, 7d.")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    type=click.Choice(_DIALECTS),
    help="Only this dialect; repeatable.",
)
@click.option(
    "--gateway", "gateways", multiple=True, metavar="NAME", help="Only devices of this gateway; repeatable."
)
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    default="seen",
    show_default=True,
    help="Sort key; unknown values come last.",
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show at most N devices.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line; unknown values are null."
)
def devices(
    texts: tuple[str, ...],
    redis: RedisOptions,
    prefix: str,
    silent_for: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Show the fleet: each device with lock state, battery, signal, alarms, the time of its last report, and
    its gateway. The last seen devices come first.

    A device must pass all filters. Each TEXT is searched in device id, IMEI, firmware, gateway and peer. An
    unknown value passes no filter.

    \b
    Examples:
        jt709c devices --with-alarms
        jt709c devices --offline --silent-for 2h --sort seen --reverse
        jt709c devices --state unlocked --battery-below 20 --limit 10
        jt709c devices 867284 --json | jq -r .device
    """
    from jt709c_gateway.cli import device_query
    from jt709c_gateway.cli.redis_client import reach
    from jt709c_gateway.cli.redis_connection import FirstConnection
    from jt709c_gateway.cli.runner import run
    from jt709c_gateway.cli.time_format import read_duration
    from jt709c_gateway.protocol.alarms import NAMES

    for name in filters["alarms"]:
        if name not in NAMES and re.fullmatch(r"bit_\d{1,2}", name) is None:
            known = ", ".join([*NAMES, "bit_<n>"])
            raise UserError(f"--alarm: {name!r} is not an alarm; expected one of {known}")
    link = reach(redis)
    filters |= {name: frozenset(filters[name]) for name in ("alarms", "dialects", "gateways")}
    filters["texts"] = tuple(text.lower() for text in texts)
    if silent_for is not None:
        filters["silent_for"] = read_duration("--silent-for", silent_for)
    wanted = device_query.DeviceFilter(**filters)
    first = FirstConnection(link.address.masked())
    sys.exit(
        run(lambda reactor: device_query.show(reactor, link, prefix, first, wanted, as_json), first.notice)
    )
