"""Ends expired and lost commands by calling `command_expire.lua`."""

from typing import Final

from attrs import define
from msgspec.msgpack import encode

from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, is_text
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_writes import MAX_REPLIES, REPLY_TTL
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.redis.transfers import MAX_TRANSFERS

#: Maximum number of commands per call. The server spends about 60 µs on each, during which it serves nobody
#: else.
AT_ONCE: Final = 50

_FIELDS: Final = encode([(name, is_text(name)) for name in PUBLIC_FIELDS])


@define
class Announcement:
    """An event as the parts around its number, device and data, and the limits of the streams."""

    parts: tuple[str, str, str, str]
    max_events: int
    max_history: int


@define
class Expired:
    """The result of one call."""

    #: Number of due commands examined, and the ids of the commands that ended.
    looked_at: int
    ended: list[str]
    #: Number of commands that could not be ended, and the reason of the last one. They stay where they are.
    refused: int
    reason: str | None
    #: The final states of the commands that ended.
    states: list[str]


async def expire(
    caller: Caller,
    keys: Keys,
    now: float,
    at: str,
    event: Announcement,
    skip: int = 0,
    *,
    lost: bool = False,
    routed: bool = False,
) -> Expired:
    """End up to `AT_ONCE` commands that are due at `now`, epoch seconds; `at` is the same time as in records.

    With `lost`, examine the commands accepted before `now`, and end those that are in no list. The first
    `skip` commands are left out. With `routed`, outcomes become transfers, since their lists may be in other
    partitions. txredisapi's errors are passed on.
    """
    looked_at, ended, refused, reason, states = await scripts.run(
        caller,
        scripts.EXPIRE.form_for(keys),
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
            MAX_TRANSFERS if routed else 0,
        ],
    )
    text = None if reason is None else reason.decode("utf-8", "replace")
    return Expired(
        looked_at, [one.decode() for one in ended], refused, text, [one.decode() for one in states]
    )
