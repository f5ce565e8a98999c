"""Lists the ids of the latest commands of all partitions."""

from collections.abc import AsyncIterator
from typing import Final

import txredisapi
from attrs import define, field

from jt709c_gateway.cli.fleet import Fleet, Part, merged
from jt709c_gateway.redis.partitioned_queries import gather

#: Commands per request, of all partitions together; and the least of each.
_PAGE: Final = 200
_LEAST: Final = 20

#: A command's id, with the partition that has it.
Listed = tuple[Part, str]
#: The same with its time of acceptance.
_Dated = tuple[float, bytes, Part]


@define(eq=False)
class _Pages:
    """The ids of one partition, read in pages, the newest first."""

    part: Part
    size: int
    read: int = 0
    ended: bool = False
    waiting: list[_Dated] = field(factory=list)

    async def fill(self) -> None:
        """Read the next page when all of the one before was used."""
        if self.waiting or self.ended:
            return
        asked = ("ZREVRANGE", self.part.keys.recent_commands, self.read, self.read + self.size - 1)
        flat = await self.part.call(*asked, "WITHSCORES")
        self.waiting = [(float(at), name, self.part) for name, at in zip(flat[::2], flat[1::2], strict=True)]
        self.read += len(self.waiting)
        self.ended = len(self.waiting) < self.size


def _order(one: _Dated) -> tuple[float, bytes]:
    return one[:2]


async def newest_first(fleet: Fleet) -> AsyncIterator[list[Listed]]:
    """Yield the ids of the latest commands in pages, the newest first, as a single store has them."""
    parts = await fleet.present()
    size = max(_LEAST, _PAGE // len(parts))
    pages = [_Pages(part, size) for part in parts]
    while pages:
        filled = await gather([_filled(fleet, one) for one in pages])
        pages = [one for one, has_more in zip(pages, filled, strict=True) if has_more]
        if not pages:
            return
        # What is older than the end of a page that was read may come behind what was not read yet.
        limit = max((_order(one.waiting[-1]) for one in pages if not one.ended), default=None)
        taken = []
        for one in pages:
            rest = [] if limit is None else [item for item in one.waiting if _order(item) < limit]
            taken.append(one.waiting[: len(one.waiting) - len(rest)])
            one.waiting = rest
        yield [
            (part, name.decode("utf-8", "replace")) for _, name, part in merged(taken, _order, falling=True)
        ]


async def _filled(fleet: Fleet, page: _Pages) -> bool:
    """Return whether a partition has further ids; not when it is away."""
    try:
        await page.fill()
    except txredisapi.ConnectionError as error:
        fleet.lost(page.part, error)
        return False
    return bool(page.waiting)
