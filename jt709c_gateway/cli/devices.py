"""`jt709c devices`: the fleet."""

import re
import sys
from typing import Any

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.common import RedisOptions, UserError, redis_options

#: `sentence` is one of which only such sentences were heard as several dialects have.
_DIALECTS = ("jt709", "jt705", "jt701", "sentence")
_SORTS = ("seen", "device", "imei", "battery", "signal", "state", "alarms", "gateway", "since", "speed")


@click.command(short_help="Show the fleet, with filters.")
@click.argument("texts", nargs=-1, metavar="[TEXT]...")
@redis_options
@click.option("--online/--offline", default=None, help="Only those that a gateway holds, or that none does.")
@click.option("--state", type=click.Choice(["locked", "unlocked"]), help="Only those last heard to be so.")
@click.option(
    "--alarm",
    "alarms",
    multiple=True,
    metavar="NAME",
    shell_complete=completion_values.alarms,
    help="Only those with this alarm; repeatable, one suffices.",
)
@click.option("--with-alarms", is_flag=True, help="Only those with any alarm.")
@click.option("--battery-below", type=click.IntRange(0, 101), metavar="N", help="Only those with less, in %.")
@click.option("--silent-for", metavar="DURATION", help="Only those not heard for so long: 90s, 30m, 2h, 7d.")
@click.option(
    "--dialect", "dialects", multiple=True, type=click.Choice(_DIALECTS), help="Only this one; repeatable."
)
@click.option("--gateway", "gateways", multiple=True, metavar="NAME", help="Only those it holds; repeatable.")
@click.option(
    "--sort",
    type=click.Choice(_SORTS),
    default="seen",
    show_default=True,
    help="What to sort by; what isn't known comes last.",
)
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line, unknown values as null.")
def devices(
    texts: tuple[str, ...],
    redis: RedisOptions,
    prefix: str,
    silent_for: str | None,
    as_json: bool,
    **filters: Any,
) -> None:
    """Show the fleet: each device with lock state, battery, signal and alarms, when it was last heard, and
    which gateway holds it. The latest heard come first.

    Of several filters all have to fit. Each TEXT is looked for in device id, IMEI, firmware, gateway and
    peer. What isn't known of a device fits no filter.

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
            raise UserError(f"--alarm: {name!r} is no alarm; expected one of {known}")
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
