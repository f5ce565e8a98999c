"""Many faults, one after the other, and a ledger of what they did to the promises."""

import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from attrs import define, field

from jt709c_gateway.commands.model import ENDED
from tests.faults.clerk import Clerk
from tests.faults.fleet import Fleet
from tests.faults.harm import Harm
from tests.faults.ledger import Ledger, read_outcome, read_stream
from tests.faults.plan import Fault, Round, plan
from tests.faults.proxy import Proxy
from tests.support import RedisClient, wait_until
from tests.support.acl import GuardedServer
from tests.support.daemon import Daemon

#: Short times, so that commands come to their ends; caps that hold all of a round.
OPTIONS: Final = (
    *("--confirm-timeout", "1", "--events-max", "1000000", "--history-max", "100000"),
    *("--gateway-ttl", "3", "--redis-timeout", "1"),
)
#: Seconds in which reports are answered again after a fault, and everything comes to its end after the last.
PATIENCE: Final = 60.0
#: Scenes that are tried for one round.
_ATTEMPTS: Final = 3
#: Answers after which a fault counts as overcome.
ENOUGH: Final = 10
#: How lines of the ledger's begin, by what they count as.
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
    """The ledger of all rounds."""

    faults: Counter[str] = field(factory=Counter)
    answered: int = 0
    commands: int = 0
    broken: Counter[str] = field(factory=Counter)
    lines: list[str] = field(factory=list)

    def note(self, found: str, where: str) -> None:
        """A promise was broken."""
        kind = next((kind for kind, words in KINDS.items() if found.startswith(words or ("",))), "else")
        self.broken[kind] += 1
        self.lines.append(f"{where}: {found}")

    def shown(self, seed: int) -> str:
        """The whole, as people read it."""
        head = f"seed {seed}: {self.faults.total()} faults, {self.answered} reports answered, "
        head += f"{self.commands} commands"
        counts = [f"  {kind}: {self.broken[kind]}" for kind in KINDS]
        return "\n".join([head, *counts, *self.lines])


def late_changes(steps: dict[str, list[str]]) -> list[str]:
    """States that follow on an end, but for what evidence makes ``confirmed``."""
    found = []
    for command_id, states in steps.items():
        for before, after in pairwise(states):
            proved = after == "confirmed" and before in ("uncertain", "unconfirmed")
            if before in ENDED and not proved:
                found.append(f"after its end: {command_id} was {before}, and then {after}")
    return found


def places(redis: RedisClient, line: str) -> str:
    """Where in Redis the command is that a line of the ledger is about."""
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


class Scene:
    """One round: servers, gateways, locks and a clerk of its own."""

    def __init__(self, one: Round, tally: Tally) -> None:
        self.round, self.tally = one, tally
        self.ledger = Ledger()
        self.server = GuardedServer("--appendonly", "yes", "--appendfsync", "always").start()
        self.proxy = Proxy(self.server.port).start()
        url = self.server.gateway_url.replace(f":{self.server.port}", f":{self.proxy.port}")
        names = [f"gw{number + 1}" for number in range(one.house.gateways)]
        self.daemons = [Daemon("--gateway", name, *OPTIONS, *one.house.options, redis=url) for name in names]
        self.namesake = Daemon("--gateway", "gw1", *OPTIONS, redis=url)
        self.fleet = Fleet(
            self.ledger,
            [daemon.tcp_port for daemon in (*self.daemons, self.namesake)],
            [daemon.udp_port for daemon in self.daemons],
            one.seed,
            pace=0.1,
        )
        self.clerk = Clerk(
            self.ledger, self.server.client, self.fleet.devices, one.seed, pace=0.15, cancels=0.1
        )
        self.harm = Harm(self.server, self.proxy, self.daemons, self.namesake, self.fleet)

    def start(self) -> "Scene":
        """Start the gateways."""
        for daemon in self.daemons:
            daemon.start()
        return self

    @property
    def where(self) -> str:
        """What stands before a line of the ledger."""
        return f"round {self.round.number} ({self.round.house.name})"

    def play(self, say: Callable[[str], None]) -> None:
        """All faults of the round, and the reckoning."""
        self.fleet.start()
        self.clerk.start()
        self.fleet.wait_for(ENOUGH, PATIENCE)
        for fault in self.round.faults:
            say(f"{self.where}: {fault}")
            self.break_it(fault)
        self.reckon()

    def break_it(self, fault: Fault) -> None:
        """One fault, until reports are answered again."""
        time.sleep(fault.wait)
        self.tally.faults[fault.name] += 1
        self.harm.do(fault)
        try:
            self.fleet.wait_for(ENOUGH, PATIENCE)
        except AssertionError as error:
            self.tally.note(f"no answers after it: {error}", f"{self.where}, {fault}")

    def reckon(self) -> None:
        """Everything comes to its end; what is in Redis is held against what the locks saw."""
        self.clerk.stop()
        self.harm.revive()
        with self.server.client() as redis:
            self.wait_for_ends(redis)
            self.fleet.drain(PATIENCE)
            self.fleet.stop()
            found = [
                f"{line}; it stands in {places(redis, line)}" if line.startswith("no outcome") else line
                for line in self.ledger.verify(redis, named=10_000)
            ]
            found += late_changes(read_stream(redis)[1])
            found += [
                f"no outcome: {one} is {outcome}"
                for one in self.ledger.cancels
                if (outcome := read_outcome(redis, one)) is None or outcome.state not in ENDED
            ]
        for daemon in (*self.daemons, self.namesake):
            if (daemon.directory / "log").exists() and "Traceback" in daemon.log():
                found.append(f"traceback: {daemon.log().partition('Traceback')[2][:1500]}")
        for line in found:
            self.tally.note(line, self.where)
        self.tally.answered += self.ledger.answered
        self.tally.commands += len(self.ledger.slips) + len(self.ledger.cancels)

    def wait_for_ends(self, redis: RedisClient) -> None:
        """Wait until every command has its outcome; what has none in time is for the ledger to tell."""

        def ended() -> bool:
            outcomes = [read_outcome(redis, one) for one in self.ledger.slips]
            return all(one is not None and one.state in ENDED for one in outcomes)

        try:
            wait_until(ended, PATIENCE)
        except AssertionError:
            return

    def discard(self) -> None:
        """End it all."""
        for daemon in (*self.daemons, self.namesake):
            daemon.discard()
        self.proxy.stop()
        self.server.discard()


def started(one: Round, tally: Tally) -> Scene:
    """A scene whose gateways run: on other ports when some other program has taken one of them meanwhile."""
    attempts = 0
    while True:
        scene = Scene(one, tally)
        try:
            return scene.start()
        except AssertionError as error:
            scene.discard()
            attempts += 1
            if attempts == _ATTEMPTS or "Address already in use" not in str(error):
                raise


def run(count: int, seed: int, say: Callable[[str], None] = lambda line: None) -> Tally:
    """Do `count` faults; `say` is told of each."""
    tally = Tally()
    for one in plan(count, seed):
        try:
            scene = started(one, tally)
        except AssertionError as error:
            tally.note(f"the round could not begin: {error}", f"round {one.number} ({one.house.name})")
            continue
        try:
            scene.play(say)
        except Exception as error:
            tally.note(f"the round failed: {error!r}", scene.where)
        finally:
            scene.discard()
        say(tally.shown(seed))
    return tally
