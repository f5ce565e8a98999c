"""Connects to the servers of a move, runs it, and shows its progress."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import click
import txredisapi
from attrs import define, field, frozen
from twisted.internet import defer

from jt709c_gateway.cli.console import plain
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.redis_client import FirstConnection, Link, redis_link
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.runner import notice, run
from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.endpoints import has_hash_tag
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitioned_queries import gather
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.repartition.mover import Mover, Teller
from jt709c_gateway.redis.repartition.stores import MoveError, Store

#: Seconds between lines about a step, and for one reply: a large key takes a while.
_EVERY: Final = 5.0
_REPLY: Final = 120.0


@frozen
class Wanted:
    """The options of `jt709c repartition`."""

    before: int
    after: int
    from_prefix: str
    prefix: str
    to_redis: str | None
    dry_run: bool
    abandon: bool
    leave_unknown: bool

    def check(self) -> None:
        """Raise UserError when there is nothing to move, or a prefix does not suit its partitions."""
        if self.before == self.after and self.from_prefix == self.prefix and self.to_redis is None:
            raise UserError(f"--to {self.after}: expected another number than --from, or --to-redis")
        for name, prefix, count in (
            ("--from-prefix", self.from_prefix, self.before),
            ("--prefix", self.prefix, self.after),
        ):
            if count > 1 and "{" in prefix:
                raise UserError(f"{name}: {prefix!r} would keep all {count} partitions in one slot")


@define(eq=False)
class Lines(Teller):
    """Tells of the progress in lines on standard error."""

    reactor: Any
    _what: str = ""
    _total: int | None = None
    _count: int = 0
    _told: float = field(default=0.0)

    def begin(self, what: str, total: int | None = None) -> None:
        """Tell that a step begins."""
        self._what, self._total, self._count, self._told = what, total, 0, self.reactor.seconds()
        notice(f"{what}" if total is None else f"{what}: {total:,}")

    def handled(self, count: int) -> None:
        """Tell now and then how many keys were handled."""
        self._count += count
        if self.reactor.seconds() - self._told >= _EVERY:
            self._told = self.reactor.seconds()
            of = "" if self._total is None else f" of {self._total:,}"
            notice(f"{self._what}: {self._count:,}{of}")


@define(eq=False)
class Connections:
    """The connections of a run: one for each server, and on a cluster one for each partition."""

    reactor: Any
    _made: dict[tuple[RedisAddress, str], RedisConnection] = field(factory=dict)
    _first: list[FirstConnection] = field(factory=list)

    def to(self, link: Link, address: RedisAddress, keys: Keys) -> RedisConnection:
        """Return the connection to the server of these keys."""
        place = (address, keys.prefix if address.nodes else "")
        if place not in self._made:
            first = FirstConnection(address.masked(), tries=max(1, len(address.nodes)))
            self._first.append(first)
            self._made[place] = RedisConnection(
                self.reactor,
                address,
                link.endpoint(self.reactor, address),
                reply_timeout=_REPLY,
                probe=keys.imei,
                connection_log=first,
            )
        return self._made[place]

    def store(self, link: Link, prefix: str, count: int, option: str) -> Store:
        """Return the store of so many partitions on these servers."""
        addresses = link.addresses
        if count == 1 and link.address.nodes and not has_hash_tag(prefix):
            raise UserError(f"{option}: {prefix!r}: on a cluster it is a hash tag, such as {{jt709c}}")
        if len(addresses) > count and count > 1:
            raise UserError(f"{len(addresses)} servers can't share {count} partitions; expected fewer")
        partitions = Partitions(prefix, count)
        connections = [
            self.to(link, addresses[number % len(addresses)], keys) for number, keys in enumerate(partitions)
        ]
        return Store.of(partitions, connections, link.masked())

    async def open(self) -> None:
        """Connect to all; raise UserError when that fails."""
        for connection in self._made.values():
            connection.startService()
        await gather([first.wait(self.reactor) for first in self._first])

    async def close(self) -> None:
        """Close all."""
        await defer.DeferredList([one.stopService() for one in self._made.values()])


def run_repartition(options: RedisOptions, wanted: Wanted) -> int:
    """Run the move; return the exit status. UserError for what keeps it from going on."""
    wanted.check()
    before = redis_link(options)
    after = before if wanted.to_redis is None else redis_link(options._replace(redis_url=wanted.to_redis))
    where = " and ".join(dict.fromkeys((before.masked(), after.masked())))

    async def begin(reactor: Any) -> int:
        connections = Connections(reactor)
        mover = Mover(
            reactor,
            connections.store(before, wanted.from_prefix, wanted.before, "--from-prefix"),
            connections.store(after, wanted.prefix, wanted.after, "--prefix"),
            Lines(reactor),
            wanted.leave_unknown,
        )
        try:
            await connections.open()
            click.echo(await _work(mover, wanted)())
        finally:
            await connections.close()
        return 0

    try:
        return run(begin)
    except MoveError as error:
        raise UserError(plain(str(error))) from None
    except txredisapi.ConnectionError as error:
        raise UserError(f"no answer from {where} ({plain(str(error))}); run this again to go on") from None
    except txredisapi.ResponseError as error:
        if "NOPERM" in str(error):
            hint = "docs/partitions.rst has one that may"
            raise UserError(f"this Redis user may not move keys ({plain(str(error))}); {hint}") from None
        raise UserError(f"Redis refused: {plain(str(error))}; run this again to go on") from None


def _work(mover: Mover, wanted: Wanted) -> Callable[[], Awaitable[str]]:
    async def plan() -> str:
        found = await mover.plan()
        if not found.total:
            return "the keys were moved before; there is nothing to do"
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.counts.items()))
        left = f"; {found.unknown_count:,} unknown ones stay" if found.unknown_count else ""
        return f"{found.total:,} keys can be moved: {kinds}{left}"

    if wanted.dry_run:
        return plan
    return mover.abandon if wanted.abandon else mover.run
