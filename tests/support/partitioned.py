"""A Redis Cluster of three primaries with replicas that has a fleet of several partitions.

`PartitionedClient` translates the keys of a fleet with one partition, so that a test runs against either.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from jt709c_gateway.protocol.device_id import canonical
from jt709c_gateway.redis.keys import DEFAULT_PREFIX
from jt709c_gateway.redis.partitions import Partitions
from tests.support import (
    LOOPBACK,
    PATIENCE,
    RedisClient,
    RedisError,
    ValkeyServer,
    shared_server,
    wait_until,
)
from tests.support.redis_groups import ClusterNode

#: With this many partitions `test_server` starts a cluster; 0 for a single server without partitions.
PARTITIONS: Final = int(os.environ.get("JT709C_TEST_PARTITIONS", "0"))
#: Keys with the id of a device at their end.
_OF_DEVICES: Final = (
    *("device", "history", "session", "recent", "track", "secret", "peripherals", "allowed"),
    *("commands:waiting", "commands:unsettled"),
)
#: Commands without keys, for each node.
_FOR_ALL_NODES: Final = frozenset({"CONFIG", "SCRIPT", "ACL", "CLIENT", "FLUSHALL"})
#: `--redis` and the number of partitions, for `Daemon`.
_urls: dict[str, int] = {}


def partitions_at(url: str) -> int:
    """Return how many partitions a fleet at this ``--redis`` has; 0 where that was not said."""
    return _urls.get(url, 0)


class PartitionedCluster:
    """Three primaries, a replica of each unless `replicas` is false, and a fleet of `count` partitions.

    The default layout puts partitions 1 and 2 on one primary, 0 and 3 on one each. `options` are those of
    each server. Replicas take over only with `fails_over`.
    """

    def __init__(
        self,
        *options: str,
        count: int = 4,
        prefix: str = DEFAULT_PREFIX,
        replicas: bool = True,
        fails_over: bool = False,
        sharded: bool = False,
    ) -> None:
        self.layout = Partitions(prefix, count, sharded)
        given = (
            *("--cluster-require-full-coverage", "no"),
            *("--cluster-replica-no-failover", "no" if fails_over else "yes"),
            *options,
        )
        self.nodes = [ClusterNode(*given) for _ in range(6 if replicas else 3)]
        #: User and password in its URL, with an @ behind them.
        self.login = ""
        self._formed = False

    @property
    def url(self) -> str:
        """Its URL for ``--redis``."""
        hosts = ",".join(f"{LOOPBACK}:{one.public_port}" for one in self.nodes[:3])
        url = f"redis+cluster://{self.login}{hosts}"
        _urls[url] = self.layout.count
        return url

    def start(self) -> "PartitionedCluster":
        """Start all nodes that don't run, and wait until the cluster serves all slots."""
        for node in self.nodes:
            if not node.running:
                node.start()
        if not self._formed:
            self._form()
            self._formed = True
        wait_until(lambda: all(one.facts()["cluster_state"] == "ok" for one in self.nodes if one.running))
        return self

    def _form(self) -> None:
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                client.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                if number < 3:
                    start, end = number * 16384 // 3, (number + 1) * 16384 // 3
                    client.call("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        with self.nodes[0].client() as client:
            for other in self.nodes[1:]:
                client.call("CLUSTER", "MEET", LOOPBACK, other.port, other.bus_port)
        known = str(len(self.nodes))
        wait_until(lambda: all(one.facts()["cluster_known_nodes"] == known for one in self.nodes))
        wait_until(lambda: all(one.facts()["cluster_state"] == "ok" for one in self.nodes[:3]))
        for primary, replica in zip(self.nodes[:3], self.nodes[3:], strict=False):
            with replica.client() as client:
                client.call("CLUSTER", "REPLICATE", primary.id())
        for primary, _ in zip(self.nodes[:3], self.nodes[3:], strict=False):
            with primary.client() as client:
                wait_until(lambda client=client: b"state=online" in client.call("INFO", "replication"))

    # All nodes at once, as a ValkeyServer

    @property
    def running(self) -> bool:
        """Whether all nodes run."""
        return all(one.running for one in self.nodes)

    def _each(self, deed: Callable[[ClusterNode], None]) -> None:
        for node in self.nodes:
            if node.running:
                deed(node)

    def stop(self) -> None:
        """Shut all nodes down."""
        self._each(lambda node: node.stop())

    def kill(self) -> None:
        """Kill all nodes."""
        self._each(lambda node: node.kill())

    def pause(self) -> None:
        """Suspend all nodes."""
        self._each(lambda node: node.pause())

    def resume(self) -> None:
        """Continue all nodes."""
        self._each(lambda node: node.resume())

    def restart(self) -> None:
        """Stop all nodes and start them again."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """Stop all nodes and remove their directories."""
        for node in self.nodes:
            node.discard()

    def client(self, timeout: float = PATIENCE) -> "PartitionedClient":
        """Return a new client of all partitions."""
        return PartitionedClient(
            self.layout, lambda number, limit: self.node_of(number).client(limit), timeout
        )

    # Single nodes

    def node_of(self, number: int) -> ClusterNode:
        """Return the node that has a partition now."""
        key = self.layout.keys[number].imei
        node: ClusterNode = wait_until(lambda: self._find(key), message=f"no node has partition {number}")
        return node

    def _find(self, key: str) -> ClusterNode | None:
        for node in self.nodes:
            if not node.running:
                continue
            try:
                with node.client(timeout=1.0) as client:
                    client.call("EXISTS", key)
            except (RedisError, OSError):
                continue
            return node
        return None

    def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """Return the replica of a node."""
        with primary.client() as client:
            lines = client.call("CLUSTER", "REPLICAS", primary.id())
        ports = [int(line.split()[1].split(b":")[1].split(b"@")[0]) for line in lines]
        return next(one for one in self.nodes if one.public_port in ports)

    def slot(self, number: int) -> int:
        """Return the slot of a partition's keys."""
        with self.nodes[0].client() as client:
            found: int = client.call("CLUSTER", "KEYSLOT", self.layout.keys[number].imei)
        return found

    def migrate(self, number: int, to: ClusterNode) -> None:
        """Move a partition's slot with its keys to another primary."""
        slot = self.slot(number)
        with self.node_of(number).client() as client:
            client.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id())
        wait_until(lambda: self._find(self.layout.keys[number].imei) is to, message="the slot does not move")


