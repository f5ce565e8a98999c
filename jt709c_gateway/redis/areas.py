"""Named areas in Redis, which the conditions of commands name (docs/redis.rst).

Each partition has all of them, so that an area is read where the command is.
"""

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller


async def area_text(caller: Caller, keys: Keys, name: str) -> bytes | None:
    """Return the JSON of an area, None when there is none; txredisapi's errors are passed on."""
    text: bytes | None = await caller.call("GET", keys.area(name))
    return text
