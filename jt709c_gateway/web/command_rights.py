"""Which commands a dispatcher may give, and to which locks (docs/web.rst, "Roles")."""

from collections.abc import Sequence

import txredisapi
from attrs import define
from msgspec import UNSET

from jt709c_gateway.commands.catalogue import CANCEL
from jt709c_gateway.commands.model import Command
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.labels import Labels
from jt709c_gateway.web.api.commands import CommandRecord, CommandsApi
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from jt709c_gateway.web.roles import User


@define(eq=False)
class CommandRights:
    """Refuses the commands that are beyond the limits of a user, with a 403.

    The label of a lock is read for each command. One that can't be read is a refusal: a 403 as well, or the
    503 of Redis that is away.
    """

    web: PartitionedWebRedis
    commands_api: CommandsApi

    async def check(self, user: User, command: Command, known: Known) -> None:
        """Raise :class:`ApiError` 403 unless a user may give a command to a device."""
        if not user.grant.is_limited:
            return
        if command.name == CANCEL:
            await self._check_target(user, str(command.params.get("id")))
        elif not user.grant.covers(command.name):
            raise _beyond_commands(user, command.name)
        await self._check_groups(user, [known.device])

    async def _check_target(self, user: User, command_id: str) -> None:
        """A user takes back what he may give himself, whoever gave it."""
        records: Sequence[CommandRecord] = (await self.commands_api.find(command_id))[0]
        if not records:
            problem = f"no command {command_id} is known, and {user} can't take it back"
            raise ApiError(403, f"{problem}: expected the id of a command that {user} may give", "params.id")
        for record in records:
            if record.command is None or not user.grant.covers_carried_out(record.command, record.peripheral):
                raise _beyond_commands(user, record.command or "what can't be read")
        await self._check_groups(user, [record.device or "" for record in records])

    async def _check_groups(self, user: User, devices: Sequence[str]) -> None:
        if not user.groups:
            return
        for device in devices:
            group = await self._group(user, device)
            if group not in user.groups:
                where = f"in group {group}" if group else "in no group"
                right = f"a lock of {_words(user.groups)}"
                problem = f"lock {device} is {where}, and {user} may not give it commands"
                raise ApiError(403, f"{problem}: expected {right}", "device")

    async def _group(self, user: User, device: str) -> str | None:
        partition = self.web.of(device)
        try:
            [label] = await Labels(partition.redis, partition.keys).read([device])
        except txredisapi.ResponseError:
            problem = f"the label of lock {device} can't be read, and {user} may not give it commands"
            right = f"a lock of {_words(user.groups)}"
            raise ApiError(403, f"{problem}: expected {right}", "device") from None
        return None if label is None or label.group is UNSET else label.group


def _beyond_commands(user: User, name: str) -> ApiError:
    return ApiError(403, f"{user} may not give {name}: expected {_words(user.commands)}", "command")


def _words(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
