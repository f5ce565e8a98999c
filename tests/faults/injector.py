"""Injects each kind of fault for a while and undoes it."""

import random
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attrs import define

from jt709c_gateway.redis.partitions import Partitions
from tests.faults.fleet import Fleet
from tests.faults.plan import Fault
from tests.faults.proxied_cluster import ProxiedCluster, ProxyGroup
from tests.faults.proxy import Proxy
from tests.support import RedisError, ValkeyServer
from tests.support.acl import GATEWAY, GuardedServer, rules_of
from tests.support.daemon import Daemon
from tests.support.partitioned import PARTITIONS

#: Redis commands that every gateway uses all the time.
RIGHTS = (
    *("append", "xadd", "hset", "publish", "zadd", "rpush", "hdel", "lrem", "expire", "hget", "set", "zrem"),
)
#: Keys that `key_spoiled` replaces by a key of another type.
KEYS = ("events", "devices", "commands:deadlines", "history:{}", "device:{}", "recent:{}", "track:{}")
#: Key patterns, one of which `right_taken` removes from the rights.
PATTERNS = (
    *("history:", "recent:", "commands:waiting:", "command:", "device:", "commands:underway:", "session:"),
)
#: The other key patterns of the gateway.
OTHERS = (
    *("events", "devices", "histories", "let_go", "imei", "gateway*", "commands", "commit:*", "track:*"),
    *("peripheral*", "malformed", "secret:*", "reply:*", "sessions:*", "commands:[!wu]*", "epoch"),
    *("commands:unsettled:*", "transfers*", "partitions"),
)


