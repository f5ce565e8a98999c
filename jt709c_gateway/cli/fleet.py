"""The partitions of a fleet (docs/partitions.rst) for subcommands: one of them, or all side by side."""

import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import txredisapi
from attrs import define, field, frozen
from twisted.internet import defer, task

from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.redis_client import FirstConnection, Link
from jt709c_gateway.cli.runner import notice
from jt709c_gateway.redis.address import RedisAddress
from jt709c_gateway.redis.client_protocol import Argument
from jt709c_gateway.redis.connection import RedisConnection
from jt709c_gateway.redis.endpoints import has_hash_tag
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partition_marker import WrongPartitions, count_in
from jt709c_gateway.redis.partitioned_queries import gather
from jt709c_gateway.redis.partitions import Partitions, partition_prefix

_T = TypeVar("_T")
#: The most partitions that are asked at the same time.
_SIDE_BY_SIDE: Final = 32
#: Seconds between two looks whether a connection is there.
_LOOK_EVERY: Final = 0.1


@define(eq=False)
class Server:
    """A connection for requests, made when it is first needed; partitions on one server share it."""

    reactor: Any
    connection: RedisConnection
    first: FirstConnection
    #: Whether to go on trying after a failure.
    stay: bool = False
    #: Why it can't be used; None before it was tried, too.
    trouble: str | None = None
    _tried: bool = False
    _waiting: "list[defer.Deferred[None]] | None" = None

    @classmethod
    def to(cls, reactor: Any, link: Link, address: RedisAddress, probe: Keys, **more: Any) -> "Server":
        """Make one for an address; `name` in `more` is that in messages, instead of the address."""
        first = FirstConnection(more.pop("name", address.masked()), tries=max(1, len(address.nodes)))
        endpoint = link.endpoint(reactor, address)
        connection = RedisConnection(reactor, address, endpoint, probe=probe.imei, connection_log=first)
        return cls(reactor, connection, first, **more)

    async def open(self) -> str | None:
        """Connect unless that was tried before; return why it can't be used, or None."""
        if not self._tried:
            await self._try()
        if self.connection.connected:
            self.trouble = None
        elif self.trouble is None:
            self.trouble = f"the connection to {self.first.address} was lost"
        return self.trouble

    async def _try(self) -> None:
        """Connect, or wait until another caller has tried that."""
        if self._waiting is not None:
            self._waiting.append(defer.Deferred())
            await self._waiting[-1]
            return
        self._waiting = []
        self.connection.startService()
        try:
            await self.first.wait(self.reactor)
        except UserError as error:
            self.trouble = error.message
            if not self.stay:
                await self.connection.stopService()
        self._tried = True
        for one in self._waiting:
            one.callback(None)

    async def there(self) -> None:
        """Wait until the connection is there, however long that takes; say why it is not at first."""
        if (trouble := await self.open()) is not None:
            notice(f"{trouble}; trying again")
        while not self.connection.connected:
            await task.deferLater(self.reactor, _LOOK_EVERY, lambda: None)

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.stopService()


@frozen(eq=False)
class Part:
    """One partition: its number, the names of its keys, and the server that has them."""

    number: int
    keys: Keys
    server: Server

    def call(self, *arguments: Argument) -> "defer.Deferred[Any]":
        """Send one command, as RedisConnection does."""
        return self.server.connection.call(*arguments)

    def pipeline(self, commands: Sequence[Sequence[Argument]]) -> "defer.Deferred[list[Any]]":
        """Send commands in one write, as RedisConnection does."""
        return self.server.connection.pipeline(commands)


