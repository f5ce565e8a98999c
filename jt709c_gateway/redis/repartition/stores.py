"""Where keys are moved from and to."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, Protocol

import txredisapi
from attrs import define, frozen

from jt709c_gateway.redis.keys import Keys, RepartitionKeys
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.repartition.names import Name, parse_name

#: Keys that the server looks at in one step of SCAN.
_LOOKED_AT: Final = 5_000
#: Milliseconds within which replicas and disks must have what was written.
_KEPT_WITHIN: Final = 60_000
#: What follows the prefix of a single partition in the names of the keys of several.
_NUMBERED: Final = re.compile(rb"\{[0-9]+\}:")


class MoveError(Exception):
    """The move can't go on; the text is one line for the operator."""


class Connection(Protocol):
    """A connection to the server of a partition."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; return a Deferred of its reply."""

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> Any:
        """Send commands; return a Deferred of one result for each, errors as exceptions."""


@frozen
class Place:
    """A partition on its server."""

    number: int
    keys: Keys
    connection: Connection
    #: Address of the server, or of the cluster.
    server: str
    is_single: bool = False

    @property
    def ours(self) -> RepartitionKeys:
        """The keys of the move itself."""
        return RepartitionKeys(self.keys.prefix)

    def key(self, name: Name | bytes) -> bytes:
        """Return the key of this name, or with this text behind the prefix and its colon."""
        text = name if isinstance(name, bytes) else name.text
        return self.keys.prefix.encode() + b":" + text

    def copied(self, name: Name | bytes) -> bytes:
        """Return the key that becomes the one of this name in the end."""
        return self.ours.copied("").encode() + (name if isinstance(name, bytes) else name.text)

    def partial(self, name: Name | bytes) -> bytes:
        """Return the key of a copy of this name that is not complete."""
        return self.ours.partial("").encode() + (name if isinstance(name, bytes) else name.text)

    async def call(self, *command: Any) -> Any:
        """Run a command."""
        return await self.connection.call(*command)

    async def pipeline(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Run commands and return their replies; the first error is raised."""
        if not commands:
            return []
        replies: list[Any] = await self.connection.pipeline(commands)
        for one in replies:
            if isinstance(one, Exception):
                raise one
        return replies

    async def kept(self) -> None:
        """Wait until replicas have what was written here, and the disk where there is an append-only file."""
        # A write of this connection that comes after those of others.
        await self.call("SET", self.ours.fence, 1, "PX", 1)
        _, _, replicas, *_ = await self.call("ROLE")
        if replicas and await self.call("WAIT", len(replicas), _KEPT_WITHIN) < len(replicas):
            raise MoveError(f"replicas of {self.server} are behind; run this again when they have caught up")
        try:
            on_disk, _ = await self.call("WAITAOF", 1, 0, _KEPT_WITHIN)
        except txredisapi.ResponseError as error:
            # Without an append-only file, or on a server that is older than the command.
            if "appendonly" in str(error) or "unknown command" in str(error):
                return
            raise
        if not on_disk:
            raise MoveError(f"the disk of {self.server} is behind; run this again when it has caught up")

    async def scan(self) -> AsyncIterator[tuple[list[Name], list[bytes]]]:
        """Yield the keys of the fleet in steps: those of the contract, and texts of unknown names.

        Keys of the move are left out. A key may come twice.
        """
        async for texts in self._scan(f"{self.keys.prefix}:"):
            names: list[Name] = []
            unknown: list[bytes] = []
            for text in texts:
                if text == b"repartition" or text.startswith(b"repartition:"):
                    continue
                name = parse_name(text)
                if name is not None:
                    names.append(name)
                elif not (self.is_single and _NUMBERED.match(text)):
                    unknown.append(text)
            yield names, unknown

    async def scan_copied(self) -> AsyncIterator[list[bytes]]:
        """Yield the texts of complete copies in steps."""
        async for texts in self._scan(self.ours.copied("")):
            yield texts

    async def scan_ours(self) -> AsyncIterator[list[bytes]]:
        """Yield the keys of the move in steps, without record and lease."""
        beginning = f"{self.ours.record}:"
        async for texts in self._scan(beginning):
            yield [one for text in texts if (one := beginning.encode() + text) != self.ours.lease.encode()]

    async def _scan(self, beginning: str) -> AsyncIterator[list[bytes]]:
        pattern = re.sub(r"([\\*?\[\]])", r"\\\1", beginning) + "*"
        cursor: Any = "0"
        while True:
            cursor, found = await self.call("SCAN", cursor, "MATCH", pattern, "COUNT", _LOOKED_AT)
            if found:
                yield [one[len(beginning.encode()) :] for one in found]
            if cursor in (b"0", "0"):
                return


@define(eq=False)
class Store:
    """All partitions on one side of a move; `servers` are their addresses without passwords."""

    partitions: Partitions
    places: Sequence[Place]
    servers: str

    @classmethod
    def of(cls, partitions: Partitions, connections: Sequence[Connection], servers: str) -> "Store":
        """Make a store from a connection for each partition."""
        addresses = servers.split()
        places = [
            Place(number, keys, connection, addresses[number % len(addresses)], partitions.count == 1)
            for number, (keys, connection) in enumerate(zip(partitions, connections, strict=True))
        ]
        return cls(partitions, places, servers)

    @property
    def count(self) -> int:
        """Number of partitions."""
        return self.partitions.count

    def has(self, place: Place) -> bool:
        """Return whether a partition of another store is one of these, too."""
        its = (place.server, place.keys.prefix)
        return any((one.server, one.keys.prefix) == its for one in self.places)
