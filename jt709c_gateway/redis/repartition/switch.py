"""The second half of a move, which can't be taken back: old keys are deleted, and copies get their names."""

from collections import defaultdict
from typing import Any, Final

from attrs import define

from jt709c_gateway.redis.command_writes import MAX_REPLIES, REPLY_TTL
from jt709c_gateway.redis.repartition.move import Move, Phase
from jt709c_gateway.redis.repartition.names import Fate, begins, fixed_text
from jt709c_gateway.redis.repartition.scripts import DELETE, PASS, RENAME, TAKE
from jt709c_gateway.redis.repartition.stores import Place
from jt709c_gateway.redis.transfers import read_transfer

#: Keys, or entries, in one call.
_AT_ONCE: Final = 500
_KEPT: Final = (Fate.PASSED_ON, Fate.OURS)


@define(eq=False)
class Switch:
    """Deletes and renames the keys of a move. Each step may be repeated."""

    move: Move

    async def delete(self) -> None:
        """Delete the old keys, but not the lists whose entries are passed on."""
        for place in self.move.before.places:
            async for names, _ in place.scan():
                keys: list[Any] = [place.key(one) for one in names if one.fate not in _KEPT]
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    await self.move.guarded(place, DELETE, some, [])
                    self.move.tell(len(some))

    async def rename(self) -> None:
        """Give the copies their names."""
        for place in self.move.after.places:
            async for texts in place.scan_copied():
                for start in range(0, len(texts), _AT_ONCE):
                    some = texts[start : start + _AT_ONCE]
                    keys: list[Any] = [key for text in some for key in (place.copied(text), place.key(text))]
                    await self.move.guarded(place, RENAME, keys, [])
                    self.move.tell(len(some))

    async def pass_on(self) -> None:
        """Pass on the entries that wait in lists of old partitions, each once and in order."""
        for place in self.move.before.places:
            if not self.move.stays(place):
                for text in [*await self._intakes(place), fixed_text("commands")]:
                    await self._pass_list(place, text)
            if self.move.phase is not Phase.COLLECT:
                await self._pass_list(place, fixed_text("transfers"))

    async def _intakes(self, place: Place) -> list[bytes]:
        found: set[bytes] = set()
        async for names, _ in place.scan():
            found.update(one.text for one in names if one.text.startswith(begins("intake")))
        return sorted(found)

    async def _pass_list(self, place: Place, text: bytes) -> None:
        move, key = self.move, place.key(text)
        counter = f"{move.id}:{place.number}:{text.decode('utf-8', 'backslashreplace')}"
        removed = place.ours.passed_on(f"from:{counter}")
        while True:
            before = int(await place.call("GET", removed) or 0)
            entries = await place.call("LRANGE", key, 0, _AT_ONCE - 1)
            if not entries:
                return
            parts: defaultdict[int, list[tuple[int, Any, bytes, bool]]] = defaultdict(list)
            for number, entry in enumerate(entries, before):
                target, to, packed, is_outcome = self._route(place, text, entry)
                parts[target.number].append((number, to, packed, is_outcome))
            for number, some in parts.items():
                target = move.after.places[number]
                keys = [target.ours.passed_on(f"to:{counter}"), *[to for _, to, _, _ in some]]
                flat = [part for at, _, packed, outcome in some for part in (at, packed, int(outcome))]
                await move.guarded(target, TAKE, keys, [MAX_REPLIES, REPLY_TTL, *flat])
            for number in parts:
                await move.after.places[number].kept()
            await move.guarded(place, PASS, [key, removed], [before, len(entries)])
            move.tell(len(entries))

    def _route(self, place: Place, text: bytes, entry: bytes) -> tuple[Place, str, bytes, bool]:
        """Return where an entry goes: partition, list, its form there, and whether it is an outcome."""
        home = self.move.home(place)
        transfer = read_transfer(entry) if text == fixed_text("transfers") else None
        if transfer is None:
            return home, home.keys.commands, entry, False
        if transfer.reply_to is None:
            return home, home.keys.commands, transfer.entry.encode(), False
        target = self.move.target(transfer.reply_to)
        return target, target.keys.reply(transfer.reply_to), transfer.entry.encode(), True
