"""Finds the node of a Redis Cluster that holds our keys.

All keys share one slot (the prefix is a hash tag), so one node at a time is enough. Every node knows which
one: it answers a command for a key of another node's slot with `MOVED <slot> <host>:<port>` (Redis Cluster
specification, "Redirection and resharding").
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer

_MOVED = re.compile(r"MOVED \d+ (.*):(\d+)")


class ClusterEndpoint:
    """Connects to one of several nodes, in turn.

    `nodes` are pairs of host and port; `connect_to(host, port)` makes the endpoint of one.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], connect_to: Callable[[str, int], Any]) -> None:
        self._nodes = list(nodes)
        self._connect_to = connect_to

    def node_endpoint(self, host: str, port: int) -> Any:
        """Return the endpoint of the node that a redirection names."""
        return self._connect_to(host, port)

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        """Connect to the next node."""
        node = self._nodes.pop(0)
        self._nodes.append(node)
        connecting: defer.Deferred[Any] = self.node_endpoint(*node).connect(factory)
        return connecting


def moved_to(error: object) -> tuple[str, int] | None:
    """Return host and port of a MOVED reply, None for any other reply.

    The host is empty where the cluster doesn't know it: it is then the host of the replying node.
    """
    match = _MOVED.fullmatch(str(error))
    if match is None:
        return None
    host, port = match.groups()
    return "" if host == "?" else host, int(port)


def has_hash_tag(prefix: str) -> bool:
    """Return whether a prefix is a hash tag: it has text between its first `{` and the next `}`."""
    return re.match(r"[^{]*\{[^}]+\}", prefix) is not None
