"""Injects each kind of fault for a while and undoes it."""

import random
import resource
import time
from contextlib import suppress
from typing import Any

from attrs import define

from jt709c_gateway.redis.partitions import Partitions
from tests.faults.fleet import Fleet
from tests.faults.plan import Fault
from tests.faults.proxy import Proxy
from tests.support import RedisError
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
    """Injects faults into the parts of one round. `plan.FAULTS` names its methods."""

    server: GuardedServer
    proxy: Proxy
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
        """``kill -9`` of the server, whose data is on disk."""
        self.server.kill()
        time.sleep(seconds / 3)

    def pause_server(self, seconds: float, dice: random.Random) -> None:
        """SIGSTOP of the server."""
        self.server.pause()
        time.sleep(seconds)
        self.server.resume()

    def full_disk(self, seconds: float, dice: random.Random) -> None:
        """The append-only file cannot grow: the server exits before it acknowledges a failed write."""
        logs = list(self.server.directory.glob("appendonlydir/*.incr.aof"))
        room = max((one.stat().st_size for one in logs), default=0) + dice.randrange(2000, 20_000)
        _, hard = resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (room, hard))
        end = time.monotonic() + 5
        while self.server.running and time.monotonic() < end:
            time.sleep(0.05)
        if self.server.running:
            resource.prlimit(self.server.pid, resource.RLIMIT_FSIZE, (hard, hard))

    def _call(self, *command: Any) -> Any:
        with self.server.client() as admin:
            return admin.call(*command)

    def out_of_memory(self, seconds: float, dice: random.Random) -> None:
        """The server reaches its memory limit."""
        self._call("CONFIG", "SET", "maxmemory", 1)
        time.sleep(seconds / 2)
        self._call("CONFIG", "SET", "maxmemory", 0)

    def right_taken(self, seconds: float, dice: random.Random) -> None:
        """The gateways' user loses the right to a Redis command or to a key pattern."""
        if dice.random() < 0.6:
            self._call("ACL", "SETUSER", GATEWAY, f"-{dice.choice(RIGHTS)}")
        else:
            lost = dice.choice(PATTERNS)
            left = [*(f"{one}*" for one in PATTERNS if one != lost), *OTHERS]
            number = "{*}:" if PARTITIONS else ""
            patterns = [f"~jt709c:{number}{one}" for one in left]
            self._call("ACL", "SETUSER", GATEWAY, "resetkeys", *patterns, "%R~jt709c:epoch")
        time.sleep(seconds / 2)
        self._call("ACL", "SETUSER", GATEWAY, "reset", *rules_of(GATEWAY))

    def key_spoiled(self, seconds: float, dice: random.Random) -> None:
        """A key has another type for a while."""
        device = dice.choice(self.fleet.devices)
        prefix = Partitions("jt709c", max(PARTITIONS, 1)).keys_of(device).prefix
        key = f"{prefix}:{dice.choice(KEYS).format(device)}"
        with self.server.client() as admin:
            script = (
                "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAME', KEYS[1], KEYS[2]) end "
                "redis.call('SET', KEYS[1], 'x')"
            )
            admin.call("EVAL", script, 2, key, "kept")
            time.sleep(seconds / 2)
            script = (
                "redis.call('DEL', KEYS[1]) "
                "if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('RENAME', KEYS[2], KEYS[1]) end"
            )
            admin.call("EVAL", script, 2, key, "kept")

    def connections_killed(self, seconds: float, dice: random.Random) -> None:
        """The server closes all connections."""
        for _ in range(1 + int(seconds)):
            with suppress(RedisError, OSError):
                self._call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(dice.uniform(0.0, 0.3))

    def proxy_reset(self, seconds: float, dice: random.Random) -> None:
        """The connections to Redis are reset."""
        for _ in range(1 + int(seconds)):
            self.proxy.reset()
            time.sleep(dice.uniform(0.0, 0.3))

    def proxy_cut(self, seconds: float, dice: random.Random) -> None:
        """A reply ends in its middle."""
        self.proxy.cut_after(dice.randrange(4, 400))
        time.sleep(seconds / 3)

    def proxy_slow(self, seconds: float, dice: random.Random) -> None:
        """Replies come late, some of them after the gateway's timeout."""
        self.proxy.slow(dice.uniform(0.05, 0.8))
        time.sleep(seconds)
        self.proxy.slow(0)

    def proxy_half_open(self, seconds: float, dice: random.Random) -> None:
        """Bytes are dropped while the connections stay open; the connections close later."""
        self.proxy.freeze()
        time.sleep(2 * seconds)
        self.proxy.thaw(lost=True)

    def proxy_stuck(self, seconds: float, dice: random.Random) -> None:
        """Bytes are delayed for a while and then delivered."""
        self.proxy.freeze()
        time.sleep(2 * seconds)
        self.proxy.thaw()

    def proxy_refuses(self, seconds: float, dice: random.Random) -> None:
        """Connections to Redis are refused for a while."""
        self.proxy.refuse()
        time.sleep(seconds / 2)
        self.proxy.accept()

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
