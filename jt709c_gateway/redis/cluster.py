"""Finding the node of a Redis Cluster that holds our keys.

All keys share one slot (the prefix is a hash tag), so one node at a time is all that is needed of a cluster.
Which one it is, any node says: it answers a command for a key of another node's slot with
`MOVED <slot> <host>:<port>` (Redis Cluster specification, "Redirection and resharding").
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer

_MOVED = re.compile(r"MOVED \d+ (.*):(\d+)")


class ClusterEndpoint:
    """Connects to where the last redirection led, else to one of the configured nodes after the other.

    `nodes` are pairs of host and port; `connect_to(host, port)` makes the endpoint of one. A redirection
    counts for one attempt: the next one asks again, so it leads to the new node after a fail-over.
    """

    def __init__(self, nodes: Sequence[tuple[str, int]], connect_to: Callable[[str, int], Any]) -> None:
        self._nodes = list(nodes)
        self._connect_to = connect_to
        self._redirected: tuple[str, int] | None = None
        self._asked = self._nodes[0]

    def redirect(self, host: str, port: int) -> None:
        """The next connection is to this node; without a host, to that port of the node last asked."""
        self._redirected = (host or self._asked[0], port)

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        """Connect; the failure is that of the node that was tried."""
        if self._redirected is not None:
            self._asked, self._redirected = self._redirected, None
        else:
            self._asked = self._nodes.pop(0)
            self._nodes.append(self._asked)
        connecting: defer.Deferred[Any] = self._connect_to(*self._asked).connect(factory)
        return connecting


def moved_to(error: object) -> tuple[str, int] | None:
    """Host and port that an error reply redirects to, None when it is no redirection.

    The host is empty where the cluster doesn't know it: it is that of the node which was asked.
    """
    match = _MOVED.fullmatch(str(error))
    if match is None:
        return None
    host, port = match.groups()
    return "" if host == "?" else host, int(port)


def has_hash_tag(prefix: str) -> bool:
    """Whether all keys with this prefix share a slot: something is between its first `{` and the next `}`."""
    return re.match(r"[^{]*\{[^}]+\}", prefix) is not None
