"""`jt709c history`: shows the audit trail of a device."""

import sys

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.common import RedisOptions, check_device, redis_options

#: The kinds of events in a history (docs/redis.rst, "The audit trail").
_KINDS = ("command", "lock", "alarm")


@click.command(short_help="Show the audit trail of a lock.")
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only entries since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601; UTC).",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    metavar="N",
    help="Show at most N entries, the newest.",
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(_KINDS),
    help="Only entries of this kind; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the published JSON, one event per line.")
def history(
    device: str,
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    limit: int,
    kinds: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show the audit trail of the lock DEVICE: commands with sender and outcome, and events of the lock.

    DEVICE is a device id, an IMEI, or the id of a sub-lock, for which the trail of its master is shown. The
    states of a command are indented below it, each with the seconds since the command was given. Times are
    in UTC.

    \b
    Examples:
        jt709c history 794308010679 --since 7d
        jt709c history 794308010679 --kind command --json
    """
    from jt709c_gateway.cli import history_query
    from jt709c_gateway.cli.redis_client import reach
    from jt709c_gateway.cli.redis_connection import FirstConnection
    from jt709c_gateway.cli.runner import run
    from jt709c_gateway.cli.time_format import read_since

    link = reach(redis)
    wanted = history_query.HistoryFilter(prefix, device, read_since(since), limit, frozenset(kinds), as_json)
    first = FirstConnection(link.address.masked())
    sys.exit(run(lambda reactor: history_query.show(reactor, link, first, wanted), first.notice))
