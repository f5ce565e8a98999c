"""Serves the records of commands."""

from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, public_from_hash
from jt709c_gateway.redis.command_writes import KEEP
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.web import pagination
from jt709c_gateway.web import query as read
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest, Response, json_response
from jt709c_gateway.web.redis_client import WebRedis

MAX_COMMANDS: Final = 1000
_DEFAULT_COMMANDS: Final = 100
#: Commands per read, and the maximum per response.
_AT_ONCE: Final = 200
_MAX_LOOKED_AT: Final = 4000

#: The times of a record, latest first.
_TIMES: Final = ("ended_at", "confirmed_at", "acknowledged_at", "sent_at", "created_at")


@define(eq=False)
class CommandsApi:
    """Handlers that read commands. `wall()` returns the time in epoch seconds."""

    redis: WebRedis = field(repr=False)
    fleet: DeviceTable
    wall: Any

    @property
    def _keys(self) -> Keys:
        return self.redis.keys

    async def commands(self, request: ApiRequest) -> Response:
        """GET /commands: the latest commands; each response reads a bounded number."""
        request.reject_unknown_params("device", "state", "limit", "cursor")
        name: str | None = request.param("device", read.device)
        states: frozenset[str] = frozenset(request.params("state", read.state))
        limit: int = request.param("limit", read.limit(MAX_COMMANDS), _DEFAULT_COMMANDS)
        after: read.Ranked | None = request.param("cursor", read.ranked)
        devices = frozenset[str]()
        if name is not None:
            known = await self.fleet.store.look_up(name)
            devices = frozenset((name, known.peripheral or known.device))
        found: list[dict[str, Any]] = []
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
        return json_response({"commands": found, "next": ":".join(after) if more and after else None})

    async def command(self, request: ApiRequest) -> Response:
        """GET /commands/{id}: the record of one command."""
        request.reject_unknown_params()
        command_id = request.path_param("id", read.command_id)
        found = await self.find(command_id)
        if found is None:
            raise ApiError(404, "id: no such command is known; they are kept for 7 days", "id")
        return json_response({"command": found})

    async def find(self, command_id: str) -> dict[str, Any] | None:
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

    async def _read(self, command_ids: Sequence[str]) -> list[dict[str, Any]]:
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


def _unreadable(command_id: str) -> dict[str, Any]:
    """A placeholder for a record that is no hash."""
    reason = "the record can't be read: it is no hash"
    return {**dict.fromkeys(PUBLIC_FIELDS), "id": command_id, "reason": reason, "time": None}


def _public_record(fields: dict[str, str]) -> dict[str, Any] | None:
    try:
        record = public_from_hash(fields)
    except (ValueError, RecursionError):
        # Not written by a gateway.
        return None
    return {**record, "time": next((record[name] for name in _TIMES if record[name]), None)}
