"""`jt709c commands`: lists the latest commands."""

from datetime import UTC, datetime

import click

from jt709c_gateway.cli import completion_values
from jt709c_gateway.cli.options import (
    IntegerRange,
    check_batch,
    check_device,
    group_option,
    local_option,
    output_options,
    redis_options,
)
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS
from jt709c_gateway.redis.command_writes import MAX_RECENT


@click.command()
@click.argument("device", required=False, callback=check_device, shell_complete=completion_values.devices)
@redis_options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(state) for state in CommandState]),
    metavar="STATE",
    help="Only commands in this state, such as uncertain; repeatable.",
)
@click.option(
    "--batch",
    callback=check_batch,
    metavar="BATCH",
    help="Only commands of this batch, with how many of them are in each state.",
)
@click.option(
    "--limit",
    type=IntegerRange(1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most N commands.",
)
@group_option
@local_option
@output_options
def commands(
    device: str | None,
    redis: RedisOptions,
    prefix: str,
    states: tuple[str, ...],
    batch: str | None,
    limit: int,
    groups: tuple[str, ...],
    local: bool,
    output: str,
) -> None:
    """List the latest commands with their states, the newest first, of all locks or of the lock DEVICE.

    Commands are kept for 7 days. Without -o wide, the beginning of a long id is shown, which is enough for
    jt709c show. Reading commands needs the rights of jt709c-commander. With --batch, the last line says on
    standard error how many of its commands are in each state, also of those that --limit leaves out.

    \b
    Examples:
        jt709c commands
        jt709c commands 794308010679 --limit 5
        jt709c commands "Truck 12"
        jt709c commands --state uncertain --state unconfirmed -o csv
        jt709c commands --batch night-shift-1
    """
    from jt709c_gateway.cli.command_query import CommandFilter, command_columns, count_states, find
    from jt709c_gateway.cli.query import end_partial, query_all
    from jt709c_gateway.cli.runner import notice
    from jt709c_gateway.cli.table import print_records

    wanted = CommandFilter(device, frozenset(states), limit if batch is None else MAX_RECENT, batch, groups)
    (found, labels), away = query_all(
        redis, prefix, "read commands", lambda fleet: find(fleet, wanted), "jt709c-commander"
    )
    print_records(found[:limit], command_columns(datetime.now(UTC), local, labels), PUBLIC_FIELDS, output)
    if found and batch is not None:
        notice(f"batch {batch}: {count_states(found)}")
    if not found:
        notice("no such commands are known; they are kept for 7 days")
    end_partial(away)
