"""Puts a gateway under load, injects a fault and checks the promises afterwards."""

import os
import random
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import ENDED
from tests.faults.fleet import PACE, Fleet
from tests.faults.issuer import CommandIssuer
from tests.faults.observations import Observations, read_outcome
from tests.faults.proxied_cluster import ProxiedCluster, ProxyGroup
from tests.faults.proxy import Proxy
from tests.support import RedisClient, ValkeyServer, wait_until
from tests.support.daemon import Daemon
from tests.support.partitioned import PARTITIONS, PartitionedClient, PartitionedCluster, over, store

#: The seed of this run. Failure messages name it, and JT709C_FAULT_SEED repeats it.
SEED: Final = int(os.environ.get("JT709C_FAULT_SEED") or random.randrange(1000))
#: Short times, so that commands end soon, and limits that hold all events of a run.
OPTIONS: Final = ("--confirm-timeout", "1", "--events-max", "1000000", "--gateway-ttl", "2")
#: Number of reports to be answered before a fault, during one that lets some through, and after it.
SOME: Final = 80
#: Lines that one outage may add to the log.
_LOG_LINES: Final = 40


class FaultTestCase(SynchronousTestCase):
    """`load` puts a gateway under load, the test injects a fault, `settle` checks Redis against the
    observations."""

    def setUp(self) -> None:
        self.seed = SEED
        self.dice = random.Random(self.seed)
        self.observations = Observations()
        self.server: ValkeyServer | PartitionedCluster | None = None
        self.proxy: Proxy | ProxyGroup | None = None

    def load(
        self,
        *options: str,
        embedded: bool = False,
        proxied: bool = False,
        pace: float = PACE,
    ) -> None:
        """Start everything and wait until some reports have been answered."""
        redis = "embedded"
        if embedded and PARTITIONS:
            options += ("--partitions", str(PARTITIONS))
        if not embedded:
            redis = self._start_server(proxied)
        self.daemon = Daemon("--gateway", "gw1", *OPTIONS, *options, redis=redis)
        self.addCleanup(self.daemon.discard)
        self.daemon.start()
        self.fleet = Fleet(
            self.observations, self.daemon.tcp_port, self.daemon.udp_port, self.seed, pace=pace
        )
        self.issuer = CommandIssuer(self.observations, self._login(), self.fleet.devices, self.seed)
        self.fleet.start()
        self.addCleanup(self.fleet.stop)
        self.issuer.start()
        self.fleet.wait_for(SOME)

    def _start_server(self, proxied: bool) -> str:
        """Start a server or a cluster, and its proxies; return the value for ``--redis``."""
        safe = ("--appendonly", "yes", "--appendfsync", "always")
        if proxied and PARTITIONS:
            cluster = ProxiedCluster(*safe, count=PARTITIONS)
            self.server, self.proxy = cluster, cluster.group
        else:
            self.server = store(*safe)
        self.addCleanup(self.server.discard)
        self.server.start()
        if not proxied or isinstance(self.server, PartitionedCluster):
            return self.server.url
        self.proxy = Proxy(self.server.port).start()
        self.addCleanup(self.proxy.stop)
        return self.proxy.url

    def outage(self, seconds: float) -> None:
        """Wait during a fault that prevents commits, and check that nothing is answered."""
        before = self._answers_at_rest()
        time.sleep(seconds)
        self.assertEqual(self.observations.answered, before, f"answered during an outage (seed {self.seed})")

    def _answers_at_rest(self, timeout: float = 5.0) -> int:
        """Return the number of answers once those committed before the fault have arrived."""
        end = time.monotonic() + timeout
        while True:
            before = self.observations.answered
            time.sleep(0.25)
            if self.observations.answered == before or time.monotonic() > end:
                return before

    def _login(self) -> Callable[..., RedisClient | PartitionedClient]:
        """Return a factory of clients that connect to the server directly, even while the daemon is down."""
        if isinstance(self.server, PartitionedCluster):
            return self.server.client
        if self.server is not None:
            connect: Callable[..., RedisClient] = self.server.client
        else:
            connect = partial(RedisClient, self.daemon.embedded_port, password=self.daemon.embedded_password)
        return over(connect, PARTITIONS) if PARTITIONS else connect

    def redis(self) -> RedisClient | PartitionedClient:
        """Return a client that connects to the server directly."""
        return self._login()()

    def settle(self, *, settled: bool = True, timeout: float = 20.0) -> None:
        """Go on with the load after the fault, end everything and verify the observations.

        With `settled`, a command that moved its lock has to be confirmed; otherwise it may be uncertain.
        """
        self.fleet.wait_for(SOME)
        self.issuer.stop()
        with self.redis() as redis:
            self._until_ended(redis, timeout)
            self.fleet.drain(timeout)
            self.fleet.stop()
            violations = self.observations.verify(redis, settled=settled)
            malformed = redis.call("XLEN", "jt709c:malformed")
        self.assertFalse(violations, "\n".join([*violations, f"seed {self.seed}; {self._summary()}"]))
        self.assertEqual(malformed, 0)
        self.assertNotIn("Traceback", self.daemon.log())

    def _until_ended(self, redis: RedisClient, timeout: float) -> None:
        """Wait until every command has ended. `Observations.verify` reports those that don't end in time."""
        left = list(self.observations.commands)
        end = time.monotonic() + timeout
        while left and time.monotonic() < end:
            outcomes = {one: read_outcome(redis, one) for one in left}
            left = [one for one, found in outcomes.items() if found is None or found.state not in ENDED]
            time.sleep(0.05)

    def check_log(self, lines: int = _LOG_LINES) -> None:
        """Check that an outage is logged in a few lines."""
        log = self.daemon.last_log()
        found = [
            line
            for line in log.splitlines()
            if not re.search(r"listening for locks|status page at|Starting factory", line)
        ]
        self.assertLess(len(found), lines, log[-6000:])

    def wait_for_log(self, *words: str, timeout: float = 10.0) -> None:
        """Wait until the log contains all of these words."""
        for word in words:
            wait_until(lambda word=word: word in self.daemon.log(), timeout, f"{word!r} is not logged")

    def wait_for_metric(self, name: str, holds: Callable[[float], Any], timeout: float = 10.0) -> None:
        """Wait until the value of a metric satisfies `holds`."""
        wait_until(lambda: holds(self.daemon.metrics().get(name, 0.0)), timeout, f"{name} is not as expected")

    def _summary(self) -> str:
        commands = self.observations.commands.values()
        return (
            f"{self.observations.answered} of {len(self.observations.reports)} reports answered, "
            f"{self.observations.sent} sent, {len(commands)} commands, "
            f"{sum(bool(command.seen) for command in commands)} seen"
        )
