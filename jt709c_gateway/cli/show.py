"""`jt709c show`: shows one command."""

from collections.abc import Mapping
from typing import Any

import click
import msgspec
import txredisapi

from jt709c_gateway.cli.commands import full_id, read
from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.options import local_option, redis_options
from jt709c_gateway.cli.redis_client import RedisOptions, query
from jt709c_gateway.cli.time_format import date_and_time, parse
from jt709c_gateway.cli.timeline import INDENT, Timeline
from jt709c_gateway.commands.model import COMMAND_ID
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys

#: Fields of the record that the timeline shows anyway.
_SHOWN_BELOW = frozenset(["id", "state", "sent_at", "acknowledged_at", "confirmed_at"])


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
    keys = Keys(prefix)

    async def question(connection: RedisConnection) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        record = await _find(connection, keys, command_id)
        return record, [] if as_json else await _history(connection, keys, record)

    record, events = query(redis, prefix, "read commands", question, "jt709c-commander")
    if as_json:
        click.echo(to_json(record))
    else:
        _print(record, events, local)


async def _find(connection: RedisConnection, keys: Keys, beginning: str) -> dict[str, Any]:
    ids = await full_id(connection, keys, beginning)
    if len(ids) > 1:
        raise UserError(f"the ids of {len(ids)} commands begin with {beginning}, as {ids[0]} and {ids[1]}")
    records = await read(connection, keys, ids)
    if not records:
        raise UserError(f"{beginning}: no such command is known; they are kept for 7 days")
    return records[0]


async def _history(
    connection: RedisConnection, keys: Keys, record: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Read the events of the command in the audit trail of its device."""
    if not record["device"]:
        return []
    try:
        entries = await connection.call("XRANGE", keys.history(record["device"]), "-", "+")
    except txredisapi.ResponseError:
        return []
    events = []
    for _, fields in entries:
        texts = dict(zip(fields[::2], fields[1::2], strict=False))
        try:
            event = msgspec.json.decode(texts.get(b"event", b""), type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            continue
        data = event.get("data")
        if isinstance(data, dict) and record["id"] in (data.get("id"), data.get("command_id")):
            events.append(event)
    return events


def _print(record: Mapping[str, Any], events: list[dict[str, Any]], local: bool) -> None:
    out = console()
    out.print(f"command {plain(record['id'])}: {plain(record['state'])}", style="bold", soft_wrap=True)
    for name, value in record.items():
        if value is None or value == {} or (events and name in _SHOWN_BELOW):
            continue
        if name.endswith("_at"):
            value = date_and_time(parse(value), local, milliseconds=True)
        text = value if isinstance(value, str) else to_json(value).decode()
        out.print(f"    {name:<16}{plain(text)}", soft_wrap=True)
    timeline = Timeline(local)
    for event in events:
        print_line(out, timeline.line(event), INDENT)
