"""Reads commands from their records in Redis."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import txredisapi
from attrs import frozen

from jt709c_gateway.cli import event_format
from jt709c_gateway.cli.command_list import Listed, newest_first
from jt709c_gateway.cli.device_lookup import ResolvedDevice, resolve
from jt709c_gateway.cli.fleet import Fleet, Part
from jt709c_gateway.cli.labels import devices_in, labels_of
from jt709c_gateway.cli.table import Cell, Column, known
from jt709c_gateway.cli.time_format import age, date_and_time, parse
from jt709c_gateway.commands.model import CommandState
from jt709c_gateway.commands.serialization import public_from_hash
from jt709c_gateway.redis.labels import Label
from jt709c_gateway.redis.partitioned_queries import gather

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
    batch: str | None = None
    groups: tuple[str, ...] = ()


async def find(fleet: Fleet, wanted: CommandFilter) -> tuple[list[dict[str, Any]], dict[str, Label]]:
    """Read the matching commands, the newest first, and the labels of their locks; raise an error reply."""
    named = None if wanted.device is None else await resolve(fleet, wanted.device)
    group = await devices_in(fleet, wanted.groups)
    found: list[dict[str, Any]] = []
    async for listed in newest_first(fleet):
        for record in await read(fleet, listed):
            if _fits(record, named, wanted) and (group is None or record["device"] in group):
                found.append(record)
        if len(found) >= wanted.limit:
            break
    found = found[: wanted.limit]
    return found, await labels_of(fleet, [one["device"] for one in found if one["device"]])


async def read(fleet: Fleet, listed: Sequence[Listed]) -> list[dict[str, Any]]:
    """Read the records of commands, in order; omit unreadable and expired ones, and partitions gone away."""
    by_part: dict[Part, list[str]] = {}
    for part, command_id in listed:
        by_part.setdefault(part, []).append(command_id)

    async def ask(part: Part) -> Iterator[Any]:
        try:
            rows = await part.pipeline([("HGETALL", part.keys.command(one)) for one in by_part[part]])
            for row in rows:
                if isinstance(row, Exception) and "WRONGTYPE" not in str(row):
                    raise row
        except txredisapi.ConnectionError as error:
            fleet.lost(part, error)
            rows = [[]] * len(by_part[part])
        return iter(rows)

    replies = dict(zip(by_part, await gather([ask(part) for part in by_part]), strict=True))
    records = [_record(next(replies[part])) for part, _ in listed]
    return [record for record in records if record is not None]


def _record(row: Any) -> dict[str, Any] | None:
    """Read a record; None for one that is expired, or not written by a gateway."""
    if not row or isinstance(row, Exception):
        return None
    texts = [item.decode("utf-8", "replace") for item in row]
    try:
        return public_from_hash(dict(zip(texts[::2], texts[1::2], strict=True)))
    except (ValueError, RecursionError):
        return None


def _fits(record: Mapping[str, Any], named: ResolvedDevice | None, wanted: CommandFilter) -> bool:
    if wanted.states and record["state"] not in wanted.states:
        return False
    if wanted.batch not in (None, record["batch"]):
        return False
    if named is None:
        return True
    if named.sublock is not None:
        return bool(record["peripheral"] == named.sublock)
    return bool(record["device"] in (named.device, wanted.device))


async def full_ids(fleet: Fleet, beginning: str) -> list[Listed]:
    """Return the commands whose ids begin like this; a whole id matches only itself.

    Commands of devices in different partitions may have the same id.
    """

    async def ask(part: Part) -> list[Listed]:
        state = await part.call("HGET", part.keys.command(beginning), "state")
        return [] if state is None else [(part, beginning)]

    whole = [one for some in await fleet.each(ask) for one in some]
    if whole:
        return whole
    return [one async for listed in newest_first(fleet) for one in listed if one[1].startswith(beginning)]


def count_states(records: Sequence[Mapping[str, Any]]) -> str:
    """Say how many commands there are in each state, as `3 commands: 2 confirmed, 1 waiting`."""
    counts = Counter(str(record["state"]) for record in records)
    states = ", ".join(f"{counts[state]} {state}" for state in CommandState if state in counts)
    return f"{len(records)} {'command' if len(records) == 1 else 'commands'}: {states}"


def short_id(command_id: str) -> str:
    """Return the beginning of a long id, as `jt709c commands` shows it."""
    return command_id if len(command_id) <= _SHORT_ID else command_id[:_SHOWN_OF_ID]


def command_columns(now: datetime, local: bool, labels: Mapping[str, Label]) -> list[Column]:
    """The columns of `jt709c commands`; one for names when any of the locks has a label."""

    def name(record: Mapping[str, Any]) -> Cell:
        label = labels.get(record["device"])
        return known((label and label.name) or None)

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
        *([Column("name", name)] if labels else []),
        Column("device", lambda record: known(record["device"]), rank=1),
        Column("sub-lock", lambda record: known(record["peripheral"]), wide=True),
        Column("command", lambda record: known(record["command"])),
        Column("state", state),
        Column("issued by", lambda record: known(record["issued_by"]), rank=2),
        Column("batch", lambda record: known(record["batch"]), wide=True),
        Column("key", lambda record: known(record["key"]), wide=True),
        Column("created", time_of("created_at"), wide=True),
        Column("sent", time_of("sent_at"), wide=True),
        Column("ended", time_of("ended_at"), wide=True),
        Column("provenance", lambda record: known(record["provenance"]), wide=True),
        Column("whole id", lambda record: known(record["id"]), wide=True),
        Column("reason", lambda record: known(record["reason"] or ""), least=_REASON_WIDTH),
    ]
