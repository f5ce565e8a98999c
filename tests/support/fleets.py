"""The same fleet, its events and its commands in stores of any number of partitions."""

from collections.abc import Sequence

from attrs import define

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.util.timestamps import iso
from tests.support import RedisClient, ValkeyServer
from tests.support.daemon import Daemon
from tests.support.events import event


def device(number: int) -> str:
    """Return the id of the lock of a number."""
    return str(794_308_700_000 + number)


@define
class StoredFleet:
    """Writes what gateways would; partition k is on every so-many-th server."""

    layout: Partitions
    clients: Sequence[RedisClient]

    def place(self, name: str) -> tuple[RedisClient, Keys]:
        """Return the server and the keys of the partition of a name."""
        number = self.layout.number(name)
        return self.clients[number % len(self.clients)], self.layout.keys[number]

    def lock(self, number: int, seen: float) -> None:
        """Store a lock that was seen then, with its IMEI."""
        name, imei = device(number), f"86728406{number:07d}"
        client, keys = self.place(name)
        fields = {"seen": "2026-11-22T10:15:01.000000Z", "dialect": "jt709", "imei": imei, "firmware": "1"}
        client.call("HSET", keys.device(name), *[part for pair in fields.items() for part in pair])
        client.call("ZADD", keys.devices, repr(seen), name)
        client, keys = self.place(imei)
        client.call("HSET", keys.imei, imei, name)

    def event(self, number: int, entry: str, kind: str = "lock") -> None:
        """Store an event of a lock, also in its audit trail."""
        name = device(number)
        client, keys = self.place(name)
        for key in (keys.events, keys.history(name)):
            fields = ("kind", kind, "device", name, "event", event(kind, name, number))
            client.call("XADD", key, entry, *fields)

    def command(self, number: int, command_id: str, at: float) -> None:
        """Store a command for a lock that was accepted then."""
        name = device(number)
        client, keys = self.place(name)
        record = {"id": command_id, "device": name, "command": "locate", "state": "done", "params": "{}"}
        record |= {"created_at": str(iso(at)), "attempts": "0", "physical": "false", "assumed": "false"}
        client.call("HSET", keys.command(command_id), *[part for pair in record.items() for part in pair])
        client.call("ZADD", keys.recent_commands, repr(at), command_id)


def two_servers(*options: str, partitions: int = 4) -> tuple[list[ValkeyServer], Daemon]:
    """Return two servers that share the partitions, started, and a daemon that is not."""
    servers = [ValkeyServer().start(), ValkeyServer().start()]
    addresses = " ".join(one.url for one in servers)
    return servers, Daemon("--partitions", str(partitions), *options, redis=addresses, udp=False)
