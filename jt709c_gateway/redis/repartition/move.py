"""A move of keys between two stores: its record, by which it goes on after an interruption."""

from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import Any, Final

import msgspec
import txredisapi
from attrs import define, field

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.partition_marker import Moved, Moving, partition_count
from jt709c_gateway.redis.repartition.stores import MoveError, Place, Store

_LAST: Final = ("finish", "abandon", "collect")
#: Milliseconds after which another process may go on with the move of one that has died.
LEASE: Final = 10_000


class Phase(StrEnum):
    """What is done. Until the end of `VERIFY` nothing of the old keys has changed."""

    BEGIN = "begin"
    COPY = "copy"
    VERIFY = "verify"
    DELETE = "delete"
    RENAME = "rename"
    PASS_ON = "pass_on"
    FINISH = "finish"
    ABANDON = "abandon"
    COLLECT = "collect"
    """Passing on commands that were pushed to lists of partitions which are no more."""


@define(eq=False)
class Move:
    """A move that is under way. Calls fail with MoveError and txredisapi's errors.

    `lost` is set when another process has taken over. `tell` gets how many keys or entries were just handled.
    """

    before: Store
    after: Store
    id: str
    phase: Phase = Phase.BEGIN
    #: Parts that are copied.
    done: set[str] = field(factory=set)
    tell: Callable[[int], object] = lambda _: None
    lost: bool = False

    @property
    def record(self) -> Place:
        """The partition that has the whole record."""
        return self.before.places[0]

    def home(self, place: Place) -> Place:
        """Return the new partition that takes over what belongs to no device."""
        return self.after.places[place.number % self.after.count]

    def target(self, name: str) -> Place:
        """Return the new partition of a device or another name."""
        return self.after.places[self.after.partitions.number(name)]

    def stays(self, place: Place) -> bool:
        """Return whether an old partition is a new one, too."""
        return self.after.has(place)

    def places(self) -> Iterator[Place]:
        """Iterate over all partitions, the one with the whole record last."""
        yield from (one for one in self.after.places if not self.before.has(one))
        yield from reversed(self.before.places)

    async def guarded(
        self, place: Place, script: scripts.Script, keys: list[Any], arguments: list[Any]
    ) -> Any:
        """Run a script that refuses when another process has gone on with the move."""
        self.check()
        try:
            return await scripts.run(
                place.connection, script, [place.ours.record, *keys], [self.id, str(self.phase), *arguments]
            )
        except txredisapi.ResponseError as error:
            if "STALE" in str(error):
                raise MoveError("another process goes on with this move") from None
            raise

    def check(self) -> None:
        """Raise MoveError when another process has taken over."""
        if self.lost:
            raise MoveError("another process goes on with this move, since this one was away for too long")

    async def note(self, elsewhere: bool) -> None:
        """Write the record; `elsewhere` says that the new partitions are on other servers."""
        facts = {
            "before": self.before.count,
            "after": self.after.count,
            "prefix": self.after.partitions.prefix,
            "elsewhere": int(elsewhere),
        }
        flat = [part for item in facts.items() for part in item]
        await self.record.call(
            "HSET", self.record.ours.record, "id", self.id, "phase", str(self.phase), *flat
        )
        await self.set_phase(self.phase)

    async def begin(self, elsewhere: bool) -> None:
        """Write the record, and the markers with which gateways refuse to start."""
        await self.note(elsewhere)
        moving = msgspec.json.encode(Moving(self.before.count, self.after.count))
        for one in self.places():
            await one.call("SET", one.keys.partitions, moving)

    async def set_phase(self, phase: Phase) -> None:
        """Store the phase, in the whole record last, when replicas and disks have what was written before."""
        self.check()
        for one in self.places():
            await one.kept()
        for one in self.places():
            await one.call("HSET", one.ours.record, "id", self.id, "phase", str(phase))
        self.phase = phase

    async def part(self, name: str, make: Callable[[], Awaitable[object]]) -> None:
        """Make a part of the copy, unless that was done before."""
        if name in self.done:
            return
        self.check()
        await make()
        await self.record.call("HSET", self.record.ours.record, f"done:{name}", 1)
        self.done.add(name)

    async def forget_parts(self) -> None:
        """Note that all parts have to be looked at again."""
        if self.done:
            await self.record.call(
                "HDEL", self.record.ours.record, *[f"done:{name}" for name in sorted(self.done)]
            )
        self.done.clear()

    async def mark_ended(self) -> None:
        """Write the markers of the end; gateways can start when that of the first partition is written."""
        count, prefix = self.after.count, self.after.partitions.prefix
        for place in self.before.places:
            if not self.stays(place):
                # Refuses gateways with the old options, also those that were suspended meanwhile.
                servers = "" if self.before.servers == self.after.servers else self.after.servers
                marker = msgspec.json.encode(Moved(count, prefix, servers))
                await place.call("SET", place.keys.partitions, marker)
        for place in reversed(self.after.places):
            if count > 1:
                await place.call("SET", place.keys.partitions, count)
            else:
                await place.call("DEL", place.keys.partitions)

    async def mark_as_before(self) -> None:
        """Write the markers as they were before the move."""
        for place in self.places():
            if self.before.count > 1 and place in self.before.places:
                await place.call("SET", place.keys.partitions, self.before.count)
            else:
                await place.call("DEL", place.keys.partitions)

    async def end(self) -> None:
        """Delete what the move has written for itself, its record last."""
        for place in self.places():
            async for keys in place.scan_ours():
                if keys:
                    await place.call("UNLINK", *keys)
        for place in self.places():
            await place.call("DEL", place.ours.record)


async def stored_move(before: Store, after: Store) -> Move | None:
    """Return the move that has begun and not ended; MoveError when it is another one than asked for."""
    first = before.places[0]
    flat = await first.call("HGETALL", first.ours.record)
    if not flat:
        return None
    facts = {
        name.decode(): value.decode(errors="replace")
        for name, value in zip(flat[::2], flat[1::2], strict=True)
    }
    asked = [before.count, after.count, after.partitions.prefix, int(before.servers != after.servers)]
    try:
        found = [int(facts["before"]), int(facts["after"]), facts["prefix"], int(facts["elsewhere"])]
        move = Move(before, after, facts["id"], Phase(facts["phase"]))
    except (KeyError, ValueError):
        raise MoveError(f"{first.ours.record} is no record of a move: expected no key of this name") from None
    if found != asked:
        servers = " to other servers (--to-redis)" if found[3] else ""
        raise MoveError(
            f"a move from {found[0]} to {partition_count(int(found[1]))} with the prefix {found[2]}{servers} "
            f"has begun: give --from {found[0]} --to {found[1]} --prefix {found[2]} to go on with it"
            + (
                " or to give it up with --abandon"
                if move.phase in (Phase.BEGIN, Phase.COPY, Phase.VERIFY)
                else ""
            )
        )
    move.done = {name.removeprefix("done:") for name in facts if name.startswith("done:")}
    if move.phase is not Phase.BEGIN:
        for place in move.places():
            its = await place.call("HGET", place.ours.record, "id")
            # At its end the records are deleted one by one.
            if its != move.id.encode() and not (its is None and move.phase in _LAST):
                raise MoveError(f"{place.ours.record} belongs to another move")
    return move