@define
class FaultInjector:
    """Injects faults into the parts of one round. `plan.FAULTS` names its methods.

    Of a cluster, a fault concerns one node or all of them, at random.
    """

    server: GuardedServer | ProxiedCluster
    #: In the sequence of the nodes.
    proxies: list[Proxy]
    daemons: list[Daemon]
    #: A second process under the name of the first gateway, started by `namesake` only.
    second_process: Daemon
    fleet: Fleet

    def do(self, fault: Fault) -> None:
        """Inject the fault and restart processes that ended."""
        dice = random.Random(fault.seed)
        try:
            getattr(self, fault.name)(fault.seconds, dice)
        finally:
            self.restart_ended()

    def restart_ended(self) -> None:
        """Restart processes that have ended, as systemd would."""
        if not self.server.running:
            self.server.start()
        for daemon in self.daemons:
            if not daemon.running:
                daemon.start()

    @property
    def nodes(self) -> list[ValkeyServer]:
        """All servers."""
        return list(self.server.nodes) if isinstance(self.server, ProxiedCluster) else [self.server]

    def _primary(self, number: int) -> ValkeyServer:
        """Return the server that has a partition."""
        return self.server.node_of(number) if isinstance(self.server, ProxiedCluster) else self.server

    def _some_nodes(self, dice: random.Random) -> list[ValkeyServer]:
        """Return one server that has a partition, or all servers."""
        one = self._primary(dice.randrange(max(PARTITIONS, 1)))
        return [one] if dice.random() < 0.7 else self.nodes

    def _some_proxies(self, dice: random.Random) -> ProxyGroup:
        """Return the proxies of some servers."""
        some = self._some_nodes(dice)
        return ProxyGroup(
            [proxy for node, proxy in zip(self.nodes, self.proxies, strict=True) if node in some]
        )

    def kill_gateway(self, seconds: float, dice: random.Random) -> None:
        """``kill -9``."""
        daemon = dice.choice(self.daemons)
        daemon.kill()
        time.sleep(seconds / 3)

    def pause_gateway(self, seconds: float, dice: random.Random) -> None:
        """SIGSTOP, for a shorter or longer time than `--gateway-ttl`."""
        daemon = dice.choice(self.daemons)
        daemon.pause()
        time.sleep(2 * seconds)
        daemon.resume()

    def namesake(self, seconds: float, dice: random.Random) -> None:
        """A second process under the name of the first gateway; then one of the two is killed."""
        self.second_process.start(ready=False)
        time.sleep(seconds)
        dice.choice([self.second_process, self.daemons[0]]).kill()
        time.sleep(0.5)
        self.second_process.kill()

    def kill_server(self, seconds: float, dice: random.Random) -> None:
        """``kill -9`` of servers, whose data is on disk."""
        for node in self._some_nodes(dice):
            node.kill()
        time.sleep(seconds / 3)

    def pause_server(self, seconds: float, dice: random.Random) -> None:
        """SIGSTOP of servers."""
        some = self._some_nodes(dice)
        for node in some:
            node.pause()
        time.sleep(seconds)
        for node in some:
            node.resume()

    def full_disk(self, seconds: float, dice: random.Random) -> None:
        """The append-only file cannot grow: the server exits before it acknowledges a failed write."""
        node = self._primary(dice.randrange(max(PARTITIONS, 1)))
        logs = list(node.directory.glob("appendonlydir/*.incr.aof"))
        room = max((one.stat().st_size for one in logs), default=0) + dice.randrange(2000, 20_000)
        _, hard = resource.prlimit(node.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (room, hard))
        end = time.monotonic() + 5
        while node.running and time.monotonic() < end:
            time.sleep(0.05)
        if node.running:
            resource.prlimit(node.pid, resource.RLIMIT_FSIZE, (hard, hard))

    def _call(self, nodes: Sequence[ValkeyServer], *command: Any) -> None:
        for node in nodes:
            with node.client() as admin:
                admin.call(*command)

    def out_of_memory(self, seconds: float, dice: random.Random) -> None:
        """Servers reach their memory limit."""
        some = self._some_nodes(dice)
        self._call(some, "CONFIG", "SET", "maxmemory", 1)
        time.sleep(seconds / 2)
        self._call(some, "CONFIG", "SET", "maxmemory", 0)

    def right_taken(self, seconds: float, dice: random.Random) -> None:
        """The gateways' user loses the right to a Redis command or to a key pattern."""
        some = self._some_nodes(dice)
        if dice.random() < 0.6:
            self._call(some, "ACL", "SETUSER", GATEWAY, f"-{dice.choice(RIGHTS)}")
        else:
            lost = dice.choice(PATTERNS)
            left = [*(f"{one}*" for one in PATTERNS if one != lost), *OTHERS]
            number = "{*}:" if PARTITIONS else ""
            patterns = [f"~jt709c:{number}{one}" for one in left]
            self._call(some, "ACL", "SETUSER", GATEWAY, "resetkeys", *patterns, "%R~jt709c:epoch")
        time.sleep(seconds / 2)
        self._call(some, "ACL", "SETUSER", GATEWAY, "reset", *rules_of(GATEWAY))

    def key_spoiled(self, seconds: float, dice: random.Random) -> None:
        """A key has another type for a while."""
        device = dice.choice(self.fleet.devices)
        layout = Partitions("jt709c", max(PARTITIONS, 1))
        prefix = layout.keys_of(device).prefix
        key, kept = f"{prefix}:{dice.choice(KEYS).format(device)}", f"{prefix}:kept"
        with self._primary(layout.number(device)).client() as admin:
            script = (
                "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end "
                "redis.call('SET', KEYS[1], 'x')"
            )
            admin.call("EVAL", script, 2, key, kept)
            time.sleep(seconds / 2)
            script = (
                "redis.call('DEL', KEYS[1]) "
                "if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end"
            )
            admin.call("EVAL", script, 2, key, kept)

    def connections_killed(self, seconds: float, dice: random.Random) -> None:
        """Servers close all connections."""
        some = self._some_nodes(dice)
        for _ in range(1 + int(seconds)):
            with suppress(RedisError, OSError):
                self._call(some, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(dice.uniform(0.0, 0.3))

    def fail_over(self, seconds: float, dice: random.Random) -> None:
        """A replica takes over from its primary, which waits until it has everything."""
        assert isinstance(self.server, ProxiedCluster)
        number = dice.randrange(PARTITIONS)
        replica = self.server.replica_of(self.server.node_of(number))
        with suppress(RedisError), replica.client() as admin:
            # It refuses while it is not in step yet, for example after a fault of its connection.
            admin.call("CLUSTER", "FAILOVER")
        time.sleep(seconds / 3)

    def slot_moves(self, seconds: float, dice: random.Random) -> None:
        """The slot of a partition moves to another primary with its keys."""
        assert isinstance(self.server, ProxiedCluster)
        moved, other = dice.sample(range(PARTITIONS), 2)
        if self.server.node_of(moved) is not (to := self.server.node_of(other)):
            self.server.migrate(moved, to)

    def proxy_reset(self, seconds: float, dice: random.Random) -> None:
        """The connections to Redis are reset."""
        some = self._some_proxies(dice)
        for _ in range(1 + int(seconds)):
            some.reset()
            time.sleep(dice.uniform(0.0, 0.3))

    def proxy_cut(self, seconds: float, dice: random.Random) -> None:
        """A reply ends in its middle."""
        self._some_proxies(dice).cut_after(dice.randrange(4, 400))
        time.sleep(seconds / 3)

    def proxy_slow(self, seconds: float, dice: random.Random) -> None:
        """Replies come late, some of them after the gateway's timeout."""
        some = self._some_proxies(dice)
        some.slow(dice.uniform(0.05, 0.8))
        time.sleep(seconds)
        some.slow(0)

    def proxy_half_open(self, seconds: float, dice: random.Random) -> None:
        """Bytes are dropped while the connections stay open; the connections close later."""
        some = self._some_proxies(dice)
        some.freeze()
        time.sleep(2 * seconds)
        some.thaw(lost=True)

    def proxy_stuck(self, seconds: float, dice: random.Random) -> None:
        """Bytes are delayed for a while and then delivered."""
        some = self._some_proxies(dice)
        some.freeze()
        time.sleep(2 * seconds)
        some.thaw()

    def proxy_refuses(self, seconds: float, dice: random.Random) -> None:
        """Connections to Redis are refused for a while."""
        some = self._some_proxies(dice)
        some.refuse()
        time.sleep(seconds / 2)
        some.accept()

    def links_reset(self, seconds: float, dice: random.Random) -> None:
        """Connections of locks are reset; the locks reconnect to any gateway."""
        for _ in range(1 + int(3 * seconds)):
            self.fleet.reset(3)
            time.sleep(dice.uniform(0.0, 0.3))

    def links_vanish(self, seconds: float, dice: random.Random) -> None:
        """Locks reconnect while their old connections stay half open."""
        for _ in range(1 + int(2 * seconds)):
            self.fleet.vanish(3)
            time.sleep(dice.uniform(0.0, 0.3))

    def links_end(self, seconds: float, dice: random.Random) -> None:
        """Locks close their connections with unanswered reports."""
        for _ in range(1 + int(3 * seconds)):
            self.fleet.hang_up(3)
            time.sleep(dice.uniform(0.0, 0.3))