def store(*options: str) -> ValkeyServer | PartitionedCluster:
    """Return a server, not started, or with JT709C_TEST_PARTITIONS a cluster for a fleet of so many."""
    return PartitionedCluster(*options, count=PARTITIONS) if PARTITIONS else ValkeyServer(*options)


class _Shared:
    """The shared cluster of the test session, for a fleet with a prefix of its own."""

    def __init__(self, cluster: PartitionedCluster, prefix: str) -> None:
        self.url = cluster.url
        self._cluster = cluster
        self._layout = Partitions(prefix, cluster.layout.count)

    def client(self, timeout: float = PATIENCE) -> "PartitionedClient":
        """Return a new client of all partitions."""
        return PartitionedClient(
            self._layout, lambda number, limit: self._cluster.node_of(number).client(limit), timeout
        )


_shared: PartitionedCluster | None = None


def shared_store(prefix: str) -> ValkeyServer | _Shared:
    """Return the shared server, or with JT709C_TEST_PARTITIONS a shared cluster, for keys under a prefix."""
    global _shared
    if not PARTITIONS:
        return shared_server()
    if _shared is None:
        _shared = PartitionedCluster(count=PARTITIONS).start()
    return _Shared(_shared, prefix)


def over(connect: Callable[..., RedisClient], count: int) -> "Callable[..., PartitionedClient]":
    """Return a factory of clients of a fleet whose partitions are all on one server."""
    layout = Partitions(DEFAULT_PREFIX, count)
    return lambda timeout=PATIENCE: PartitionedClient(
        layout, lambda _, limit: connect(timeout=limit), timeout
    )


def device_in(layout: Partitions, number: int, nth: int = 0, first: int = 794308400001) -> str:
    """Return the `nth` device id from `first` on that is in a partition."""
    found = (str(one) for one in range(first, first + 100_000) if layout.number(str(one)) == number)
    for _ in range(nth):
        next(found)
    return next(found)


