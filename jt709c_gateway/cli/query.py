"""Runs the reactor for a subcommand that asks Redis and ends."""

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import txredisapi

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, away_text
from jt709c_gateway.cli.redis_client import redis_link, refused
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.runner import notice, run

_Answer = TypeVar("_Answer")
#: Exit status when a part of the answer is missing.
_PARTIAL: Final = 1


def query(
    options: RedisOptions,
    prefix: str,
    what: str,
    question: Callable[[Fleet], Awaitable[_Answer]],
    user: str = "jt709c-reader",
    *,
    stay: bool = False,
    strict: bool = True,
) -> _Answer:
    """Run the reactor to connect and get the answer to `question`; raise UserError if that fails.

    `what` says what it does, as in `read a history`, and `user` which user in etc/redis-acl.conf may do it. A
    signal ends the process. `stay` and `strict` are those of Fleet.
    """
    link = redis_link(options)
    answers: list[_Answer] = []

    async def begin(reactor: object) -> int:
        fleet = Fleet(reactor, link, prefix, stay, strict=strict)
        try:
            await fleet.open()
            answers.append(await question(fleet))
        finally:
            await fleet.close()
        return 0

    try:
        status = run(begin)
    except txredisapi.ConnectionError:
        raise UserError(f"the connection to {link.masked()} was lost") from None
    except txredisapi.ResponseError as error:
        raise UserError(refused(what, str(error), user)) from None
    if not answers:
        sys.exit(status)
    return answers[0]


def query_all(
    options: RedisOptions,
    prefix: str,
    what: str,
    question: Callable[[Fleet], Awaitable[_Answer]],
    user: str = "jt709c-reader",
) -> tuple[_Answer, Mapping[int, str]]:
    """Return the answer of all partitions that can be asked, and those that are away; else as `query`."""

    async def both(fleet: Fleet) -> tuple[_Answer, Mapping[int, str]]:
        return await question(fleet), dict(fleet.away)

    return query(options, prefix, what, both, user)


def end_partial(away: Mapping[int, str]) -> None:
    """When partitions are away, say which, and end with the status of a partial failure."""
    if away:
        notice(away_text(away))
        sys.exit(_PARTIAL)
