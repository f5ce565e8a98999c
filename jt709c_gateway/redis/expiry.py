"""Ending the commands whose ttl has run out, and those that are lost, as `command_expire.lua` does it."""

from typing import Final

from attrs import define
from msgspec.msgpack import encode

from jt709c_gateway.commands.stored import PUBLIC_FIELDS, is_text
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_writes import MAX_REPLIES, REPLY_TTL
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

#: Commands that one call looks at. The server spends some 60 µs on each, and whatever else it is asked waits.
AT_ONCE: Final = 50

_FIELDS: Final = encode([(name, is_text(name)) for name in PUBLIC_FIELDS])


@define
class Announcement:
    """An event, in the parts around its number, its device and its data; and the streams' caps."""

    parts: tuple[str, str, str, str]
    max_events: int
    max_history: int


@define
class Expired:
    """What one call has done."""

    #: Due commands that were looked at, and the ids of those that ended.
    looked_at: int
    ended: list[str]
    #: Commands that could not be ended, and why not the last of them. They stay where they are.
    refused: int
    reason: str | None
    #: The states in which those have ended.
    states: list[str]


async def expire(
    caller: Caller, keys: Keys, now: float, at: str, event: Announcement, skip: int = 0, *, lost: bool = False
) -> Expired:
    """End up to `AT_ONCE` commands that are due at `now`, epoch seconds; `at` is now as in records.

    With `lost`, look at those that came before `now`, and end what is in no list. The first `skip` are left
    out. txredisapi's errors come as they are.
    """
    looked_at, ended, refused, reason, states = await scripts.run(
        caller,
        scripts.EXPIRE,
        [keys.deadlines, keys.events, keys.recent_commands],
        [
            keys.prefix,
            f"{now:.3f}",
            AT_ONCE,
            skip,
            at,
            event.max_events,
            event.max_history,
            MAX_REPLIES,
            REPLY_TTL,
            _FIELDS,
            *event.parts,
            "1" if lost else "0",
        ],
    )
    text = None if reason is None else reason.decode("utf-8", "replace")
    return Expired(
        looked_at, [one.decode() for one in ended], refused, text, [one.decode() for one in states]
    )