class PartitionedClient:
    """Calls commands with the keys of one partition where a fleet of several has them.

    `connect` gets the number of a partition and a timeout in seconds.

    Each command is pushed to a partition that its device is not in, all of a device to the same. Of keys that
    each partition has, numbers are added up, and lists put together, entries of streams by their ids.
    """

    def __init__(
        self, layout: Partitions, connect: Callable[[int, float], RedisClient], timeout: float = PATIENCE
    ) -> None:
        self.layout = layout
        self._connect = connect
        self._timeout = timeout
        self._clients: dict[int, RedisClient] = {}

    def at(self, number: int, *arguments: Any) -> Any:
        """Call a command, with its keys as they are, at the node of a partition."""
        for attempt in (0, 1):
            client = self._clients.get(number)
            try:
                if client is None:
                    client = self._clients[number] = self._connect(number, self._timeout)
                return client.call(*arguments)
            except RedisError as error:
                if attempt or not str(error).startswith(("MOVED", "CLUSTERDOWN")):
                    raise
                self._drop(number)
            except OSError:
                self._drop(number)
                if attempt:
                    raise
        raise AssertionError

    def _drop(self, number: int) -> None:
        client = self._clients.pop(number, None)
        if client is not None:
            client.close()

    def key(self, number: int, rest: str) -> str:
        """Return a key of a partition; `rest` is what follows the prefix."""
        return f"{self.layout.keys[number].prefix}:{rest}"

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a command; its key, if any, is the first argument."""
        if name in _FOR_ALL_NODES or not arguments:
            return self._at_each(name, *arguments)
        beginning = f"{self.layout.prefix}:"
        if not str(arguments[0]).startswith(beginning):
            return self._at_each(name, *arguments)
        rest, more = str(arguments[0]).removeprefix(beginning), arguments[1:]
        if rest.startswith("{"):
            # It has a number already.
            return self.at(int(rest[1 : rest.index("}")]), name, *arguments)
        numbers = self._partitions_of(name, rest, more)
        found = [self.at(one, name, self.key(one, rest), *more) for one in numbers]
        return found[0] if len(found) == 1 else _merged(name, found, more)

    def _list_for(self, entry: Any) -> int:
        try:
            device = str(json.loads(entry)["device"])
        except (ValueError, KeyError, TypeError):
            return 0
        return (self.layout.number_of(device) + 1) % self.layout.count

    def _at_each(self, *arguments: Any) -> Any:
        first, *_ = [self.at(number, *arguments) for number in range(self.layout.count)]
        return first

    def _partitions_of(self, name: str, rest: str, more: Sequence[Any]) -> Sequence[int]:
        count = self.layout.count
        kind, _, last = rest.rpartition(":")
        if kind in _OF_DEVICES:
            return [self.layout.number_of(last)]
        if kind == "reply":
            return [self.layout.number(last)]
        if rest in ("imei", "allowed") and more:
            return [self.layout.number_of(canonical(str(more[0])))]
        if name in ("RPUSH", "LPUSH") and (rest == "commands" or kind == "commands:intake"):
            return [self._list_for(more[0])]
        if kind == "command":
            known = [one for one in range(count) if self.at(one, "EXISTS", self.key(one, rest))]
            return known[:1] or [0]
        return range(count)

    def close(self) -> None:
        """Close all connections."""
        for number in list(self._clients):
            self._drop(number)

    def __enter__(self) -> "PartitionedClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _merged(name: str, found: list[Any], arguments: Sequence[Any]) -> Any:
    if all(isinstance(one, int) for one in found):
        return sum(found)
    lists = [one for one in found if isinstance(one, list)]
    if not lists:
        return next((one for one in found if one is not None), None)
    together = [entry for one in lists for entry in one]
    if name in ("XRANGE", "XREVRANGE"):
        together.sort(key=_id_of, reverse=name == "XREVRANGE")
        if "COUNT" in arguments:
            return _page(together, int(arguments[arguments.index("COUNT") + 1]))
    return together


def _id_of(entry: Any) -> tuple[int, ...]:
    return tuple(map(int, entry[0].split(b"-")))


def _page(together: list[Any], count: int) -> list[Any]:
    """Return the first entries. Those behind them with the id of the last one are of other partitions: who
    reads on behind that id would miss them."""
    some = together[:count]
    return some + [one for one in together[count:] if one[0] == some[-1][0]]
