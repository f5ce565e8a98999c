"""What is to go wrong, and in which house: all of it follows from a seed."""

import random
from collections.abc import Iterator
from typing import Final

from attrs import define, frozen

#: Faults of one round, which has a server and gateways of its own, and a ledger that is held against Redis.
ROUND: Final = 25


@frozen
class House:
    """Gateways of one round: how many, and what else is on their command lines."""

    name: str
    gateways: int
    options: tuple[str, ...] = ()

    @property
    def has_workers(self) -> bool:
        """Whether a gateway has processes of its own for its locks."""
        return "--workers" in self.options


HOUSES: Final = (
    House("one gateway", 1),
    House("two gateways", 2),
    House("three gateways", 3),
    House("one gateway with two workers", 1, ("--workers", "2")),
)
#: Faults, by the method of `Harm` that does each, with how often they come.
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
}


@frozen
class Fault:
    """One fault: what, before it so many seconds of peace, for how long, and dice of its own."""

    name: str
    wait: float
    seconds: float
    seed: int

    def __str__(self) -> str:
        return f"{self.name} for {self.seconds:.2f} s"


@define
class Round:
    """Faults in one house, one after the other."""

    number: int
    house: House
    seed: int
    faults: list[Fault]


def plan(count: int, seed: int) -> Iterator[Round]:
    """`count` faults in rounds. The same seed gives the same plan; a longer one begins as a shorter."""
    dice = random.Random(seed)
    names, weights = list(FAULTS), list(FAULTS.values())
    left, number = count, 0
    while left > 0:
        number += 1
        house = HOUSES[(number + seed) % len(HOUSES)]
        faults = [
            Fault(name, dice.uniform(0.1, 0.6), dice.uniform(0.2, 3.0), dice.randrange(1 << 30))
            for name in dice.choices(names, weights, k=ROUND)
        ]
        yield Round(number, house, dice.randrange(1000), faults[:left])
        left -= ROUND
