"""Addresses of Redis as redis-py gets them, and what both clients have in common. No network."""

import logging
import socket
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import redis
from redis.exceptions import ClusterDownError, MasterDownError, RedisClusterException, TryAgainError

from jt709c_gateway.client.stream_position import Gap

log: Final = logging.getLogger("jt709c_gateway.client")
#: Seconds: one blocking read; the same of each of several streams; between attempts to reach Redis; after
#: which another's events are taken over.
BLOCK: Final = 5.0
BLOCK_SEVERAL: Final = 1.0
RETRY: Final = 1.0
CLAIM_AFTER: Final = 300.0
#: Errors after which the same may be tried again; all but the first two come from a Redis Cluster.
AWAY: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    RedisClusterException,
    ClusterDownError,
    MasterDownError,
    TryAgainError,
)
_CLUSTER: Final = "+cluster"


#: Options of redis-py. Without retries of its own: they would hide a reply that was lost with its events.
CONNECTION: Final[Mapping[str, Any]] = {
    "decode_responses": True,
    "protocol": 2,
    "socket_timeout": 3 * BLOCK,
}


def log_gap(gap: Gap) -> None:
    """The default for gaps: a warning in the log."""
    log.warning("%d events of %s were cut off before they were read (--events-max)", gap.count, gap.stream)


def consumer_name() -> str:
    """The default name of a consumer: that of the host, the same after a restart."""
    return socket.gethostname()


def cluster_options(url: str) -> dict[str, Any] | None:
    """Return the options of redis-py's RedisCluster for `redis+cluster://…`; None for another URL.

    `nodes` are pairs of host and port.
    """
    scheme, _, rest = url.partition("://")
    if not scheme.endswith(_CLUSTER):
        return None
    login, at, hosts = rest.rstrip("/").rpartition("@")
    user, _, password = login.partition(":")
    nodes = [urlsplit(f"//{one}") for one in hosts.split(",")]
    found: dict[str, Any] = {"nodes": [(one.hostname, one.port or 6379) for one in nodes]}
    if at:
        found |= {"username": unquote(user) or None, "password": unquote(password) or None}
    if scheme.startswith("rediss"):
        found["ssl"] = True
    return found


def several(connection: Any) -> Sequence[Any]:
    """Return the connections that a caller gave: one, or those of several servers."""
    return connection if isinstance(connection, list | tuple) else [connection]
