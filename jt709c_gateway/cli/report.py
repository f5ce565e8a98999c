"""`jt709c report`: shows who opened and closed locks in a period."""

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.options import check_device, local_option, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.time_format import read_duration, read_since


@click.command()
@click.argument("device", callback=check_device, required=False, shell_complete=completion_values.devices)
@redis_options
@click.option("--group", metavar="NAME", help="All locks of this group, at most 500.")
@click.option(
    "--from",
    "begin",
    metavar="WHEN",
    default="24h",
    show_default=True,
    help="The beginning: 90s, 30m, 2h, 7d ago, or a time (ISO 8601, in UTC unless --local).",
)
@click.option("--to", "end", metavar="WHEN", help="The end, which is not part of it; now by default.")
@click.option(
    "--gap",
    metavar="DURATION",
    default="1h",
    show_default=True,
    help="List spans without a record of at least this length.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "csv"]),
    default="text",
    show_default=True,
    help="For people, or one document for programs; CSV has a line for each entry.",
)
@local_option
def report(
    device: str | None,
    redis: RedisOptions,
    prefix: str,
    group: str | None,
    begin: str,
    end: str | None,
    gap: str,
    form: str,
    local: bool,
) -> None:
    """Show the openings and closings of the lock DEVICE, or of a group: who, how, where, by which command.

    Also alarms, spans without a record, and what is not known: an audit trail that was trimmed does not show
    that nothing happened. The times of a lock are corrected by the skew of its clock.

    \b
    Examples:
        jt709c report 794308010679 --from 7d
        jt709c report --group North --from 7d --format csv > week.csv
    """
    from jt709c_gateway.cli.report_query import Wanted, run_report

    wanted = Wanted(
        device,
        group,
        read_since(begin, local, "--from") or 0.0,
        read_since(end, local, "--to"),
        read_duration("--gap", gap),
        form,
        local,
    )
    run_report(redis, prefix, wanted)
