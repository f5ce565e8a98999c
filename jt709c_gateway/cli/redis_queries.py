"""Runs a single query against Redis."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import txredisapi
from twisted.internet import defer

from jt709c_gateway.cli.common import UserError
from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.redis_client import Link, talk
from jt709c_gateway.cli.redis_connection import FirstConnection, once
from jt709c_gateway.redis.connection import RedisConnection

_Answer = TypeVar("_Answer")


async def ask(
    reactor: Any,
    link: Link,
    prefix: str,
    first: FirstConnection,
    what: str,
    question: Callable[[RedisConnection], Awaitable[_Answer]],
) -> _Answer:
    """What `question` makes of a connection that is there; UserError where that fails.

    `what` is read, for the message when this user of Redis may not: `a history`.
    """
    ready: defer.Deferred[None] = defer.Deferred()
    talking = talk(reactor, link, prefix, ready=lambda: once(ready))
    talking.startService()
    try:
        await first.wait(reactor, ready)
        return await question(talking)
    except txredisapi.ConnectionError:
        raise UserError(f"the connection to {link.address.masked()} was lost") from None
    except txredisapi.ResponseError as error:
        raise UserError(refused(what, str(error))) from None
    finally:
        await talking.stopService()


def refused(what: str, error: str) -> str:
    """Format an error reply of Redis."""
    if error.startswith(("NOPERM", "-NOPERM")):
        right = "expected one like jt709c-reader in etc/redis-acl.conf"
        return f"Redis doesn't let this user read {what} ({plain(error)}); {right}"
    return f"Redis refused: {plain(error)}"
