"""Reads a sorted set in pages, highest score first, without omitting members of equal score."""

from typing import Any

from attrs import frozen

from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.web.query import Ranked


@frozen
class Page:
    """Members with their scores as Redis formats them; `more` says whether there may be more."""

    members: list[Ranked]
    more: bool


async def page(
    caller: Caller, key: str, count: int, after: Ranked | None = None, least: float | None = None
) -> Page:
    """Read at most `count` (above 0) members after a position; `least` is the lowest score."""
    lowest = "-inf" if least is None else repr(least)
    if after is None:
        found = await _read(caller, key, "+inf", lowest, 0, count)
        return Page(found, len(found) == count)
    # Members of equal score come in reverse lexical order: skip those up to the position.
    skipped = 0
    while True:
        found = await _read(caller, key, after[0], lowest, skipped, count)
        members = [one for one in found if one[0] != after[0] or one[1] < after[1]]
        if members or len(found) < count:
            return Page(members, len(found) == count)
        skipped += len(found)


async def _read(caller: Caller, key: str, most: str, least: str, skip: int, count: int) -> list[Ranked]:
    flat: list[Any] = await caller.call(
        "ZREVRANGEBYSCORE", key, most, least, "WITHSCORES", "LIMIT", skip, count
    )
    texts = [item.decode("utf-8", "replace") for item in flat]
    return list(zip(texts[1::2], texts[::2], strict=True))
