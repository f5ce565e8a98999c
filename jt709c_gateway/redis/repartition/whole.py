"""Copies keys that stay as they are, most of them with DUMP and RESTORE, and compares the copies."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.commands.model import ENDED, CommandState
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.repartition.long_keys import copy_long, same_long
from jt709c_gateway.redis.repartition.move import Move
from jt709c_gateway.redis.repartition.names import Fate, Name, parse_name
from jt709c_gateway.redis.repartition.scripts import DIGEST, READ, WRITE
from jt709c_gateway.redis.repartition.stores import MoveError, Place

#: Bytes after which a reply has no further key.
_BYTES: Final = 4 << 20
#: Elements of a list or stream beyond which it is copied in steps.
LONG: Final = 5_000
#: Keys in one call.
AT_ONCE: Final = 200
#: Milliseconds before its end within which a key may be gone on one server and not on the other.
_SOON: Final = 60_000
#: What decides between two keys of one name, by kind.
_DECISIVE: Final = {"command": ("device", "state", "created_at"), "peripheral": ("device", "time")}

Rank = tuple[Any, ...]


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", "replace")


def _rank(kind: str, values: Sequence[bytes | None]) -> Rank:
    """Return what says which of two keys of one name is kept: the higher one."""
    device, *rest = map(_text, values)
    if kind == "command":
        state, created = rest
        # Evidence may still turn these two into others.
        return (state not in ENDED - {CommandState.UNCERTAIN, CommandState.UNCONFIRMED}, created, device)
    try:
        return (float(rest[0] or 0), device)
    except ValueError:
        return (0.0, device)


@define(eq=False)
class WholeKeys:
    """Copies and compares the keys of a move that are copied whole."""

    move: Move
    #: Whether copies from an earlier attempt may be there.
    resumed: bool = False
    #: Keys that differ from their copies, which were deleted, so that the next attempt copies them.
    changed: list[str] = field(factory=list)

    async def copy(self, place: Place) -> None:
        """Copy all of one old partition. What is copied already stays."""
        async for names, _ in place.scan():
            wanted = [one for one in names if one.fate in (Fate.WHOLE, Fate.OWNED)]
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                await self._copy_some(place, await self._missing(some) if self.resumed else some)
                self.move.tell(len(some))

    async def _missing(self, names: Sequence[Name]) -> list[Name]:
        """Return those without a copy, as far as their names tell."""
        parts: defaultdict[int, list[Name]] = defaultdict(list)
        missing = [one for one in names if one.fate is Fate.OWNED]
        for one in names:
            if one.fate is Fate.WHOLE:
                parts[self.move.target(one.owner).number].append(one)
        for number, some in parts.items():
            target = self.move.after.places[number]
            there = await target.pipeline([("EXISTS", target.copied(one)) for one in some])
            missing += [one for one, found in zip(some, there, strict=True) if not found]
        return missing

    async def _copy_some(self, place: Place, names: Sequence[Name]) -> None:
        while names:
            keys: list[Any] = [place.key(one) for one in names]
            count, *flat = await scripts.run(place.connection, READ, keys, [_BYTES, LONG])
            parts: defaultdict[int, list[tuple[Name, bytes, int]]] = defaultdict(list)
            for name, at in zip(names[:count], range(0, 4 * count, 4), strict=True):
                dump, expires, device, is_long = flat[at : at + 4]
                target = self._target(place, name, device)
                if is_long:
                    await copy_long(place, target, name, _text(is_long))
                elif dump is not None:
                    parts[target.number].append((name, dump, expires))
            for number, some in parts.items():
                await self._write(place, self.move.after.places[number], some)
            names = names[count:]

    def _target(self, place: Place, name: Name, device: bytes | None) -> Place:
        if name.fate is Fate.WHOLE:
            return self.move.target(name.owner)
        return self.move.home(place) if device is None else self.move.target(_text(device))

    async def _write(self, place: Place, target: Place, some: Sequence[tuple[Name, bytes, int]]) -> None:
        keys: list[Any] = [target.copied(name) for name, _, _ in some]
        flat = [part for _, dump, expires in some for part in (dump, expires)]
        written = await self.move.guarded(target, WRITE, keys, ["0", *flat])
        for one, new in zip(some, written, strict=True):
            if not new and one[0].fate is Fate.OWNED and await self._is_preferred(place, target, one[0]):
                await self.move.guarded(target, WRITE, [target.copied(one[0])], ["1", *one[1:]])

    async def _ranks(self, place: Place, target: Place, name: Name) -> tuple[Rank, Rank]:
        """Return the ranks of a key and of the copy under its name."""
        fields = _DECISIVE[name.kind]
        ours = await place.call("HMGET", place.key(name), *fields)
        theirs = await target.call("HMGET", target.copied(name), *fields)
        return _rank(name.kind, ours), _rank(name.kind, theirs)

    async def _is_preferred(self, place: Place, target: Place, name: Name) -> bool:
        """Return whether a key takes the place of the copy of another one with its name.

        Two partitions may have commands of one id, and sub-locks that have changed their master.
        """
        ours, theirs = await self._ranks(place, target, name)
        if name.kind == "command" and ours[-1] != theirs[-1] and ours[0] and theirs[0]:
            raise MoveError(
                f"two commands have the id {name.owner}, for {theirs[-1]} and {ours[-1]}, which would share "
                "a partition: give the move up with --abandon, and try again when one of them has ended"
            )
        return ours > theirs

    async def compare(self, place: Place) -> None:
        """Compare all of one old partition with the copies."""
        async for names, _ in place.scan():
            wanted = [one for one in names if one.fate in (Fate.WHOLE, Fate.OWNED)]
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                await self._compare_some(place, some)
                self.move.tell(len(some))

    async def _compare_some(self, place: Place, names: Sequence[Name]) -> None:
        owned = [one for one in names if one.fate is Fate.OWNED]
        devices = await place.pipeline([("HGET", place.key(one), "device") for one in owned])
        device_of = dict(zip(owned, devices, strict=True))
        digests = await self._digests(place, [place.key(one) for one in names])
        parts: defaultdict[int, list[tuple[Name, bytes]]] = defaultdict(list)
        for name, digest in zip(names, digests, strict=True):
            parts[self._target(place, name, device_of.get(name)).number].append((name, digest))
        for number, some in parts.items():
            target = self.move.after.places[number]
            copies = await self._digests(target, [target.copied(name) for name, _ in some])
            differ = [
                name
                for (name, digest), copy in zip(some, copies, strict=True)
                if digest and (digest != copy or digest.startswith(b"long"))
            ]
            if differ:
                await self._compare_contents(place, target, differ)

    async def _compare_contents(self, place: Place, target: Place, names: Sequence[Name]) -> None:
        digests = await self._digests(place, [place.key(name) for name in names], of_dump=False)
        copies = await self._digests(target, [target.copied(name) for name in names], of_dump=False)
        for name, digest, copy in zip(names, digests, copies, strict=True):
            if digest and (digest != copy or digest.startswith(b"long")):
                await self._examine(place, target, name, digest, copy)

    async def _digests(self, place: Place, keys: list[Any], of_dump: bool = True) -> list[bytes]:
        self.move.check()
        found: list[bytes] = await scripts.run(place.connection, DIGEST, keys, [LONG, int(of_dump)])
        return found

    async def _examine(self, place: Place, target: Place, name: Name, digest: bytes, copy: bytes) -> None:
        """Note a key as changed unless it and its copy only seem to differ."""
        if digest == copy and await same_long(place, target, name):
            return
        if not copy and await expires_soon(place, digest):
            return
        if name.fate is Fate.OWNED and copy:
            ours, theirs = await self._ranks(place, target, name)
            if ours[-1] != theirs[-1] and ours < theirs:
                return
        if self._right_place(name) not in (None, place.number):
            raise MoveError(
                f"{place.key(name).decode('utf-8', 'replace')} is in a partition where it does not belong, "
                "and there is another of its name: give the move up with --abandon, and delete one of them"
            )
        await target.call("UNLINK", target.copied(name))
        self.changed.append(place.key(name).decode("utf-8", "replace"))

    def check_same(self) -> None:
        """Raise MoveError when a comparison has found keys that differ."""
        if self.changed:
            more = f" and {len(self.changed) - 1} more keys have" if len(self.changed) > 1 else " has"
            raise MoveError(
                f"{self.changed[0]}{more} changed meanwhile; make sure that nobody writes to these keys, and "
                "run this again"
            )

    def _right_place(self, name: Name) -> int | None:
        return None if name.fate is Fate.OWNED else self.move.before.partitions.number(name.owner)

    async def compare_back(self, target: Place) -> None:
        """Check that each copy in one new partition has an old key."""
        async for texts in target.scan_copied():
            names = [one for text in texts if (one := copied_name(text)) is not None]
            for start in range(0, len(names), AT_ONCE):
                await self._look_back(target, names[start : start + AT_ONCE])

    async def _look_back(self, target: Place, names: Sequence[Name]) -> None:
        self.move.check()
        before = self.move.before
        owned = [one for one in names if one.fate is Fate.OWNED]
        devices = await target.pipeline([("HGET", target.copied(one), "device") for one in owned])
        device_of = dict(zip(owned, devices, strict=True))
        parts: defaultdict[int, list[Name]] = defaultdict(list)
        for name in names:
            owner = _text(device_of[name]) if name in device_of else name.owner
            parts[before.partitions.number(owner)].append(name)
        for number, some in parts.items():
            place = before.places[number]
            there = await place.pipeline([_presence(place, one) for one in some])
            for name, found in zip(some, there, strict=True):
                wanted = device_of.get(name, 1)
                if found != wanted and not await self._is_anywhere(name, wanted):
                    await self._check_expiry(target, name)

    async def _is_anywhere(self, name: Name, wanted: Any) -> bool:
        for place in self.move.before.places:
            if await place.call(*_presence(place, name)) == wanted:
                return True
        return False

    async def _check_expiry(self, target: Place, name: Name) -> None:
        left = await target.call("PTTL", target.copied(name))
        if left == -1 or left > _SOON:
            await target.call("UNLINK", target.copied(name))
            self.changed.append(target.key(name).decode("utf-8", "replace"))


def _presence(place: Place, name: Name) -> tuple[Any, ...]:
    """Return what asks whether a key is there, or for its device."""
    if name.fate is Fate.OWNED:
        return ("HGET", place.key(name), "device")
    return ("EXISTS", place.key(name))


def copied_name(text: bytes) -> Name | None:
    """Return the name of a copy that is whole; None for others."""
    name = parse_name(text)
    return name if name is not None and name.fate in (Fate.WHOLE, Fate.OWNED) else None


async def expires_soon(place: Place, digest: bytes) -> bool:
    """Return whether a key with this digest expires about now."""
    expires = int(digest.split()[-1])
    seconds, _ = await place.call("TIME")
    return 0 < expires < int(seconds) * 1000 + _SOON
