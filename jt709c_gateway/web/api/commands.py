"""Serves the records of commands."""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec
from attrs import define, evolve, frozen
from msgspec import UNSET, UnsetType

from jt709c_gateway.commands.event_data import CommandData
from jt709c_gateway.commands.serialization import public_from_hash
from jt709c_gateway.redis.command_writes import KEEP
from jt709c_gateway.util.timestamps import Timestamp
from jt709c_gateway.web import query
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.merge import Merge, Page
from jt709c_gateway.web.pagination import page, rank
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition, side_by_side
from jt709c_gateway.web.query import Ranked
from jt709c_gateway.web.redis_client import PartitionsAway
from jt709c_gateway.web.router import Result, Route

MAX_COMMANDS: Final = 1000
_LIMIT: Final = query.limit_parameter(MAX_COMMANDS, 100)
_DEVICE: Final = evolve(
    query.DEVICE, description="A device id, an IMEI, or a sub-lock's id for the commands to it alone."
)
#: Commands per read, and the maximum per response.
_AT_ONCE: Final = 200
_MAX_LOOKED_AT: Final = 4000

_T = TypeVar("_T")
_Place = tuple[WebPartition, Ranked]
"""The partition of a command, and its position there: the time of its acceptance, and its id."""

#: The times of a record, latest first.
_TIMES: Final = ("ended_at", "confirmed_at", "acknowledged_at", "sent_at", "created_at")


@frozen
class _Wanted:
    """A filter of commands; None and empty values match all."""

    devices: frozenset[str]
    states: frozenset[str]
    batch: str | None

    def matches(self, row: Sequence[bytes | None] | None) -> bool:
        """Return whether a record matches; one that can't be read (None) does if all are wanted."""
        if row is None:
            return not self.devices and not self.states and self.batch is None
        state, batch, *about = (None if one is None else one.decode("utf-8", "replace") for one in row)
        if state is None or (self.states and state not in self.states):
            return False
        return self.batch in (None, batch) and (not self.devices or not self.devices.isdisjoint(about))


class CommandRecord(CommandData):
    """A command and its present state (docs/commands.rst); `time` is that of its last change."""

    time: Timestamp | None


class CommandPage(msgspec.Struct):
    """Commands, the last accepted first; `next` is the cursor to continue from, None at the end.

    `partitions_away` has the numbers of the partitions whose commands are missing.
    """

    commands: list[CommandRecord]
    next: str | None
    partitions_away: list[int] | UnsetType = UNSET


class CommandAnswer(msgspec.Struct):
    """One command and its present state."""

    command: CommandRecord


