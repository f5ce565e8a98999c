"""Redundant servers: a primary with its replica and sentinels, and a Redis Cluster."""

import re

from tests.support import LOOPBACK, PATIENCE, RedisClient, RedisError, ValkeyServer, free_port, wait_until

#: Milliseconds after which a silent server counts as down.
DOWN_AFTER = 500
MASTER_NAME = "fleet"


class Sentinel(ValkeyServer):
    """A sentinel that watches over the server on this port; `quorum` have to agree that it is down.

    It is down when it is silent for `down_after`; both times are in milliseconds.
    """

    def __init__(
        self,
        port: int,
        name: str = MASTER_NAME,
        quorum: int = 2,
        down_after: int = DOWN_AFTER,
        failover_timeout: int = 3000,
    ) -> None:
        super().__init__()
        self._configuration = self.directory / "sentinel.conf"
        self._configuration.write_text(
            f"sentinel monitor {name} {LOOPBACK} {port} {quorum}\n"
            f"sentinel down-after-milliseconds {name} {down_after}\n"
            f"sentinel failover-timeout {name} {failover_timeout}\n"
        )

    def arguments(self) -> list[str]:
        """A sentinel requires a configuration file, which it writes to."""
        return [str(self._configuration), "--sentinel"]


class SentinelGroup:
    """A primary, a replica, and sentinels that watch them and need a majority."""

    def __init__(self, sentinels: int = 3) -> None:
        self.servers = [ValkeyServer().start()]
        self.servers.append(
            ValkeyServer(
                "--replicaof", f"{LOOPBACK} {self.servers[0].port}", "--repl-diskless-sync-delay", "0"
            )
        )
        self.servers[1].start()
        # Sentinels look for replicas when they start and then only every ten seconds.
        with self.servers[0].client() as client:
            wait_until(lambda: b"state=online" in client.call("INFO", "replication"))
        self.sentinels = [Sentinel(self.servers[0].port).start() for _ in range(sentinels)]
        wait_until(self._watched, message="the sentinels don't know each other and the replica")

    def _watched(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                flat = client.call("SENTINEL", "MASTER", MASTER_NAME)
            facts = dict(zip(flat[::2], flat[1::2], strict=True))
            others = str(len(self.sentinels) - 1).encode()
            if facts[b"num-slaves"] != b"1" or facts[b"num-other-sentinels"] != others:
                return False
        return True

    @property
    def url(self) -> str:
        """Their URL for ``--redis``."""
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{MASTER_NAME}"

    @property
    def primary(self) -> ValkeyServer:
        """Return the server that the sentinels call the primary now."""
        with self.sentinels[-1].client() as client:
            port = int(client.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER_NAME)[1])
        return next(one for one in self.servers if one.port == port)

    def replicated(self) -> None:
        """Wait until the replica has all data of the primary."""
        with self.primary.client() as client:
            wait_until(lambda: client.call("WAIT", 1, 100) == 1, message="the replica is behind")

    def discard(self) -> None:
        """Stop all of them."""
        for server in (*self.sentinels, *self.servers):
            server.discard()


class ClusterNode(ValkeyServer):
    """One node; its data and its view of the cluster outlive `kill`."""

    def __init__(self, *options: str) -> None:
        self.bus_port = free_port()
        #: The port that it tells to others; its own without `announce`.
        self.announced_port: int | None = None
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-port", str(self.bus_port)),
            *("--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0"),
            *options,
        )

    def announce(self, port: int) -> None:
        """Have others sent to this port on loopback; called before it is started."""
        self.announced_port = port
        self._options += (
            *("--cluster-announce-ip", LOOPBACK, "--cluster-announce-port", str(port)),
            *("--cluster-announce-bus-port", str(self.bus_port)),
        )

    def load_users(self, lines: str) -> None:
        """Have it load the users of an ACL file; called before it is started."""
        path = self.directory / "users.acl"
        path.write_text(lines)
        self._options += ("--aclfile", str(path))

    @property
    def public_port(self) -> int:
        """The port by which the cluster names it."""
        return self.port if self.announced_port is None else self.announced_port

    def facts(self) -> dict[str, str]:
        """Return its description of the cluster."""
        with self.client() as client:
            return dict(re.findall(r"(\w+):(\S+)", client.call("CLUSTER", "INFO").decode()))

    def id(self) -> str:
        """Its id in the cluster."""
        with self.client() as client:
            return str(client.call("CLUSTER", "MYID").decode())


class RedisCluster:
    """Three primaries that share the slots, and a replica of the one that holds the keys of `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes = [ClusterNode().start() for _ in range(4)]
        bounds = [0, 5000, 10000, 16384]
        with self.nodes[0].client() as client:
            for other in self.nodes[1:]:
                client.call("CLUSTER", "MEET", LOOPBACK, other.port, other.bus_port)
            self.slot = int(client.call("CLUSTER", "KEYSLOT", prefix))
        for node, start, end in zip(self.nodes, bounds, bounds[1:], strict=False):
            with node.client() as client:
                client.call("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        wait_until(lambda: all(one.facts()["cluster_known_nodes"] == "4" for one in self.nodes))
        wait_until(lambda: all(one.facts()["cluster_state"] == "ok" for one in self.nodes))
        holder = self.holder
        with self.nodes[3].client() as client:
            client.call("CLUSTER", "REPLICATE", holder.id())
        wait_until(self._has_replica, message="the replica does not follow")

    def _has_replica(self) -> bool:
        with self.holder.client() as client:
            return b"state=online" in client.call("INFO", "replication")

    @property
    def holder(self) -> ClusterNode:
        """Return the node that has the slot of the keys now."""
        return wait_until(self._find_holder, message="no node has the slot")

    def _find_holder(self) -> ClusterNode | None:
        for node in self.nodes:
            if not node.running:
                continue
            try:
                with node.client() as client:
                    client.call("EXISTS", self.prefix)
            except (RedisError, OSError):
                continue
            return node
        return None

    @property
    def others(self) -> list[ClusterNode]:
        """Return the running nodes that don't have the slot."""
        holder = self.holder
        return [one for one in self.nodes if one is not holder and one.running]

    def url(self, *nodes: ClusterNode) -> str:
        """The URL of these nodes for ``--redis``."""
        return "redis+cluster://" + ",".join(f"{LOOPBACK}:{one.port}" for one in nodes)

    def client(self, timeout: float = PATIENCE) -> RedisClient:
        """Return a new blocking client of the node that has the keys."""
        return self.holder.client(timeout)

    def migrate(self, to: ClusterNode) -> None:
        """Move the slot with its keys to another primary."""
        holder = self.holder
        with holder.client() as client:
            client.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", self.slot, self.slot, "NODE", to.id())
        wait_until(lambda: self._find_holder() is to, message="the slot does not move")

    def discard(self) -> None:
        """Stop all of them."""
        for node in self.nodes:
            node.discard()
