"""`jt709c history`: shows the audit trail of a device."""

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.options import IntegerRange, check_device, local_option, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.time_format import read_since

#: The kinds of events in a history (docs/redis.rst, "The audit trail").
_KINDS = ("command", "lock", "alarm")


@click.command()
@click.argument("device", callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only entries since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601, in UTC unless --local).",
)
@click.option(
    "--limit",
    type=IntegerRange(1),
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
@local_option
@click.option("--json", "as_json", is_flag=True, help="Print the published JSON, one event per line.")
def history(
    device: str,
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    limit: int,
    kinds: tuple[str, ...],
    local: bool,
    as_json: bool,
) -> None:
    """Show the audit trail of the lock DEVICE: commands with sender and outcome, and events of the lock.

    DEVICE is a device id, an IMEI, a name, or the id of a sub-lock, for which the trail of its master is
    shown. The states of a command are indented below it, each with the seconds since the command was given.

    \b
    Examples:
        jt709c history 794308010679 --since 7d
        jt709c history 794308010679 --kind command --json
    """
    from jt709c_gateway.cli.history_query import HistoryFilter, find_entries, print_entries
    from jt709c_gateway.cli.query import query
    from jt709c_gateway.cli.runner import notice

    wanted = HistoryFilter(prefix, device, read_since(since, local), limit, frozenset(kinds), local, as_json)
    found = query(redis, prefix, "read a history", lambda fleet: find_entries(fleet, wanted))
    if found.more:
        notice(f"there are older entries; these are the newest {limit} (--limit)")
    print_entries(found, wanted)
