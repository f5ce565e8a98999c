"""Reads commands from their records in Redis."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from attrs import frozen

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.device_lookup import ResolvedDevice, resolve
from jt709c_gateway.cli.table import Cell, Column, known
from jt709c_gateway.cli.time_format import age, date_and_time, parse
from jt709c_gateway.commands.serialization import public_from_hash
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.keys import Keys

#: Commands per request.
_PAGE: Final = 200


#: Ids up to this length are shown whole; of longer ones, the beginning, which `jt709c show` accepts.
_SHORT_ID: Final = 12


_SHOWN_OF_ID: Final = 8


#: Columns of the terminal that a reason gets at least.
_REASON_WIDTH: Final = 20


@frozen
class CommandFilter:
    """A filter of commands; None and empty values match all."""

    device: str | None
    states: frozenset[str]
    limit: int


async def find(connection: RedisConnection, keys: Keys, wanted: CommandFilter) -> list[dict[str, Any]]:
    """Read the matching commands, the newest first; raise an error reply of Redis."""
    named = None if wanted.device is None else await resolve(connection, keys, wanted.device)
    found: list[dict[str, Any]] = []
    async for ids in _ids(connection, keys):
        for record in await read(connection, keys, ids):
            if _fits(record, named, wanted):
                found.append(record)
                if len(found) == wanted.limit:
                    return found
    return found


async def _ids(connection: RedisConnection, keys: Keys) -> AsyncIterator[list[str]]:
    start = 0
    while True:
        page = await connection.call("ZREVRANGE", keys.recent_commands, start, start + _PAGE - 1)
        yield [command_id.decode("utf-8", "replace") for command_id in page]
        if len(page) < _PAGE:
            return
        start += _PAGE


async def read(connection: RedisConnection, keys: Keys, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Read the records of commands; omit unreadable and expired ones."""
    if not ids:
        return []
    rows = await connection.pipeline([("HGETALL", keys.command(one)) for one in ids])
    records = []
    for row in rows:
        if isinstance(row, Exception):
            if "WRONGTYPE" not in str(row):
                raise row
            continue
        texts = [item.decode("utf-8", "replace") for item in row]
        try:
            if texts:
                records.append(public_from_hash(dict(zip(texts[::2], texts[1::2], strict=True))))
        except (ValueError, RecursionError):
            # Not written by a gateway.
            continue
    return records


def _fits(record: Mapping[str, Any], named: ResolvedDevice | None, wanted: CommandFilter) -> bool:
    if wanted.states and record["state"] not in wanted.states:
        return False
    if named is None:
        return True
    if named.sublock is not None:
        return bool(record["peripheral"] == named.sublock)
    return bool(record["device"] in (named.device, wanted.device))


async def full_id(connection: RedisConnection, keys: Keys, beginning: str) -> list[str]:
    """Return the ids that begin like this; a whole id matches only itself."""
    if await connection.call("HGET", keys.command(beginning), "state") is not None:
        return [beginning]
    found: list[str] = []
    async for ids in _ids(connection, keys):
        found += [command_id for command_id in ids if command_id.startswith(beginning)]
    return found


def short_id(command_id: str) -> str:
    """Return the beginning of a long id, as `jt709c commands` shows it."""
    return command_id if len(command_id) <= _SHORT_ID else command_id[:_SHOWN_OF_ID]


def command_columns(now: datetime, local: bool) -> list[Column]:
    """The columns of `jt709c commands`."""

    def asked(record: Mapping[str, Any]) -> Cell:
        moment = parse(record["created_at"])
        return known(None if moment is None else f"{age((now - moment).total_seconds())} ago")

    def state(record: Mapping[str, Any]) -> Cell:
        text = str(record["state"])
        return known(text, event_format.state_style(text))

    def time_of(name: str) -> Any:
        return lambda record: known(
            None if record[name] is None else date_and_time(parse(record[name]), local)
        )

    return [
        Column("id", lambda record: known(short_id(str(record["id"])), "bold")),
        Column("asked", asked),
        Column("device", lambda record: known(record["device"]), rank=1),
        Column("sub-lock", lambda record: known(record["peripheral"]), wide=True),
        Column("command", lambda record: known(record["command"])),
        Column("state", state),
        Column("issued by", lambda record: known(record["issued_by"]), rank=2),
        Column("key", lambda record: known(record["key"]), wide=True),
        Column("created", time_of("created_at"), wide=True),
        Column("sent", time_of("sent_at"), wide=True),
        Column("ended", time_of("ended_at"), wide=True),
        Column("provenance", lambda record: known(record["provenance"]), wide=True),
        Column("whole id", lambda record: known(record["id"]), wide=True),
        Column("reason", lambda record: known(record["reason"] or ""), least=_REASON_WIDTH),
    ]
