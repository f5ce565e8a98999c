"""Named areas in Redis, which the conditions of commands name (docs/redis.rst).

Each partition has all of them, so that an area is read where the command is.
"""

from typing import Final

from attrs import define
from msgspec.json import encode

from jt709c_gateway.commands.areas import MAX_AREAS, InvalidArea, area_fields, parse_area
from jt709c_gateway.commands.geometry import Area
from jt709c_gateway.commands.model import Command, InvalidCommand
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

_KNOWN: Final = "a circle, a polygon, or the name of an area that jt709c area list shows"


class AreaUnusable(ValueError):
    """A name stands for no area; the text says why."""


@define(eq=False)
class Areas:
    """Reads and writes the areas of one partition. Calls fail with txredisapi's errors."""

    caller: Caller
    keys: Keys

    async def read(self, name: str) -> Area:
        """Return an area; raise AreaUnusable when there is none of this name, or none that can be read."""
        text: bytes | None = await self.caller.call("GET", self.keys.area(name))
        if text is None:
            raise AreaUnusable(f"area {name} is not defined")
        try:
            return parse_area(text)
        except InvalidArea as error:
            raise AreaUnusable(f"area {name} in Redis is broken: {error}") from None

    async def names(self) -> list[str]:
        """Return the names of all areas, in order."""
        found = await self.caller.call("SMEMBERS", self.keys.areas)
        return sorted(one.decode("utf-8", "replace") for one in found)

    async def has_room(self, names: set[str]) -> bool:
        """Return whether areas of these names may be defined."""
        return len(names.union(await self.names())) <= MAX_AREAS

    async def write(self, name: str, area: Area) -> None:
        """Define an area, in place of one that has this name."""
        await self.caller.call("SADD", self.keys.areas, name)
        await self.caller.call("SET", self.keys.area(name), encode(area_fields(area)))

    async def remove(self, name: str) -> bool:
        """Remove an area; return whether there was one."""
        removed = await self.caller.call("DEL", self.keys.area(name))
        listed = await self.caller.call("SREM", self.keys.areas, name)
        return bool(removed or listed)


async def check_conditions(caller: Caller, keys: Keys, command: Command, now: float) -> None:
    """Check the conditions of a new command at `now`, in epoch seconds; raises InvalidCommand.

    txredisapi's errors are passed on.
    """
    conditions = command.conditions
    if conditions is None:
        return
    if conditions.not_after is not None and conditions.not_after <= now:
        raise InvalidCommand("not_after", "has passed", "a time in the future").about(command)
    if conditions.area is None:
        return
    try:
        await Areas(caller, keys).read(conditions.area)
    except AreaUnusable as error:
        raise InvalidCommand("only_within", str(error), _KNOWN).about(command) from None
