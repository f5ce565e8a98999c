"""Twisted endpoints that find the server: the current master by Sentinel, the node of our slot in a Cluster.

All keys share one slot (the prefix is a hash tag), so one node of a Cluster at a time is enough. Every node
knows which one: it answers a command for a key of another node's slot with `MOVED <slot> <host>:<port>`
(Redis Cluster specification, "Redirection and resharding").
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import txredisapi
from twisted.internet import defer

from jt709c_gateway.redis.client_protocol import RedisProtocolFactory, connect, one_line

_MOVED = re.compile(r"MOVED \d+ (.*):(\d+)")


class SentinelEndpoint:
    """Asks the sentinels, one after the other, for the current master, and connects to it.

    They are asked for every connection, so after a fail-over the next attempt leads to the new master.
    `sentinels` are pairs of a name for messages and an endpoint; each must connect and answer within
    `timeout` seconds. `connect_to(host, port)` makes the endpoint for the master.
    """

    def __init__(
        self,
        clock: Any,
        sentinels: Sequence[tuple[str, Any]],
        master_name: str,
        connect_to: Callable[[str, int], Any],
        timeout: float = 2.0,
    ) -> None:
        self._clock = clock
        self._sentinels = list(sentinels)
        self._master_name = master_name
        self._connect_to = connect_to
        self._timeout = timeout

    def connect(self, factory: Any) -> "defer.Deferred[Any]":
        """Connect to the master.

        Fails with txredisapi.ConnectionError, with the answer of each sentinel, when none knows the master.
        """
        return defer.Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        answers = []
        for sentinel in list(self._sentinels):
            name, endpoint = sentinel
            try:
                host, port = await self._ask(endpoint).addTimeout(self._timeout, self._clock)
            except defer.CancelledError:
                raise
            except defer.TimeoutError:
                answers.append(f"{name}: no answer within {self._timeout:g} s")
                continue
            except Exception as error:
                answers.append(f"{name}: {one_line(error)}")
                continue
            # Ask this sentinel first the next time.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return await self._connect_to(host, port).connect(factory)
        raise txredisapi.ConnectionError(
            f"no sentinel knows the master {self._master_name!r} ({'; '.join(answers)})"
        )

    def _ask(self, endpoint: Any) -> "defer.Deferred[tuple[str, int]]":
        async def ask() -> tuple[str, int]:
            protocol = await connect(endpoint, RedisProtocolFactory(self._clock))
            try:
                answer = await protocol.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._master_name)
            finally:
                protocol.transport.abortConnection()
            if answer is None:
                raise LookupError("does not know it")
            host, port = answer
            return host.decode(), int(port)

        return defer.Deferred.fromCoroutine(ask())


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
