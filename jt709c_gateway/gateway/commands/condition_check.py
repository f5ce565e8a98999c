"""Checks the conditions of a command: which area it names, and whether it may be written now.

The position is that of the lock's own session here, never one from Redis.
"""

from typing import Final

import txredisapi
from attrs import frozen

from jt709c_gateway.commands.conditions import ALLOWED, LivePosition, Verdict, judge, judge_time
from jt709c_gateway.commands.geometry import Area
from jt709c_gateway.commands.model import Command
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.redis.areas import Areas, AreaUnusable

#: Seconds until an area is read again that could not be read.
_RETRY: Final = 5.0


@frozen
class NamedArea:
    """What an area's name stands for now: the area, or why there is none, or that Redis did not say."""

    area: Area | None = None
    problem: str | None = None
    is_away: bool = False


_NONE: Final = NamedArea()


async def read_area(context: CommandContext, command: Command) -> NamedArea:
    """Read the area that a command's conditions name; what Redis does not say is away."""
    name = None if command.conditions is None else command.conditions.area
    if name is None:
        return _NONE
    try:
        return NamedArea(await Areas(context.store.caller, context.store.keys).read(name))
    except AreaUnusable as error:
        return NamedArea(problem=str(error))
    except txredisapi.RedisError as error:
        context.refusals.report("to read the area that a command names", error)
        return NamedArea(is_away=True)


def judge_now(
    context: CommandContext, command: Command, session: Session | None, named: NamedArea
) -> Verdict:
    """Decide whether a command may be written to the device of this session now."""
    conditions, now = command.conditions, context.now()
    if conditions is None:
        return ALLOWED
    if (verdict := judge_time(conditions, now)) is not None:
        return verdict
    if named.is_away:
        reason = f"area {conditions.area} could not be read from Redis"
        return Verdict(waits=True, reason=reason, until=now + _RETRY)
    if named.problem is not None:
        return Verdict(reason=named.problem)
    return judge(conditions, named.area, live_position(session, now, context.gateway.clock.seconds()), now)


def live_position(session: Session | None, now: float, monotonic: float) -> LivePosition | None:
    """The last live position of a session's lock, at `now` in epoch seconds and `monotonic` seconds.

    Its age is by the lock's own time, and by its arrival on both of our clocks: a clock that was set makes no
    position younger. Of the lock's clock only a lead is corrected.
    """
    place = None if session is None else session.place
    if session is None or place is None:
        return None
    latitude, longitude, speed, at, arrival, received = place
    if latitude is None or longitude is None or at is None:
        return None
    # A slow clock makes no position younger: what looks like one may be a backlog that is sent as live.
    late = arrival - min(at, session.clock.proven_time(at, arrival))
    return LivePosition(latitude, longitude, speed, max(monotonic - received, now - arrival) + max(late, 0.0))
