"""`jt709c repartition`: moves the keys of a stopped fleet to another number of partitions."""

import sys

import click

from jt709c_gateway.cli.options import IntegerRange, server_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.redis.partitions import MAX_PARTITIONS

_COUNT = IntegerRange(1, MAX_PARTITIONS)


@click.command()
@server_options
@click.option("--from", "before", type=_COUNT, required=True, help="Number of partitions now.")
@click.option("--to", "after", type=_COUNT, required=True, help="Number of partitions that there shall be.")
@click.option("--from-prefix", metavar="TEXT", help="Prefix now; by default that of --prefix.")
@click.option("--to-redis", metavar="URL", help="Servers that the keys move to; by default those of --redis.")
@click.option("--dry-run", is_flag=True, help="Check and count, and write nothing.")
@click.option("--abandon", is_flag=True, help="Give up a move whose old keys are still there.")
@click.option(
    "--leave-unknown", is_flag=True, help="Leave keys that are none of the gateway's where they are."
)
def repartition(
    redis: RedisOptions,
    prefix: str,
    before: int,
    after: int,
    from_prefix: str | None,
    to_redis: str | None,
    dry_run: bool,
    abandon: bool,
    leave_unknown: bool,
) -> None:
    """Move all keys of a stopped fleet to another number of partitions, or to other servers.

    All gateways must be stopped, and can't start until the move has ended. The keys are copied, the copies
    compared with them, and only then the old ones deleted, so there must be memory for both. When it is
    interrupted, run it again with the same options. For several servers, give --redis all addresses with
    blanks between them, as for the gateways.

    \b
    Examples:
        jt709c repartition --from 1 --to 4 --dry-run
        jt709c repartition --from 1 --to 4
        jt709c repartition --from 1 --to 12 --from-prefix '{jt709c}'
        jt709c repartition --from 4 --to 8 --to-redis 'redis://b redis://c'
    """
    from jt709c_gateway.cli.repartition_run import Wanted, run_repartition

    wanted = Wanted(before, after, from_prefix or prefix, prefix, to_redis, dry_run, abandon, leave_unknown)
    sys.exit(run_repartition(redis, wanted))
