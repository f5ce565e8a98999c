"""Reading a sorted set in pages, highest score first, so that nobody is left out where many share a score."""

from typing import Any

from attrs import frozen

from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.web.query import Ranked


@frozen
class Page:
    """Members with their scores as the server writes them, and whether there may be more."""

    members: list[Ranked]
    more: bool


async def page(
    caller: Caller, key: str, count: int, after: Ranked | None = None, least: float | None = None
) -> Page:
    """At most `count` members, count being above 0, that come after a place; `least` is the lowest score."""
    lowest = "-inf" if least is None else repr(least)
    if after is None:
        found = await _read(caller, key, "+inf", lowest, 0, count)
        return Page(found, len(found) == count)
    # Those of the same score come in reverse order of their names: skip what is not behind the place.
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