@define(eq=False)
class CommandsApi:
    """Handlers that read commands. `wall()` returns the time in epoch seconds."""

    web: PartitionedWebRedis
    wall: Any

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        return [
            Route(
                "GET",
                "/commands",
                self.commands,
                {200: Result(CommandPage)},
                (_DEVICE, query.STATE, query.BATCH, _LIMIT, query.RANKED),
            ),
            Route(
                "GET", "/commands/{id}", self.command, {200: Result(CommandAnswer)}, (query.COMMAND_IN_PATH,)
            ),
        ]

    async def commands(self, request: ApiRequest) -> Response:
        """GET /commands: the latest commands with their present states, the last accepted first.

        One answer reads a bounded number of commands; `next` continues.
        """
        name: str | None = request.param(_DEVICE)
        batch: str | None = request.param(query.BATCH)
        states: frozenset[str] = frozenset(request.params(query.STATE))
        limit: int = request.param(_LIMIT)
        after: Ranked | None = request.param(query.RANKED)
        partitions, devices = await self._of_device(name)
        wanted = _Wanted(devices, states, batch)
        oldest = self.wall() - KEEP

        async def read(partition: WebPartition, last: Ranked | None, count: int) -> Page[Ranked]:
            key = partition.keys.recent_commands
            return await page(partition.redis, key, count, last or after, oldest)

        merge = Merge(partitions, read, lambda member, _: rank(member))
        found: list[CommandRecord] = []
        away: set[int] = set()
        looked_at, rest = 0, False
        while merge.more and not rest and len(found) < limit and looked_at < _MAX_LOOKED_AT:
            places = await merge.take(_AT_ONCE)
            looked_at += len(places)
            kept = await self._select(places, wanted, away)
            chosen = kept[: limit - len(found)]
            found += await self._read(chosen, away)
            rest = len(kept) > len(chosen)
            if places:
                after = (chosen if rest else places)[-1][1]
        more = rest or merge.more
        lacking = sorted(away.union(merge.away)) or UNSET
        return json_response(CommandPage(found, ":".join(after) if more and after else None, lacking))

    async def command(self, request: ApiRequest) -> Response:
        """GET /commands/{id}: one command with its present state.

        Of several with this id, for different locks, the one accepted last.
        """
        found, away = await self.find(request.path_param(query.COMMAND_IN_PATH))
        if not found:
            if away:
                raise PartitionsAway(away)
            raise ApiError(404, "id: no such command is known; they are kept for 7 days", "id")
        return json_response(CommandAnswer(max(found, key=lambda one: one.created_at or "")))

    async def find(self, command_id: str) -> tuple[list[CommandRecord], Sequence[int]]:
        """Find the public records of a command in all partitions, and the partitions that are away.

        There are several records when several locks, in different partitions, have a command of this id.
        """
        answers = await side_by_side(self.web.partitions, lambda one: _records(one, [command_id]))
        return [record for found in answers.values() for record in found if record is not None], answers.away

    async def _of_device(self, name: str | None) -> tuple[Sequence[WebPartition], frozenset[str]]:
        """Return the partitions that have the commands of a device, and the names that these may be for."""
        if name is None:
            return self.web.partitions, frozenset()
        known = await self.web.queries.look_up(name)
        # Commands for an IMEI that has not been reported yet are in the partition of the IMEI.
        partitions = dict.fromkeys([self.web.of(known.device), self.web.of(name)])
        return list(partitions), frozenset((name, known.peripheral or known.device))

    async def _select(self, places: Sequence[_Place], wanted: _Wanted, away: set[int]) -> list[_Place]:
        """Select the commands that have a record and are wanted."""

        async def select(partition: WebPartition, command_ids: Sequence[str]) -> list[bool]:
            return [
                wanted.matches(row)
                for row in await partition.redis.readable(
                    [
                        ("HMGET", partition.keys.command(one), "state", "batch", "device", "peripheral")
                        for one in command_ids
                    ]
                )
            ]

        fits = await _each(places, select, away)
        return [place for place, fit in zip(places, fits, strict=True) if fit]

    async def _read(self, places: Sequence[_Place], away: set[int]) -> list[CommandRecord]:
        """Read the records of these commands, as far as there are any."""
        return [record for record in await _each(places, _records, away) if record is not None]


async def _each(
    places: Sequence[_Place],
    ask: Callable[[WebPartition, Sequence[str]], Awaitable[Sequence[_T]]],
    away: set[int],
) -> list[_T | None]:
    """Return an answer for each command; None for those of partitions that can't be reached."""
    names: defaultdict[WebPartition, list[str]] = defaultdict(list)
    for partition, (_, command_id) in places:
        names[partition].append(command_id)
    answers = await side_by_side(list(names), lambda one: ask(one, names[one]))
    away.update(answers.away)
    found = {partition: iter(some) for partition, some in answers.found}
    return [next(found[partition]) if partition in found else None for partition, _ in places]


async def _records(partition: WebPartition, command_ids: Sequence[str]) -> list[CommandRecord | None]:
    """Read the public record of each command; None for an unknown one."""
    rows = await partition.redis.readable([("HGETALL", partition.keys.command(one)) for one in command_ids])
    return [
        _unreadable(one) if flat is None else _record(flat)
        for one, flat in zip(command_ids, rows, strict=True)
    ]


def _record(flat: Sequence[bytes]) -> CommandRecord | None:
    texts = [item.decode("utf-8", "replace") for item in flat]
    return _public_record(dict(zip(texts[::2], texts[1::2], strict=True))) if texts else None


def _unreadable(command_id: str) -> CommandRecord:
    """A placeholder for a record that is no hash."""
    fields: dict[str, Any] = dict.fromkeys(CommandRecord.__struct_fields__)
    return CommandRecord(**{**fields, "id": command_id, "reason": "the record can't be read: it is no hash"})


def _public_record(fields: dict[str, str]) -> CommandRecord | None:
    try:
        record = public_from_hash(fields)
    except (ValueError, RecursionError):
        # Not written by a gateway.
        return None
    return CommandRecord(**record, time=next((record[name] for name in _TIMES if record[name]), None))
