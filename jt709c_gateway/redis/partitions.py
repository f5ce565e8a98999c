"""Partitions: how the devices of a fleet are divided among several sets of keys (docs/partitions.rst).

All keys of a partition share one hash slot. So each partition can be on another node of a Redis Cluster,
or on another server.
"""

from binascii import crc_hqx
from collections.abc import Iterator
from typing import Final

from attrs import field, frozen

from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.redis.keys import Channels, Keys

#: The most partitions that a fleet may have: each costs every gateway three connections.
MAX_PARTITIONS: Final = 256


@frozen
class Partitions:
    """The partitions under one prefix. A single one has no number in its keys.

    `sharded` says that events are published with sharded pub/sub, on the node of their partition.
    """

    prefix: str
    count: int = 1
    sharded: bool = False
    #: The names of the keys of each partition.
    keys: tuple[Keys, ...] = field(init=False, repr=False)

    @keys.default
    def _name_all(self) -> tuple[Keys, ...]:
        if self.count == 1:
            return (Keys(self.prefix),)
        channels = Channels.SHARDED if self.sharded else Channels.SHARED
        return tuple(
            Keys(partition_prefix(self.prefix, number), channels, self.count) for number in range(self.count)
        )

    def __iter__(self) -> Iterator[Keys]:
        """Iterate over the names of the keys of each partition."""
        return iter(self.keys)

    def number(self, name: str) -> int:
        """Return the number of the partition of a device id in its canonical form, or of any other name.

        It is the CRC-16 (XMODEM) of the name modulo their number; Redis Cluster uses the same for slots.
        """
        return crc_hqx(name.encode(), 0) % self.count if self.count > 1 else 0

    def number_of(self, device: str) -> int:
        """Return the number of the partition of a device id or an IMEI; leading zeros do not matter."""
        return self.number(canonical(device))

    def keys_of(self, device: str) -> Keys:
        """Return the names of the keys of the partition of a device id or an IMEI."""
        return self.keys[self.number_of(device)]


def partition_prefix(prefix: str, number: int) -> str:
    """Return the prefix of the keys of one of several partitions; its number is their hash tag."""
    return f"{prefix}:{{{number}}}"
