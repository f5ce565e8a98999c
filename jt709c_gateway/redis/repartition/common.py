"""Makes the few keys that belong to no device: number of runs, gateways, counts, areas, invalid commands."""

from attrs import define

from jt709c_gateway.redis.repartition.long_keys import read_list
from jt709c_gateway.redis.repartition.move import Move
from jt709c_gateway.redis.repartition.names import begins, fixed_text
from jt709c_gateway.redis.repartition.stores import MoveError, Place


@define(eq=False)
class CommonKeys:
    """What each new partition gets from all old ones."""

    move: Move

    async def _runs(self) -> int:
        """Return a number above those of all runs, so that no later one gets a number again."""
        numbers = [await place.call("GET", place.keys.epoch) for place in self.move.before.places]
        return max(int(number or 0) for number in numbers) + 1

    async def _gateways(self) -> list[bytes]:
        found: set[bytes] = set()
        for place in self.move.before.places:
            found.update(await place.call("SMEMBERS", place.keys.gateways))
        return sorted(found)

    async def _let_go(self, target: Place) -> dict[bytes, int]:
        counts: dict[bytes, int] = {}
        for place in self.move.before.places:
            if self.move.home(place) is target:
                flat = await place.call("HGETALL", place.keys.let_go)
                for name, count in zip(flat[::2], flat[1::2], strict=True):
                    counts[name] = counts.get(name, 0) + int(count)
        return counts

    async def copy(self) -> None:
        """Make all of them."""
        runs, gateways = await self._runs(), await self._gateways()
        for target in self.move.after.places:
            epoch, members, let_go = (
                target.copied(fixed_text(kind)) for kind in ("epoch", "gateways", "let_go")
            )
            await target.call("UNLINK", epoch, members, let_go)
            await target.call("SET", epoch, runs)
            if gateways:
                await target.call("SADD", members, *gateways)
            counts = await self._let_go(target)
            if counts:
                await target.call("HSET", let_go, *[part for item in counts.items() for part in item])

    async def compare(self) -> None:
        """Raise MoveError when any of them differs."""
        runs, gateways = await self._runs(), await self._gateways()
        for target in self.move.after.places:
            epoch, members, let_go = (
                target.copied(fixed_text(kind)) for kind in ("epoch", "gateways", "let_go")
            )
            flat = await target.call("HGETALL", let_go)
            counts = {name: int(count) for name, count in zip(flat[::2], flat[1::2], strict=True)}
            if (
                int(await target.call("GET", epoch) or 0) != runs
                or sorted(await target.call("SMEMBERS", members)) != gateways
                or counts != await self._let_go(target)
            ):
                raise MoveError("a gateway has been started meanwhile; stop it, and run this again")


@define(eq=False)
class NamedAreas:
    """The named areas, all of which each partition has."""

    move: Move

    async def _areas(self) -> dict[str, bytes]:
        """Return the areas by name; where old partitions differ, that of the lowest number counts."""
        found: dict[str, bytes] = {}
        for place in self.move.before.places:
            for one in await place.call("SMEMBERS", place.keys.areas):
                name = one.decode("utf-8", "replace")
                if name not in found and (text := await place.call("GET", place.keys.area(name))) is not None:
                    found[name] = text
        return found

    async def copy(self) -> None:
        """Make all of them."""
        areas = await self._areas()
        for target in self.move.after.places:
            members = target.copied(fixed_text("areas"))
            await target.call("UNLINK", members)
            for name, text in areas.items():
                await target.call("SET", target.copied(begins("area") + name.encode()), text)
                await target.call("SADD", members, name)

    async def compare(self) -> None:
        """Raise MoveError when any of them differs."""
        areas = await self._areas()
        for target in self.move.after.places:
            members = target.copied(fixed_text("areas"))
            same = {one.decode() for one in await target.call("SMEMBERS", members)} == set(areas)
            for name, text in areas.items():
                same = (
                    same and await target.call("GET", target.copied(begins("area") + name.encode())) == text
                )
            if not same:
                raise MoveError("the named areas have changed meanwhile; run this again")


@define(eq=False)
class InvalidCommands:
    """The lists of invalid commands, each with the newest entry first."""

    move: Move

    async def copy(self) -> None:
        """Append those of all old partitions."""
        text = fixed_text("invalid")
        for target in self.move.after.places:
            await target.call("UNLINK", target.copied(text))
        for place in self.move.before.places:
            target = self.move.home(place)
            async for page in read_list(place, place.key(text)):
                await target.call("RPUSH", target.copied(text), *page)
                self.move.tell(len(page))

    async def compare(self) -> None:
        """Raise MoveError when any of them differs."""
        text = fixed_text("invalid")
        for target in self.move.after.places:
            wanted: list[bytes] = []
            for place in self.move.before.places:
                if self.move.home(place) is target:
                    wanted += [one async for page in read_list(place, place.key(text)) for one in page]
            if [one async for page in read_list(target, target.copied(text)) for one in page] != wanted:
                raise MoveError(
                    "the list of invalid commands has changed meanwhile; make sure that no gateway runs, and "
                    "run this again"
                )
