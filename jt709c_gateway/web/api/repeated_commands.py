"""Recognizes a command that is repeated under its id, as clients do after a lost response."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.commands.masking import MASK
from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.commands.sublocks import SUBLOCK_COMMANDS
from jt709c_gateway.redis.command_store_types import Known
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.web.api.commands import CommandRecord
from jt709c_gateway.web.http import ApiError

#: Pushed commands that are remembered until they have a record.
_REMEMBERED: Final = 1000


@define(eq=False)
class Repeats:
    """Raises :class:`ApiError` 409 for a different command under a known id.

    Secret parameters are not compared, since records don't have them.
    """

    queries: PartitionedQueries
    profiles: ProfileRegistry
    _pushed: dict[str, tuple[object, ...]] = field(factory=dict, init=False, repr=False)

    async def check(self, command: Command, records: Sequence[CommandRecord]) -> CommandRecord:
        """Return the record of this command among those of its id.

        Raise :class:`ApiError` if they are of another command or user.
        """
        known = await self.queries.look_up(command.device)
        record = next((one for one in records if _same_device(command, known, one)), records[0])
        for name, same in (
            ("issued_by", record.issued_by == command.issued_by),
            ("device", _same_device(command, known, record)),
            ("command", record.command in _commands(command, known)),
            ("params", _same_params(self._public(command), known, record)),
            # The record of an invalid command may have neither.
            ("conditions", record.params is None or record.conditions == _conditions(command)),
        ):
            if not same:
                raise _another(command.id, name)
        return record

    def note(self, command: Command) -> None:
        """Remember a command before it is pushed; raise :class:`ApiError` if another one has its id."""
        public = self._public(command)
        fields = (command.issued_by, command.device, command.name, public, _conditions(command))
        before = self._pushed.setdefault(command.id, fields)
        names = ("issued_by", "device", "command", "params", "conditions")
        for name, mine, other in zip(names, fields, before, strict=True):
            if mine != other:
                raise _another(command.id, name)
        while len(self._pushed) > _REMEMBERED:
            del self._pushed[next(iter(self._pushed))]

    def _public(self, command: Command) -> dict[str, Any]:
        return command.public_params(self.profiles.secret_names(command.name))


def _conditions(command: Command) -> dict[str, Any] | None:
    return None if command.conditions is None else command.conditions.fields()


def _another(command_id: str, name: str) -> ApiError:
    problem = f"id: {command_id} is the id of another command, which differs in {name}"
    return ApiError(409, f"{problem}: expected an id of its own for each command", "id")


def _same_device(command: Command, known: Known, record: CommandRecord) -> bool:
    if known.peripheral is not None and record.peripheral is not None:
        return record.peripheral == known.peripheral
    # The record of an invalid command has the device as given, or none if it is unknown.
    return record.device in (known.device, command.device, None)


def _commands(command: Command, known: Known) -> tuple[str, ...]:
    """The possible names of a command in its record: its master receives another one for a sub-lock."""
    if known.peripheral is None:
        return (command.name,)
    return (command.name, SUBLOCK_COMMANDS.get(command.name, command.name))


def _same_params(mine: Mapping[str, Any], known: Known, record: CommandRecord) -> bool:
    theirs = record.params
    if theirs is None:
        # The record of an invalid command has none.
        return True
    for name in mine.keys() | theirs.keys():
        # Intake has added the sub-lock to the command for its master.
        if name not in mine and known.peripheral is not None and theirs[name] == known.peripheral:
            continue
        if mine.get(name) != theirs.get(name) and MASK not in (mine.get(name), theirs.get(name)):
            return False
    return True
