"""Injects many faults, one after the other, and counts the broken promises."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from attrs import define, field

from jt709c_gateway.commands.model import ENDED
from tests.faults.fleet import Fleet
from tests.faults.injector import FaultInjector
from tests.faults.issuer import CommandIssuer
from tests.faults.observations import Observations, read_outcome, read_stream
from tests.faults.plan import Fault, RoundPlan, plan
from tests.faults.proxied_cluster import ProxiedCluster
from tests.faults.proxy import Proxy
from tests.support import RedisClient, wait_until
from tests.support.acl import GuardedServer
from tests.support.daemon import Daemon
from tests.support.partitioned import PARTITIONS

#: Short times, so that commands come to their ends; caps that hold all of a round.
OPTIONS: Final = (
    *("--confirm-timeout", "1", "--events-max", "1000000", "--history-max", "100000"),
    *("--gateway-ttl", "3", "--redis-timeout", "1"),
)
#: Seconds within which reports are answered again after a fault, and all commands end after the last fault.
PATIENCE: Final = 60.0
#: Attempts to start a round.
_ATTEMPTS: Final = 3
#: Number of further answers after which the gateway has recovered from a fault.
ENOUGH: Final = 10
#: Prefixes of violations, by the kind that the summary counts.
KINDS: Final = {
    "answered and not in the stream": ("lost:",),
    "in it twice": ("doubled:",),
    "physical commands written twice": ("doubled command:",),
    "commands without an outcome": ("no outcome:", "lost command:"),
    "transitions after an end": ("after its end:",),
    "outcomes that are not true": ("false outcome:",),
    "else": (),
}


@define
class Tally:
    """Counts faults, answers, commands and violations of all rounds."""

    faults: Counter[str] = field(factory=Counter)
    answered: int = 0
    commands: int = 0
    broken: Counter[str] = field(factory=Counter)
    lines: list[str] = field(factory=list)

    def add(self, found: str, where: str) -> None:
        """A promise was broken."""
        kind = next((kind for kind, words in KINDS.items() if found.startswith(words or ("",))), "else")
        self.broken[kind] += 1
        self.lines.append(f"{where}: {found}")

    def summary(self, seed: int) -> str:
        """Return the counts and violations as text."""
        head = f"seed {seed}: {self.faults.total()} faults, {self.answered} reports answered, "
        head += f"{self.commands} commands"
        counts = [f"  {kind}: {self.broken[kind]}" for kind in KINDS]
        return "\n".join([head, *counts, *self.lines])


def late_changes(steps: dict[str, list[str]]) -> list[str]:
    """Return the state changes after an end, except to ``confirmed`` by evidence."""
    found = []
    for command_id, states in steps.items():
        for before, after in pairwise(states):
            proved = after == "confirmed" and before in ("uncertain", "unconfirmed")
            if before in ENDED and not proved:
                found.append(f"after its end: {command_id} was {before}, and then {after}")
    return found


def find_command(redis: RedisClient, line: str) -> str:
    """Return the Redis keys that hold the command of a violation."""
    command_id, found = line.split()[3].encode(), []
    for key in redis.call("KEYS", "jt709c:commands:*"):
        match redis.call("TYPE", key):
            case b"list":
                there = any(command_id in entry for entry in redis.call("LRANGE", key, 0, -1))
            case b"hash":
                there = redis.call("HGET", key, command_id) is not None
            case b"zset":
                there = redis.call("ZSCORE", key, command_id) is not None
            case _:
                there = False
        if there:
            found.append(key.decode())
    return ", ".join(found) or "no list"


def stores() -> tuple[GuardedServer | ProxiedCluster, list[Proxy], str]:
    """Start a server, or with JT709C_TEST_PARTITIONS a cluster; return its proxies and ``--redis``, too."""
    safe = ("--appendonly", "yes", "--appendfsync", "always")
    if PARTITIONS:
        cluster = ProxiedCluster(*safe, guarded=True, count=PARTITIONS).start()
        return cluster, cluster.proxies, cluster.url
    server = GuardedServer(*safe).start()
    proxy = Proxy(server.port).start()
    return server, [proxy], server.gateway_url.replace(f":{server.port}", f":{proxy.port}")


class FaultRound:
    """Runs one round with its own server, gateways, locks and command issuer."""

    def __init__(self, one: RoundPlan, tally: Tally) -> None:
        self.round, self.tally = one, tally
        self.observations = Observations()
        self.server, self.proxies, url = stores()
        names = [f"gw{number + 1}" for number in range(one.topology.gateways)]
        self.daemons = [
            Daemon("--gateway", name, *OPTIONS, *one.topology.options, redis=url) for name in names
        ]
        self.namesake = Daemon("--gateway", "gw1", *OPTIONS, redis=url)
        self.fleet = Fleet(
            self.observations,
            [daemon.tcp_port for daemon in (*self.daemons, self.namesake)],
            [daemon.udp_port for daemon in self.daemons],
            one.seed,
            pace=0.1,
        )
        self.issuer = CommandIssuer(
            self.observations, self.server.client, self.fleet.devices, one.seed, pace=0.15, cancels=0.1
        )
        self.injector = FaultInjector(self.server, self.proxies, self.daemons, self.namesake, self.fleet)

    def start(self) -> "FaultRound":
        """Start the gateways."""
        for daemon in self.daemons:
            daemon.start()
        return self

    @property
    def where(self) -> str:
        """The prefix of a violation's line."""
        return f"round {self.round.number} ({self.round.topology.name})"

    def run(self, say: Callable[[str], None]) -> None:
        """Inject all faults of the round and verify the result."""
        self.fleet.start()
        self.issuer.start()
        self.fleet.wait_for(ENOUGH, PATIENCE)
        for fault in self.round.faults:
            say(f"{self.where}: {fault}")
            self.inject(fault)
        self.verify()

    def inject(self, fault: Fault) -> None:
        """Inject one fault and wait until reports are answered again."""
        time.sleep(fault.wait)
        self.tally.faults[fault.name] += 1
        self.injector.do(fault)
        try:
            self.fleet.wait_for(ENOUGH, PATIENCE)
        except AssertionError as error:
            self.tally.add(f"no answers after it: {error}", f"{self.where}, {fault}")

    def verify(self) -> None:
        """Wait until all commands end and check Redis against the observations."""
        self.issuer.stop()
        self.injector.restart_ended()
        with self.server.client() as redis:
            self.wait_for_ends(redis)
            self.fleet.drain(PATIENCE)
            self.fleet.stop()
            found = [
                f"{line}; it stands in {find_command(redis, line)}" if line.startswith("no outcome") else line
                for line in self.observations.verify(redis, named=10_000)
            ]
            found += late_changes(read_stream(redis)[1])
            found += [
                f"no outcome: {one} is {outcome}"
                for one in self.observations.cancels
                if (outcome := read_outcome(redis, one)) is None or outcome.state not in ENDED
            ]
        for daemon in (*self.daemons, self.namesake):
            if (daemon.directory / "log").exists() and "Traceback" in daemon.log():
                found.append(f"traceback: {daemon.log().partition('Traceback')[2][:1500]}")
        for line in found:
            self.tally.add(line, self.where)
        self.tally.answered += self.observations.answered
        self.tally.commands += len(self.observations.commands) + len(self.observations.cancels)

    def wait_for_ends(self, redis: RedisClient) -> None:
        """Wait until every command has ended. `Observations.verify` reports those that don't end in time."""

        def ended() -> bool:
            outcomes = [read_outcome(redis, one) for one in self.observations.commands]
            return all(one is not None and one.state in ENDED for one in outcomes)

        try:
            wait_until(ended, PATIENCE)
        except AssertionError:
            return

    def discard(self) -> None:
        """Stop all processes."""
        for daemon in (*self.daemons, self.namesake):
            daemon.discard()
        self.server.discard()
        if isinstance(self.server, GuardedServer):
            self.proxies[0].stop()


def started(one: RoundPlan, tally: Tally) -> FaultRound:
    """Start a round. Try other ports when another program has taken one of them."""
    attempts = 0
    while True:
        fault_round = FaultRound(one, tally)
        try:
            return fault_round.start()
        except AssertionError as error:
            fault_round.discard()
            attempts += 1
            if attempts == _ATTEMPTS or "Address already in use" not in str(error):
                raise


def run(count: int, seed: int, say: Callable[[str], None] = lambda line: None) -> Tally:
    """Inject `count` faults; `say` gets a line for each."""
    tally = Tally()
    for one in plan(count, seed):
        try:
            fault_round = started(one, tally)
        except AssertionError as error:
            tally.add(f"the round could not begin: {error}", f"round {one.number} ({one.topology.name})")
            continue
        try:
            fault_round.run(say)
        except Exception as error:
            tally.add(f"the round failed: {error!r}", fault_round.where)
        finally:
            fault_round.discard()
        say(tally.summary(seed))
    return tally
