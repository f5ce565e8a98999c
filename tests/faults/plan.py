"""Plans the faults of a long run. The plan follows from a seed."""

import random
from collections.abc import Iterator
from typing import Final

from attrs import define, frozen

from tests.support.partitioned import PARTITIONS

#: Number of faults in a round. Each round has its own server, gateways and observations.
ROUND: Final = 25


@frozen
class Topology:
    """The gateways of one round: their number and their command-line options."""

    name: str
    gateways: int
    options: tuple[str, ...] = ()

    @property
    def has_workers(self) -> bool:
        """Whether the gateway runs worker processes."""
        return "--workers" in self.options


TOPOLOGIES: Final = (
    Topology("one gateway", 1),
    Topology("two gateways", 2),
    Topology("three gateways", 3),
    Topology("one gateway with two workers", 1, ("--workers", "2")),
)
#: Relative frequency of each fault, by the name of the method of `FaultInjector`.
FAULTS: Final = {
    "kill_gateway": 4,
    "pause_gateway": 5,
    "namesake": 2,
    "kill_server": 3,
    "pause_server": 4,
    "full_disk": 2,
    "out_of_memory": 3,
    "right_taken": 5,
    "key_spoiled": 5,
    "connections_killed": 4,
    "proxy_reset": 4,
    "proxy_cut": 4,
    "proxy_slow": 4,
    "proxy_half_open": 4,
    "proxy_stuck": 4,
    "proxy_refuses": 3,
    "links_reset": 3,
    "links_vanish": 3,
    "links_end": 3,
    # Of a cluster.
    **({"fail_over": 5, "slot_moves": 5} if PARTITIONS else {}),
}


@frozen
class Fault:
    """One fault: its name, the seconds before it, its duration in seconds and its random seed."""

    name: str
    wait: float
    seconds: float
    seed: int

    def __str__(self) -> str:
        return f"{self.name} for {self.seconds:.2f} s"


@define
class RoundPlan:
    """The faults of one round, injected one after the other."""

    number: int
    topology: Topology
    seed: int
    faults: list[Fault]


def plan(count: int, seed: int) -> Iterator[RoundPlan]:
    """Plan `count` faults in rounds. Plans of one seed start alike, whatever their length."""
    dice = random.Random(seed)
    names, weights = list(FAULTS), list(FAULTS.values())
    left, number = count, 0
    while left > 0:
        number += 1
        topology = TOPOLOGIES[(number + seed) % len(TOPOLOGIES)]
        faults = [
            Fault(name, dice.uniform(0.1, 0.6), dice.uniform(0.2, 3.0), dice.randrange(1 << 30))
            for name in dice.choices(names, weights, k=ROUND)
        ]
        yield RoundPlan(number, topology, dice.randrange(1000), faults[:left])
        left -= ROUND
