"""`jt709c watch`: shows events as they are published."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.options import check_devices, group_option, local_option, read_kinds, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.time_format import read_since


@click.command()
@redis_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    shell_complete=completion_values.kinds,
    help="Only events of this kind; repeatable.",
)
@click.option(
    "--device",
    "names",
    multiple=True,
    callback=check_devices,
    shell_complete=completion_values.devices,
    metavar="ID",
    help="Only events of this device, IMEI, sub-lock or name; repeatable.",
)
@click.option(
    "--since",
    metavar="WHEN",
    help="Start with the stream since 90s, 30m, 2h ago, or since a time (ISO 8601, in UTC unless --local).",
)
@group_option
@local_option
@click.option("--json", "as_json", is_flag=True, help="Print the published JSON, one event per line.")
def watch(
    redis: RedisOptions,
    prefix: str,
    kinds: tuple[str, ...],
    names: tuple[str, ...],
    since: str | None,
    groups: tuple[str, ...],
    local: bool,
    as_json: bool,
) -> None:
    """Show events as the gateways publish them, one line each, until interrupted.

    After a lost connection to Redis, the events published meanwhile are read from the stream, as far as it
    reaches back and this Redis user may read it. Names and groups are those of the beginning.

    \b
    Examples:
        jt709c watch
        jt709c watch --kind lock --kind alarm --since 1h
        jt709c watch --group north --device "Truck 12"
        jt709c watch --device 794308010679 --device E03B60000A --json
    """
    from jt709c_gateway.cli.event_display import EventFilter, follow
    from jt709c_gateway.cli.redis_client import redis_link
    from jt709c_gateway.cli.runner import run

    wanted = EventFilter(prefix, read_kinds(kinds), names, read_since(since, local), as_json, local, groups)
    link = redis_link(redis)
    sys.exit(run(lambda reactor: follow(reactor, link, wanted)))
