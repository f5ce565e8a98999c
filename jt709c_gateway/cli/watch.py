"""`jt709c watch`: shows events as they are published."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.common import RedisOptions, check_devices, read_kinds, redis_options


@click.command(short_help="Show live events.")
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
    help="Only events of this device, IMEI or sub-lock; repeatable.",
)
@click.option(
    "--since",
    metavar="WHEN",
    help="Start with the stream since 90s, 30m, 2h ago, or since a time (ISO 8601; UTC).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the published JSON, one event per line.")
def watch(
    redis: RedisOptions,
    prefix: str,
    kinds: tuple[str, ...],
    names: tuple[str, ...],
    since: str | None,
    as_json: bool,
) -> None:
    """Show events as the gateways publish them, one line each, until interrupted. Times are in UTC.

    When the connection to Redis is lost, it is made anew, and what was published meanwhile is read out of the
    stream of events, as far as that reaches back and this user may read it.

    \b
    Examples:
        jt709c watch
        jt709c watch --kind lock --kind alarm --since 1h
        jt709c watch --device 794308010679 --device E03B60000A --json
    """
    from jt709c_gateway.cli import watch_stream
    from jt709c_gateway.cli.redis_client import reach
    from jt709c_gateway.cli.runner import run
    from jt709c_gateway.cli.time_format import read_since

    wanted = watch_stream.EventFilter(prefix, read_kinds(kinds), names, read_since(since), as_json)
    link = reach(redis)
    sys.exit(run(lambda reactor: watch_stream.watch(reactor, link, wanted)))
