"""Looks at the keys before anything is written: whether they can be moved, and how many there are."""

from collections import Counter
from typing import Final

import txredisapi
from attrs import define, field

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partition_marker import Marker, Moved, Moving, partition_count, problem, read_marker
from jt709c_gateway.redis.partitions import partition_prefix
from jt709c_gateway.redis.repartition.names import FATES, Fate, Name
from jt709c_gateway.redis.repartition.stores import MoveError, Store

#: Unknown names that are shown.
_SHOWN: Final = 5


@define
class Survey:
    """What the old partitions have."""

    #: Numbers of keys by their name in `Keys`.
    counts: Counter[str] = field(factory=Counter)
    #: Keys that are divided and have a gateway in their name.
    split: set[Name] = field(factory=set)
    #: Keys under our prefix that are not of the contract; `unknown` has the first ones.
    unknown_count: int = 0
    unknown: list[str] = field(factory=list)

    @property
    def total(self) -> int:
        """Number of keys of the contract."""
        return self.counts.total()

    @property
    def whole(self) -> int:
        """Number of keys that stay as they are."""
        return sum(count for kind, count in self.counts.items() if FATES[kind] in (Fate.WHOLE, Fate.OWNED))

    def check(self) -> None:
        """Raise MoveError when there are unknown keys."""
        if self.unknown_count:
            names = ", ".join(self.unknown) + (" …" if self.unknown_count > len(self.unknown) else "")
            raise MoveError(
                f"{self.unknown_count} keys under this prefix are none of the gateway's: {names}; rename or "
                "delete them, or leave them where they are with --leave-unknown"
            )


async def survey(store: Store) -> Survey:
    """Count the keys of the old partitions."""
    found = Survey()
    for place in store.places:
        async for names, unknown in place.scan():
            for name in names:
                found.counts[name.kind] += 1
                if name.fate is Fate.SPLIT:
                    found.split.add(name)
            found.unknown_count += len(unknown)
            for text in unknown[: _SHOWN - len(found.unknown)]:
                found.unknown.append(place.key(text).decode("utf-8", "backslashreplace"))
    return found


async def check_gateways(store: Store) -> None:
    """Raise MoveError when a gateway lives."""
    living: set[str] = set()
    for place in store.places:
        names = sorted(await place.call("SMEMBERS", place.keys.gateways))
        texts = [name.decode("utf-8", "replace") for name in names]
        found = await place.pipeline([("EXISTS", place.keys.gateway(name)) for name in texts])
        living.update(name for name, lives in zip(texts, found, strict=True) if lives)
    if living:
        raise MoveError(
            f"gateways run: {', '.join(sorted(living))}; stop them all, or wait for --gateway-ttl if they "
            "were killed"
        )


async def is_done(before: Store, after: Store) -> bool:
    """Return whether the keys have been moved already; MoveError when they are not where they should be."""
    prefix, wanted = before.partitions.prefix, after.count
    first, target = before.places[0], after.places[0]
    packed = await target.call("GET", target.keys.partitions)
    arrived = packed is not None and read_marker(packed) == wanted if wanted > 1 else False
    if wanted == 1 and packed is None:
        arrived = bool(await target.call("EXISTS", target.keys.epoch))
    packed = await first.call("GET", first.keys.partitions)
    marker = None if packed is None else read_marker(packed)
    if packed is not None and marker is None:
        raise MoveError(problem(prefix, first.keys.partitions, None, before.count))
    if isinstance(marker, Moved):
        if arrived and (marker.after, marker.prefix) == (wanted, after.partitions.prefix):
            return True
        raise MoveError(problem(prefix, first.keys.partitions, marker, before.count))
    if isinstance(marker, Moving):
        raise MoveError(
            f"{first.keys.partitions} belongs to a move to other servers or another prefix: give its options "
            "to go on with it"
        )
    present = (
        marker == before.count if before.count > 1 else bool(await first.call("EXISTS", first.keys.epoch))
    )
    if present:
        return False
    is_here = before.servers == after.servers and prefix == after.partitions.prefix
    if arrived and (is_here or after.has(first)):
        return True
    if before.count == 1:
        marker = await _marker_of_several(before)
    if isinstance(marker, int):
        raise MoveError(
            f"the keys under the prefix {prefix} are in {partition_count(marker)}: give --from {marker}"
        )
    raise MoveError(f"there are no keys of {partition_count(before.count)} under the prefix {prefix}")


async def _marker_of_several(store: Store) -> Marker | None:
    """Return the marker of several partitions under this prefix, if it is on the server of the single one."""
    try:
        packed = await store.places[0].call(
            "GET", Keys(partition_prefix(store.partitions.prefix, 0)).partitions
        )
    except txredisapi.ResponseError:
        return None
    return None if packed is None else read_marker(packed)


async def check_free(before: Store, after: Store) -> None:
    """Raise MoveError when a new partition has keys already, other than commands pushed to it."""
    for place in after.places:
        if before.has(place):
            continue
        async for names, unknown in place.scan():
            found = [one.text for one in names if one.kind not in ("commands", "partitions")] + unknown
            if found:
                key = place.key(found[0]).decode("utf-8", "backslashreplace")
                raise MoveError(
                    f"{key} exists where keys are to be moved to; expected nothing there but commands"
                )
