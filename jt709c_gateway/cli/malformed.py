"""`jt709c malformed`: shows input that the gateways could not read."""

import click

from jt709c_gateway.cli.options import IntegerRange, local_option, output_options, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.time_format import read_since


@click.command()
@redis_options
@click.option(
    "--since",
    metavar="WHEN",
    help="Only input since 90s, 30m, 2h, 7d ago, or since a time (ISO 8601, in UTC unless --local).",
)
@click.option("--reason", "reasons", multiple=True, metavar="REASON", help="Only this reason; repeatable.")
@click.option(
    "--limit",
    type=IntegerRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most N entries, the newest.",
)
@local_option
@output_options
def malformed(
    redis: RedisOptions,
    prefix: str,
    since: str | None,
    reasons: tuple[str, ...],
    limit: int,
    local: bool,
    output: str,
) -> None:
    """Show input that the gateways could not read, and frames of locks that they do not admit, oldest first.

    The reason not_admitted marks a frame of a lock that is not admitted. jt709c explain shows what a frame
    contains and where it is broken. Reading this needs the rights of jt709c-reader or jt709c-operator.

    \b
    Examples:
        jt709c malformed --since 1d
        jt709c malformed --reason not_admitted -o csv
        jt709c malformed --json | jq -r .raw | jt709c explain -
    """
    from jt709c_gateway.cli.fleet import Fleet, Part
    from jt709c_gateway.cli.malformed_table import FIELDS, Entry, malformed_columns, newest_first
    from jt709c_gateway.cli.query import end_partial, query_all
    from jt709c_gateway.cli.runner import notice
    from jt709c_gateway.cli.table import print_records

    begin = read_since(since, local)

    async def read(part: Part) -> list[Entry]:
        oldest = "-" if begin is None else str(max(0, int(begin * 1000)))
        entries: list[Entry] = await part.call("XREVRANGE", part.keys.malformed, "+", oldest)
        return entries

    async def question(fleet: Fleet) -> list[dict[str, str]]:
        return newest_first(await fleet.each(read))

    found, away = query_all(redis, prefix, "read malformed input", question)
    chosen = [one for one in found if not reasons or one.get("reason") in reasons][:limit][::-1]
    print_records(chosen, malformed_columns(local), FIELDS, output)
    if not chosen:
        notice("no such input is known")
    end_partial(away)