@define(eq=False)
class Fleet:
    """All partitions under a prefix; a fleet that is not divided is one partition.

    `stay` is for long-running subcommands: connections that fail are tried again; with `patient`, a partition
    that is needed alone is waited for. Without `strict`, markers of another number are noted in `markers`,
    and no error.
    """

    reactor: Any
    link: Link
    prefix: str
    stay: bool = False
    patient: bool = False
    strict: bool = True
    layout: Partitions = field(init=False)
    parts: list[Part] = field(factory=list, init=False)
    #: Why partitions could not be asked the last time, by their numbers.
    away: dict[int, str] = field(factory=dict, init=False)
    #: How many partitions there are according to each.
    markers: dict[int, int] = field(factory=dict, init=False)
    _servers: list[Server] = field(factory=list, init=False)

    # Opening and closing

    async def open(self) -> None:
        """Find out how many partitions there are, unless that was given; raise UserError if that fails."""
        count, link = self.link.partitions, self.link
        if count is None:
            count = 1 if has_hash_tag(self.prefix) else await self._find_count()
        self.layout = Partitions(self.prefix, count)
        self._check_options(count)
        if link.address.nodes and count > 1:
            known = self._servers[:1]
            self._servers = known + [
                self._server(link.address, keys, name=f"{link.masked()} (partition {number})")
                for number, keys in enumerate(self.layout)
                if number or not known
            ]
        else:
            of_first = self._servers or [self._server(link.address, self.layout.keys[0])]
            self._servers = of_first + [
                self._server(one, self.layout.keys[number])
                for number, one in enumerate(link.addresses)
                if number
            ]
        self.parts = [
            Part(number, keys, self._servers[number % len(self._servers)])
            for number, keys in enumerate(self.layout)
        ]

    async def close(self) -> None:
        """Close all connections."""
        await gather([one.close() for one in self._servers])

    def _server(self, address: RedisAddress, probe: Keys, **more: Any) -> Server:
        return Server.to(self.reactor, self.link, address, probe, stay=self.stay, **more)

    async def _find_count(self) -> int:
        """Return the number that partition 0 has; 1 if it has none, or this user may not read it."""
        first = Keys(partition_prefix(self.prefix, 0))
        is_cluster = bool(self.link.address.nodes)
        server = self._server(self.link.address, first if is_cluster else Keys(self.prefix))
        self._servers.append(server)
        if self.patient:
            await server.there()
        if (trouble := await server.open()) is not None:
            if is_cluster or len(self.link.addresses) > 1:
                trouble += "; without partition 0, give --partitions"
            raise UserError(trouble)
        found = await _readable(server.connection, "GET", first.partitions)
        if found is not None:
            self.markers[0] = self._count_in(first.partitions, found)
        return self.markers.get(0, 1)

    def _check_options(self, count: int) -> None:
        prefix, servers = self.prefix, len(self.link.addresses)
        if count == 1 and self.link.address.nodes and not has_hash_tag(prefix):
            raise UserError(
                f"--prefix: on a cluster it is a hash tag, such as {{jt709c}}, and not {prefix!r}; or give "
                "--partitions, if there are several"
            )
        if count > 1 and "{" in prefix:
            raise UserError(f"--prefix: {prefix!r}: expected one without a hash tag for several partitions")
        if servers > count:
            raise UserError(f"--redis: {servers} servers share the partitions; give --partitions")

    # Asking

    async def use(self, number: int) -> Part:
        """Return a partition that can be asked; raise UserError when it is away."""
        part = self.parts[number]
        if self.patient:
            await part.server.there()
        if not await self._is_there(part):
            raise UserError(self.away[number])
        return part

    async def of(self, device: str) -> Part:
        """Return the partition of a device id or an IMEI; raise UserError when it is away."""
        return await self.use(self.layout.number_of(device))

    async def present(self) -> list[Part]:
        """Return all partitions that can be asked; the others are in `away`. Raise UserError without any."""
        if not (found := await self.settle()):
            raise UserError(next(iter(self.away.values())))
        return found

    async def settle(self) -> list[Part]:
        """Try to connect to all partitions; return those that can be asked."""
        await gather([one.open() for one in self._servers])
        there = await gather([self._is_there(part) for part in self.parts])
        return [part for part, is_there in zip(self.parts, there, strict=True) if is_there]

    async def each(self, ask: Callable[[Part], Awaitable[_T]]) -> list[_T]:
        """Ask all partitions side by side; one that is away, or goes away, gives no answer."""
        limit = defer.DeferredSemaphore(_SIDE_BY_SIDE)

        async def one(part: Part) -> list[_T]:
            await limit.acquire()
            try:
                return [await ask(part)]
            except txredisapi.ConnectionError as error:
                self.lost(part, error)
                return []
            finally:
                limit.release()

        return [
            answer for some in await gather([one(part) for part in await self.present()]) for answer in some
        ]

    def lost(self, part: Part, error: Exception) -> None:
        """Note that the connection to a partition was lost; a single one raises the error."""
        if self.layout.count == 1:
            raise error
        self.away[part.number] = f"the connection to {part.server.first.address} was lost"

    async def _is_there(self, part: Part) -> bool:
        trouble = await part.server.open()
        if trouble is None:
            try:
                await self._check_number(part)
            except txredisapi.ConnectionError as error:
                trouble = str(error)
        if trouble is None:
            self.away.pop(part.number, None)
        else:
            self.away[part.number] = trouble
        return trouble is None

    async def _check_number(self, part: Part) -> None:
        """Raise UserError when a partition has another number of partitions than expected."""
        count, number = self.layout.count, part.number
        if number in self.markers or has_hash_tag(self.prefix):
            return
        marked = part.keys if count > 1 else Keys(partition_prefix(self.prefix, 0))
        packed = await _readable(part, "GET", marked.partitions)
        found = None if packed is None else self._count_in(marked.partitions, packed)
        if found is None and count > 1 and number == 0 and not self.link.address.nodes:
            found = await _readable(part, "EXISTS", Keys(self.prefix).epoch) or None
        self.markers[number] = count if found is None else found
        if self.strict and self.markers[number] != count:
            raise UserError(wrong_number(self.prefix, self.markers[number], count))

    def _count_in(self, key: str, packed: bytes) -> int:
        try:
            return count_in(self.prefix, key, packed)
        except WrongPartitions as error:
            raise UserError(str(error)) from None


async def _readable(caller: Any, *command: Argument) -> Any:
    """Return a reply; None where the key is elsewhere, or this user may not read it."""
    with suppress(txredisapi.ResponseError):
        return await caller.call(*command)
    return None


def wrong_number(prefix: str, found: int, given: int) -> str:
    """Say that there are another number of partitions than given."""
    are = "1 partition" if found == 1 else f"{found} partitions"
    return f"the keys under the prefix {prefix} are in {are}, not {given}: give --partitions {found}"


def merged(
    parts: Iterable[Sequence[_T]], order: Callable[[_T], Any], *, falling: bool = False
) -> Iterator[_T]:
    """Merge what each partition has in order into the order of a single store."""
    return heapq.merge(*parts, key=order, reverse=falling)


def entry_order(entry: bytes) -> tuple[int, int]:
    """The order of ids of stream entries, also among several streams."""
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)


def away_text(away: Mapping[int, str]) -> str:
    """Say which partitions are away, with the reason of the first."""
    numbers = sorted(away)
    are = (
        f"partition {numbers[0]} is"
        if len(numbers) == 1
        else f"partitions {', '.join(map(str, numbers))} are"
    )
    return f"{are} away, and what is there is missing: {away[numbers[0]]}"
