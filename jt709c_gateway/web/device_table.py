"""Reads the table of all locks from the partitions that have them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from attrs import define
from msgspec import UNSET, UnsetType

from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.redis.label_search import LabelSearch
from jt709c_gateway.util.timestamps import Timestamp, iso
from jt709c_gateway.web.device_rows import AT_ONCE, DeviceRows, PeripheralSummary
from jt709c_gateway.web.merge import Merge, Page
from jt709c_gateway.web.pagination import page, rank
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition, side_by_side
from jt709c_gateway.web.query import Ranked

MAX_DEVICES: Final = 20_000
_EVERY: Final = LabelSearch()


class PageEnd(msgspec.Struct):
    """The fields of a `DevicePage` behind its devices."""

    next: str | None
    total: int
    as_of: Timestamp
    partitions_away: list[int] | UnsetType = UNSET


class DevicePage(PageEnd, kw_only=True):
    """Locks, last seen first; `next` is the cursor of the next page, None at the end.

    `total` is the number of all locks, or of those seen since the given time, also when `group` or `text`
    leave some out; a page can then be short, or empty, before the end. The states are of `as_of`.
    `partitions_away` has the numbers of the partitions whose locks are missing, also in `total`.
    """

    devices: list[DeviceSummary]


@define(eq=False)
class DeviceTable:
    """Reads device summaries page by page, and single locks. Calls fail with txredisapi's errors."""

    web: PartitionedWebRedis

    async def read(
        self,
        limit: int,
        after: Ranked | None,
        seen_since: float | None,
        now: float,
        wanted: LabelSearch = _EVERY,
    ) -> bytes:
        """Read at most `limit` locks that are `wanted`, last seen first, as JSON. Times are in epoch seconds.

        The JSON is assembled page by page, since 10,000 locks are some megabytes. At most `MAX_DEVICES` are
        looked at.
        """

        async def read(partition: WebPartition, last: Ranked | None, count: int) -> Page[Ranked]:
            return await page(partition.redis, partition.keys.devices, count, last or after, seen_since)

        merge = Merge(self.web.partitions, read, lambda member, _: rank(member))
        pieces: list[bytes] = []
        away: set[int] = set()
        count = looked_at = 0
        last, is_cut = after, False
        while merge.more and count < limit and looked_at < MAX_DEVICES:
            members = await merge.take(AT_ONCE if wanted else min(AT_ONCE, limit - count))
            if not members:
                continue
            looked_at += len(members)
            last = members[-1][1]
            found = await self._rows(members, away)
            if wanted:
                found = [one for one in found if wanted.fits_summary(one)]
                if is_cut := len(found) > limit - count:
                    del found[limit - count :]
                    last = next(one for _, one in members if one[1] == found[-1].device)
            count += len(found) if wanted else len(members)
            if found:
                pieces.append(to_json(found)[1:-1])
        more = merge.more or is_cut
        total = await self._count(seen_since, away)
        lacking = sorted(away.union(merge.away)) or UNSET
        end = PageEnd(":".join(last) if more and last else None, total, iso(now), lacking)
        return b'{"devices":[%b],%b' % (b",".join(pieces), msgspec.json.encode(end)[1:])

    async def one(self, device: str) -> tuple[DeviceSummary, dict[str, Any] | None] | None:
        """Read a lock and its last location; None if the lock has never reported."""
        return await rows(self.web.of(device)).one(device)

    async def peripherals(self, device: str) -> list[PeripheralSummary]:
        """Read the sub-locks and sensors of a master, last seen first."""
        return await rows(self.web.of(device)).peripherals(device)

    async def resolve(self, name: str) -> str:
        """Resolve a device id, with or without leading zeros, an IMEI, or a sub-lock id to the device id."""
        return (await self.web.queries.look_up(name)).device

    async def _rows(
        self, members: Sequence[tuple[WebPartition, Ranked]], away: set[int]
    ) -> list[DeviceSummary]:
        """Read the summaries of these members; those of partitions that can't be reached are left out."""
        names: defaultdict[WebPartition, list[str]] = defaultdict(list)
        for partition, (_, device) in members:
            names[partition].append(device)
        answers = await side_by_side(list(names), lambda one: rows(one).summaries(names[one]))
        away.update(answers.away)
        found = {partition: iter(summaries) for partition, summaries in answers.found}
        return [next(found[partition]) for partition, _ in members if partition in found]

    async def _count(self, seen_since: float | None, away: set[int]) -> int:
        answers = await side_by_side(self.web.partitions, lambda one: rows(one).count(seen_since))
        away.update(answers.away)
        return sum(answers.values())


def rows(partition: WebPartition) -> DeviceRows:
    """What reads the devices of one partition."""
    return DeviceRows(partition.redis, partition.keys)
