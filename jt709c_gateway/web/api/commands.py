"""Serves the records of commands."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from attrs import define, evolve, field

from jt709c_gateway.commands.event_data import CommandData
from jt709c_gateway.commands.serialization import public_from_hash
from jt709c_gateway.redis.command_writes import KEEP
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.util.timestamps import Timestamp
from jt709c_gateway.web import pagination
from jt709c_gateway.web import query as read
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.redis_client import WebRedis
from jt709c_gateway.web.router import Result, Route

MAX_COMMANDS: Final = 1000
_LIMIT: Final = read.limit_parameter(MAX_COMMANDS, 100)
_DEVICE: Final = evolve(
    read.DEVICE, description="A device id, an IMEI, or a sub-lock's id for the commands to it alone."
)
#: Commands per read, and the maximum per response.
_AT_ONCE: Final = 200
_MAX_LOOKED_AT: Final = 4000

#: The times of a record, latest first.
_TIMES: Final = ("ended_at", "confirmed_at", "acknowledged_at", "sent_at", "created_at")


class CommandRecord(CommandData):
    """A command and its present state (docs/commands.rst); `time` is that of its last change."""

    time: Timestamp | None


class CommandPage(msgspec.Struct):
    """Commands, the last accepted first; `next` is the cursor to continue from, None at the end."""

    commands: list[CommandRecord]
    next: str | None


class CommandAnswer(msgspec.Struct):
    """One command and its present state."""

    command: CommandRecord


@define(eq=False)
class CommandsApi:
    """Handlers that read commands. `wall()` returns the time in epoch seconds."""

    redis: WebRedis = field(repr=False)
    fleet: DeviceTable
    wall: Any

    @property
    def _keys(self) -> Keys:
        return self.redis.keys

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        return [
            Route(
                "GET",
                "/commands",
                self.commands,
                {200: Result(CommandPage)},
                (_DEVICE, read.STATE, _LIMIT, read.RANKED),
            ),
            Route(
                "GET", "/commands/{id}", self.command, {200: Result(CommandAnswer)}, (read.COMMAND_IN_PATH,)
            ),
        ]

    async def commands(self, request: ApiRequest) -> Response:
        """GET /commands: the latest commands with their present states, the last accepted first.

        One answer reads a bounded number of commands; `next` continues.
        """
        name: str | None = request.param(_DEVICE)
        states: frozenset[str] = frozenset(request.params(read.STATE))
        limit: int = request.param(_LIMIT)
        after: read.Ranked | None = request.param(read.RANKED)
        devices = frozenset[str]()
        if name is not None:
            known = await self.fleet.store.look_up(name)
            devices = frozenset((name, known.peripheral or known.device))
        found: list[CommandRecord] = []
        looked_at, more = 0, True
        while more and len(found) < limit and looked_at < _MAX_LOOKED_AT:
            page = await pagination.page(
                self.redis, self._keys.recent_commands, _AT_ONCE, after, self.wall() - KEEP
            )
            more = page.more
            looked_at += len(page.members)
            kept = await self._select([command_id for _, command_id in page.members], devices, states)
            chosen = [place for place in page.members if place[1] in kept][: limit - len(found)]
            found += await self._read([command_id for _, command_id in chosen])
            if len(kept) > len(chosen):
                after, more = chosen[-1], True
                break
            after = page.members[-1] if page.members else after
        return json_response(CommandPage(found, ":".join(after) if more and after else None))

    async def command(self, request: ApiRequest) -> Response:
        """GET /commands/{id}: one command with its present state."""
        found = await self.find(request.path_param(read.COMMAND_IN_PATH))
        if found is None:
            raise ApiError(404, "id: no such command is known; they are kept for 7 days", "id")
        return json_response(CommandAnswer(found))

    async def find(self, command_id: str) -> CommandRecord | None:
        """Read the public record of a command; None if the id is unknown."""
        found = await self._read([command_id])
        return found[0] if found else None

    async def _select(
        self, command_ids: Sequence[str], devices: frozenset[str], states: frozenset[str]
    ) -> set[str]:
        """Select the commands that have a record and match the devices and states."""
        rows = await self.redis.readable(
            [("HMGET", self._keys.command(one), "state", "device", "peripheral") for one in command_ids]
        )
        kept = set()
        for command_id, row in zip(command_ids, rows, strict=True):
            if row is None:
                if not devices and not states:
                    kept.add(command_id)
                continue
            state, *about = (None if one is None else one.decode("utf-8", "replace") for one in row)
            fits = not devices or not devices.isdisjoint(about)
            if state is not None and fits and (not states or state in states):
                kept.add(command_id)
        return kept

    async def _read(self, command_ids: Sequence[str]) -> list[CommandRecord]:
        rows = await self.redis.readable([("HGETALL", self._keys.command(one)) for one in command_ids])
        found = []
        for command_id, flat in zip(command_ids, rows, strict=True):
            if flat is None:
                found.append(_unreadable(command_id))
                continue
            texts = [item.decode("utf-8", "replace") for item in flat]
            if (
                texts
                and (record := _public_record(dict(zip(texts[::2], texts[1::2], strict=True)))) is not None
            ):
                found.append(record)
        return found


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
