"""A Redis Cluster whose nodes are reached through proxies: each node tells others the port of its proxy."""

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from tests.faults.proxy import Proxy
from tests.support.acl import GATEWAY, password_of, user_lines
from tests.support.partitioned import PartitionedCluster


@frozen
class ProxyGroup:
    """The proxies of several servers, on which a fault is injected at once."""

    proxies: Sequence[Proxy]

    @property
    def cuts(self) -> int:
        """Number of connections cut by `cut_after`."""
        return sum(one.cuts for one in self.proxies)

    def accept(self) -> None:
        """Accept connections again, as `Proxy.accept`."""
        for one in self.proxies:
            one.accept()

    def refuse(self) -> None:
        """Close all connections and refuse new ones, as `Proxy.refuse`."""
        for one in self.proxies:
            one.refuse()

    def reset(self) -> None:
        """Reset all connections."""
        for one in self.proxies:
            one.reset()

    def slow(self, seconds: float) -> None:
        """Delay each chunk, as `Proxy.slow`."""
        for one in self.proxies:
            one.slow(seconds)

    def freeze(self) -> None:
        """Hold all bytes, as `Proxy.freeze`."""
        for one in self.proxies:
            one.freeze()

    def thaw(self, lost: bool = False) -> None:
        """Deliver the held bytes or drop them, as `Proxy.thaw`."""
        for one in self.proxies:
            one.thaw(lost)

    def cut_after(self, count: int) -> None:
        """Cut a connection of each after so many further bytes of replies."""
        for one in self.proxies:
            one.cut_after(count)


class ProxiedCluster(PartitionedCluster):
    """Three primaries and their replicas, each behind a proxy, that all clients and replicas go through.

    With `guarded` it has the users of etc/redis-acl.conf, and `url` is that of the gateway's.
    """

    def __init__(self, *options: str, guarded: bool = False, **more: Any) -> None:
        super().__init__(*options, **more)
        self.proxies = [Proxy(node.port).start() for node in self.nodes]
        for node, proxy in zip(self.nodes, self.proxies, strict=True):
            node.announce(proxy.port)
            if guarded:
                node.load_users(user_lines())
        if guarded:
            self.login = f"{GATEWAY}:{password_of(GATEWAY)}@"

    @property
    def group(self) -> ProxyGroup:
        """The proxies of all nodes."""
        return ProxyGroup(self.proxies)

    def start(self) -> "ProxiedCluster":
        """Start all nodes that don't run, and wait until the cluster serves all slots."""
        super().start()
        return self

    def discard(self) -> None:
        """Stop all nodes and proxies, and remove the directories."""
        super().discard()
        for proxy in self.proxies:
            proxy.stop()
