"""The partitions of a fleet (docs/partitions.rst), each with the connection to its server. No network."""

from collections.abc import Collection, Sequence
from typing import Any

from attrs import define, field, frozen

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partition_marker import WrongPartitions, count_in
from jt709c_gateway.redis.partitions import Partitions, partition_prefix


@frozen(eq=False)
class Part:
    """One partition."""

    number: int
    keys: Keys
    connection: Any


@define(eq=False)
class Parts:
    """The partitions under a prefix; how many there are is found out unless `count` says it.

    Partition k is on server k modulo the number of connections.
    """

    prefix: str
    connections: Sequence[Any]
    is_cluster: bool
    count: int | None = None
    known: list[Part] = field(factory=list, init=False)

    @property
    def marker(self) -> str | None:
        """The key that says how many there are; None for a hash tag, which keeps all keys together."""
        return None if "{" in self.prefix else Keys(partition_prefix(self.prefix, 0)).partitions

    def name_all(self, found: str | None) -> list[Part]:
        """Name the partitions; `found` is what the marker says. Raises ValueError for another number."""
        number = None if found is None else self._number(found)
        count = self.count or number or 1
        if number is not None and number != count:
            raise ValueError(
                f"the keys under the prefix {self.prefix} are in {number} partitions, not {count}"
            )
        if count == 1 and self.is_cluster and "{" not in self.prefix:
            raise ValueError(f"no partitions under {self.prefix}; on a cluster a single prefix is a hash tag")
        if len(self.connections) > count:
            raise ValueError(f"{len(self.connections)} servers share the partitions; there are {count}")
        keys = Partitions(self.prefix, count).keys
        servers = len(self.connections)
        self.known = [
            Part(number, one, self.connections[number % servers]) for number, one in enumerate(keys)
        ]
        return self.known

    def _number(self, found: str) -> int:
        try:
            return count_in(self.prefix, self.marker or "", found.encode())
        except WrongPartitions as error:
            raise ValueError(str(error)) from None

    def chosen(self, numbers: Collection[int] | None) -> list[Part]:
        """Return the partitions with these numbers, by default all; raise ValueError for others."""
        if numbers is not None and not set(numbers) <= set(range(len(self.known))):
            raise ValueError(f"partitions: expected numbers from 0 to {len(self.known) - 1}")
        return [one for one in self.known if numbers is None or one.number in numbers]

    def of(self, device: str) -> Part:
        """Return the partition of a device id or an IMEI."""
        return self.known[Partitions(self.prefix, len(self.known)).number_of(device)]

    def of_reply(self, name: str) -> Part:
        """Return the partition of the list of outcomes with this name."""
        return self.known[Partitions(self.prefix, len(self.known)).number(name)]

    def with_command(self, device: str | None) -> list[Part]:
        """Return the partitions that may have the record of a command, that of the device first."""
        if not device:
            return self.known
        first = self.of(device)
        return [first, *(one for one in self.known if one is not first)]
