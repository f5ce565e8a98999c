"""Copies long lists and streams in steps, and reads streams entry by entry."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from jt709c_gateway.redis.repartition.names import Name
from jt709c_gateway.redis.repartition.stores import Place

#: Entries in one call.
PAGE: Final = 500

#: An entry of a stream: its id, and its fields and values in turn.
Entry = tuple[bytes, list[bytes]]


async def read_stream(place: Place, key: Any) -> AsyncIterator[list[Entry]]:
    """Yield the entries of a stream in steps."""
    start = b"-"
    while True:
        page = await place.call("XRANGE", key, start, "+", "COUNT", PAGE)
        if page:
            yield [(entry, fields) for entry, fields in page]
        if len(page) < PAGE:
            return
        start = b"(" + page[-1][0]


async def read_list(place: Place, key: Any) -> AsyncIterator[list[bytes]]:
    """Yield the elements of a list in steps."""
    start = 0
    while True:
        page = await place.call("LRANGE", key, start, start + PAGE - 1)
        if page:
            yield page
        if len(page) < PAGE:
            return
        start += PAGE


async def write_entries(place: Place, key: Any, entries: Sequence[Entry]) -> None:
    """Append entries to a stream, with their ids."""
    await place.pipeline([("XADD", key, entry, *fields) for entry, fields in entries])


async def last_id(place: Place, key: Any) -> bytes:
    """Return the last id that a stream has given; `0-0` for an absent one."""
    if not await place.call("EXISTS", key):
        return b"0-0"
    flat = await place.call("XINFO", "STREAM", key)
    found: bytes = dict(zip(flat[::2], flat[1::2], strict=True))[b"last-generated-id"]
    return found


async def copy_long(place: Place, target: Place, name: Name, kind: str) -> None:
    """Copy a long list or stream; the copy gets its name when it is complete."""
    key, partial = place.key(name), target.partial(name)
    await target.call("UNLINK", partial)
    if kind == "stream":
        async for entries in read_stream(place, key):
            await write_entries(target, partial, entries)
        await target.call("XSETID", partial, await last_id(place, key))
    else:
        async for elements in read_list(place, key):
            await target.call("RPUSH", partial, *elements)
    expires = await place.call("PEXPIRETIME", key)
    if expires > 0:
        await target.call("PEXPIREAT", partial, expires)
    if await target.call("EXISTS", partial):
        await target.call("RENAME", partial, target.copied(name))


async def same_long(place: Place, target: Place, name: Name) -> bool:
    """Return whether a long list or stream and its copy have the same elements."""
    key, copy = place.key(name), target.copied(name)
    kind = await place.call("TYPE", key)
    if await target.call("TYPE", copy) != kind:
        return False
    read: Any = read_stream if kind in ("stream", b"stream") else read_list
    ours, theirs = read(place, key), read(target, copy)
    while True:
        page = await anext(ours, None)
        if page != await anext(theirs, None):
            return False
        if page is None:
            return True
