"""`jt709c show`: shows one command."""

from typing import Any

import click

from jt709c_gateway.cli.options import local_option, redis_options
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.commands.model import COMMAND_ID
from jt709c_gateway.protocol.events import to_json


def _check_id(_: click.Context, __: click.Parameter, value: str) -> str:
    if COMMAND_ID.fullmatch(value) is None:
        raise click.BadParameter("this is not the id of a command: 1 to 64 letters, digits, - or _")
    return value


@click.command()
@click.argument("command_id", metavar="ID", callback=_check_id)
@redis_options
@local_option
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def show(command_id: str, redis: RedisOptions, prefix: str, local: bool, as_json: bool) -> None:
    """Show the command ID: its record, its states, and what the lock did because of it.

    The beginning of an id is enough if no other command has the same. Reading commands needs the rights of
    jt709c-commander.

    \b
    Examples:
        jt709c show 216a4104
        jt709c show 216a41043f7c46408d6f736b97b4aba8 --json
    """
    from jt709c_gateway.cli.command_trail import find_commands, print_command, read_events
    from jt709c_gateway.cli.fleet import Fleet
    from jt709c_gateway.cli.labels import labels_of
    from jt709c_gateway.cli.query import end_partial, query_all
    from jt709c_gateway.redis.labels import Label

    async def question(fleet: Fleet) -> list[tuple[dict[str, Any], list[dict[str, Any]], Label | None]]:
        records = await find_commands(fleet, command_id)
        if as_json:
            return [(one, [], None) for one in records]
        labels = await labels_of(fleet, [one["device"] for one in records if one["device"]])
        return [(one, await read_events(fleet, one), labels.get(one["device"])) for one in records]

    found, away = query_all(redis, prefix, "read commands", question, "jt709c-commander")
    for record, events, label in found:
        if as_json:
            click.echo(to_json(record))
        else:
            print_command(record, events, local, label)
    if found[0][0]["id"] != command_id:
        # Others may begin in the same way.
        end_partial(away)
