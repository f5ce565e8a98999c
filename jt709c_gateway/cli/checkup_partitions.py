"""Looks at the partitions and their servers for `jt709c doctor`."""

import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar

import txredisapi

from jt709c_gateway.cli.diagnosis import PartitionFacts
from jt709c_gateway.cli.fleet import Fleet, Part

_Answer = TypeVar("_Answer")


async def if_permitted(answer: Awaitable[_Answer]) -> _Answer | None:
    """Return the answer; None if the Redis user has no right to it."""
    try:
        return await answer
    except txredisapi.ResponseError as error:
        if not str(error).lstrip("-").startswith("NOPERM"):
            raise
        return None


async def read_partitions(fleet: Fleet, there: Sequence[Part]) -> PartitionFacts:
    """Return what is wrong with the partitions; `there` are those that can be asked."""
    count = fleet.layout.count
    others = {number: found for number, found in fleet.markers.items() if found != count}
    by_server = {part.server: part for part in there}
    clocks = {part.number: await if_permitted(_clock_offset(part)) for part in by_server.values()}
    known = {number: offset for number, offset in clocks.items() if offset is not None}
    return PartitionFacts(count, dict(fleet.away), others, known)


async def _clock_offset(part: Part) -> float:
    """Return by how many seconds the clock of a server is ahead of ours."""
    before = time.time()
    seconds, microseconds = await part.call("TIME")
    return int(seconds) + int(microseconds) / 1e6 - (before + time.time()) / 2
