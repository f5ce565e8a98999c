"""Divides sets, sorted sets and hashes by the device of each element, and compares the parts."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from attrs import define

from jt709c_gateway.redis.repartition.move import Move
from jt709c_gateway.redis.repartition.names import TYPES, Name
from jt709c_gateway.redis.repartition.stores import MoveError, Place

#: Elements in one call.
_PAGE: Final = 500
_COMMANDS: Final = frozenset({"deadlines", "recent_commands", "under_way"})

#: A member; member and score; field and value.
Element = tuple[bytes, ...]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


async def _read(place: Place, key: bytes, kind: str) -> AsyncIterator[list[Element]]:
    """Yield the elements of a key in steps; those of a set or hash may come twice."""
    if kind == "zset":
        start, page = 0, [b""]
        while page:
            page = await place.call("ZRANGE", key, start, start + _PAGE - 1, "WITHSCORES")
            start += _PAGE
            if page:
                yield list(zip(page[::2], page[1::2], strict=True))
        return
    command, cursor = ("SSCAN" if kind == "set" else "HSCAN"), b"0"
    while True:
        cursor, page = await place.call(command, key, cursor, "COUNT", _PAGE)
        if page:
            yield [(one,) for one in page] if kind == "set" else list(zip(page[::2], page[1::2], strict=True))
        if cursor in (b"0", "0"):
            return


@define(eq=False)
class SplitKey:
    """One key that all partitions have, with some of the elements in each."""

    move: Move
    name: Name

    @property
    def _type(self) -> str:
        return TYPES[self.name.kind]

    async def _divided(self) -> AsyncIterator[tuple[Place, list[Element]]]:
        for place in self.move.before.places:
            async for page in _read(place, place.key(self.name), self._type):
                self.move.check()
                parts: defaultdict[int, list[Element]] = defaultdict(list)
                for element, target in await self._routed(place, page):
                    parts[target.number].append(element)
                for number, elements in parts.items():
                    yield self.move.after.places[number], elements

    async def _routed(self, place: Place, page: Sequence[Element]) -> list[tuple[Element, Place]]:
        """Return where each element of a partition goes; an IMEI may go to two."""
        move, kind = self.move, self.name.kind
        if kind in _COMMANDS:
            keys = [place.keys.command("").encode() + one[0] for one in page]
            devices = await place.pipeline([("HGET", key, "device") for key in keys])
            return [
                (one, move.home(place) if device is None else move.target(_text(device)))
                for one, device in zip(page, devices, strict=True)
            ]
        if kind == "imei":
            return await self._routed_imeis(place, page)
        if kind == "allowed":
            partitions, places = move.after.partitions, move.after.places
            return [(one, places[partitions.number_of(_text(one[0]))]) for one in page]
        return [(one, move.target(_text(one[0]))) for one in page]

    async def _routed_imeis(self, place: Place, page: Sequence[Element]) -> list[tuple[Element, Place]]:
        """An IMEI is in its own partition, which decides, and in that of its device."""
        places, before, after = self.move.before.places, self.move.before.partitions, self.move.after
        found: list[tuple[Element, Place]] = []
        for element in page:
            imei, device = map(_text, element)
            at_imei, at_device = after.partitions.number_of(imei), after.partitions.number(device)
            if before.number_of(imei) == place.number:
                numbers = {at_imei, at_device} if before.number(device) == place.number else {at_imei}
            elif await self._claim(places[before.number_of(imei)], element[0]) == element[1]:
                numbers = {at_device}
            else:
                # Several devices have reported it.
                winners = await self._winners(element[0])
                numbers = {number for number, claim in winners.items() if claim == (place.number, element[1])}
            found += [(element, after.places[number]) for number in numbers]
        return found

    async def _claim(self, place: Place, imei: bytes) -> bytes | None:
        device: bytes | None = await place.call("HGET", place.keys.imei, imei)
        return device

    async def _winners(self, imei: bytes) -> dict[int, tuple[int, bytes]]:
        """Return by new partition the device that an IMEI gets there, and the old partition that says so."""
        before, after = self.move.before, self.move.after.partitions
        claims = [
            (place.number, device)
            for place in before.places
            if (device := await self._claim(place, imei)) is not None
        ]
        # The partition of the IMEI decides.
        decisive = before.partitions.number_of(_text(imei))
        claims.sort(key=lambda claim: (claim[0] != decisive, claim[0]))
        found: dict[int, tuple[int, bytes]] = {}
        if claims:
            found[after.number_of(_text(imei))] = claims[0]
        for claim in claims:
            own = (before.partitions.number(_text(claim[1])), claim[1])
            if own in claims:
                found.setdefault(after.number(_text(claim[1])), own)
        return found

    async def copy(self) -> None:
        """Copy all of it, from the beginning."""
        for target in self.move.after.places:
            await target.call("UNLINK", target.copied(self.name))
        async for target, elements in self._divided():
            key, flat = target.copied(self.name), [part for one in elements for part in one]
            if self._type == "zset":
                pairs = [part for member, score in elements for part in (score, member)]
                await target.call("ZADD", key, "GT", *pairs)
            else:
                await target.call("SADD" if self._type == "set" else "HSET", key, *flat)
            self.move.tell(len(elements))

    async def compare(self) -> None:
        """Look each element up in its copy; MoveError when any differs, or the copies have more."""
        wanted = 0
        async for target, elements in self._divided():
            wanted += len(elements)
            if not await self._has(target, elements):
                raise self._changed()
            self.move.tell(len(elements))
        size = {"zset": "ZCARD", "set": "SCARD", "hash": "HLEN"}[self._type]
        count = sum([await one.call(size, one.copied(self.name)) for one in self.move.after.places])
        if count > wanted:
            raise self._changed()

    async def _has(self, target: Place, elements: Sequence[Element]) -> bool:
        key, names = target.copied(self.name), [one[0] for one in elements]
        if self._type == "set":
            return all(await target.call("SMISMEMBER", key, *names))
        if self._type == "hash":
            values: list[Any] = await target.call("HMGET", key, *names)
            return values == [value for _, value in elements]
        scores = await target.call("ZMSCORE", key, *names)
        for found, (member, score) in zip(scores, elements, strict=True):
            if found is None or (found != score and not await self._is_from_another(member, found)):
                return False
        return True

    async def _is_from_another(self, member: bytes, score: bytes) -> bool:
        """Return whether this is the highest score that an old partition has for a member."""
        places = self.move.before.places
        scores = [await place.call("ZSCORE", place.key(self.name), member) for place in places]
        return score == max((one for one in scores if one is not None), key=float, default=None)

    def _changed(self) -> MoveError:
        key = self.move.before.places[0].key(self.name).decode("utf-8", "replace")
        return MoveError(
            f"{key} has changed meanwhile; make sure that nobody writes to these keys, and run this again"
        )
