"""Divides streams by the device of each entry, and carries over how far consumer groups have read."""

from collections import defaultdict
from collections.abc import AsyncIterator
from heapq import heappop, heappush
from typing import Any, Final

from attrs import define

from jt709c_gateway.redis.repartition.long_keys import PAGE, Entry, last_id, read_stream, write_entries
from jt709c_gateway.redis.repartition.move import Move
from jt709c_gateway.redis.repartition.names import fixed_text
from jt709c_gateway.redis.repartition.stores import MoveError, Place

StreamId = tuple[int, int]
_ZERO: Final = (0, 0)
_LARGEST: Final = 2**64 - 1


def parse_id(text: bytes) -> StreamId:
    """Parse the id of an entry."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def pack_id(found: StreamId) -> bytes:
    """Format the id of an entry."""
    return b"%d-%d" % found


def following(found: StreamId) -> StreamId:
    """Return the next id."""
    return (found[0], found[1] + 1) if found[1] < _LARGEST else (found[0] + 1, 0)


def preceding(found: StreamId) -> StreamId:
    """Return the id before."""
    if found[1]:
        return found[0], found[1] - 1
    return (found[0] - 1, _LARGEST) if found[0] else _ZERO


@define(eq=False)
class SplitStream:
    """One of the streams of the partitions: `events`, or `malformed`, whose entries have no device."""

    move: Move
    kind: str

    @property
    def _text(self) -> bytes:
        return fixed_text(self.kind)

    async def _merged(self) -> AsyncIterator[tuple[Place, Entry]]:
        """Yield all entries by their ids, with the partition that each comes from."""
        pages = [read_stream(place, place.key(self._text)) for place in self.move.before.places]
        waiting: list[tuple[StreamId, int, Entry]] = []
        left: list[list[Entry]] = [[] for _ in pages]

        async def advance(number: int) -> None:
            if not left[number]:
                left[number] = (await anext(pages[number], []))[::-1]
            if left[number]:
                entry = left[number].pop()
                heappush(waiting, (parse_id(entry[0]), number, entry))

        for number in range(len(pages)):
            await advance(number)
        while waiting:
            _, number, entry = heappop(waiting)
            yield self.move.before.places[number], entry
            await advance(number)

    async def _divided(self) -> AsyncIterator[tuple[Place, list[Entry]]]:
        """Yield the entries of each new partition in steps, with the ids that they get.

        The ids of two partitions may be the same. They grow in each new stream, so a few get a larger number.
        """
        last: defaultdict[int, StreamId] = defaultdict(lambda: _ZERO)
        parts: defaultdict[int, list[Entry]] = defaultdict(list)
        places = self.move.after.places
        async for place, (text, fields) in self._merged():
            number = self._target(place, fields).number
            found = max(parse_id(text), following(last[number]))
            last[number] = found
            parts[number].append((pack_id(found), fields))
            if len(parts[number]) == PAGE:
                yield places[number], parts.pop(number)
        for number, entries in parts.items():
            yield places[number], entries

    def _target(self, place: Place, fields: list[bytes]) -> Place:
        if self.kind == "events":
            for name, value in zip(fields[::2], fields[1::2], strict=True):
                if name == b"device":
                    return self.move.target(value.decode("utf-8", "replace"))
        return self.move.home(place)

    async def copy(self) -> None:
        """Copy all of them, from the beginning."""
        move, text = self.move, self._text
        for target in move.after.places:
            await target.call("UNLINK", target.partial(text), target.copied(text))
        async for target, entries in self._divided():
            move.check()
            await write_entries(target, target.partial(text), entries)
            move.tell(len(entries))
        newest = _ZERO
        for place in move.before.places:
            newest = max(newest, parse_id(await last_id(place, place.key(text))))
        groups = await self._groups()
        for target in move.after.places:
            await self._complete(target, newest, groups)

    async def _complete(self, target: Place, newest: StreamId, groups: dict[bytes, StreamId | None]) -> None:
        partial = target.partial(self._text)
        for group, start in groups.items():
            place = "$" if start is None else pack_id(start)
            await target.call("XGROUP", "CREATE", partial, group, place, "MKSTREAM")
        if await target.call("EXISTS", partial):
            newest = max(newest, parse_id(await last_id(target, partial)))
            await target.call("XSETID", partial, pack_id(newest))
            await target.call("RENAME", partial, target.copied(self._text))

    async def _groups(self) -> dict[bytes, StreamId | None]:
        """Return from where each consumer group reads on in the new streams; None for what comes then.

        That is where it was in the stream that it was behind in most, so it gets some entries twice.
        """
        positions: dict[bytes, list[StreamId | None]] = {}
        present = 0
        for place in self.move.before.places:
            key = place.key(self._text)
            if not await place.call("EXISTS", key):
                continue
            present += 1
            newest = parse_id(await last_id(place, key))
            for flat in await place.call("XINFO", "GROUPS", key):
                facts: dict[Any, Any] = dict(zip(flat[::2], flat[1::2], strict=True))
                position: StreamId | None = parse_id(facts[b"last-delivered-id"])
                pending, oldest, *_ = await place.call("XPENDING", key, facts[b"name"])
                if pending:
                    position = preceding(parse_id(oldest))
                elif position is not None and position >= newest:
                    position = None
                positions.setdefault(facts[b"name"], []).append(position)
        found: dict[bytes, StreamId | None] = {}
        for group, places in positions.items():
            behind = [one for one in places if one is not None]
            if len(places) < present:
                behind.append(_ZERO)
            found[group] = min(behind) if behind else None
        return found

    async def compare(self) -> None:
        """Compare all of them with the copies; MoveError when any differs."""
        text = self._text
        counts: defaultdict[int, int] = defaultdict(int)
        after: defaultdict[int, bytes] = defaultdict(lambda: b"-")
        async for target, entries in self._divided():
            self.move.check()
            key, start = target.copied(text), after[target.number]
            found = await target.call("XRANGE", key, start, "+", "COUNT", len(entries))
            if [(one, fields) for one, fields in found] != entries:
                raise self._changed()
            after[target.number] = b"(" + entries[-1][0]
            counts[target.number] += len(entries)
            self.move.tell(len(entries))
        for target in self.move.after.places:
            if await target.call("XLEN", target.copied(text)) != counts[target.number]:
                raise self._changed()

    def _changed(self) -> MoveError:
        return MoveError(
            f"a stream of {self.kind} has changed meanwhile; make sure that nobody writes to it, and run "
            "this again"
        )
