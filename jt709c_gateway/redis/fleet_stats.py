"""Fleet-wide counts from Redis, for /metrics."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from attrs import field, frozen

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

#: Time spans in seconds for which the seen locks are counted, by their label in metrics.
SPANS: Final[Mapping[str, int]] = {"1h": 3600, "1d": 86_400, "7d": 604_800}
#: Maximum number of open commands among which the oldest waiting one is searched.
_LOOKED_AT: Final = 1000


@frozen
class FleetCounts:
    """Fleet-wide counts at one moment.

    `seen` has the number of locks heard within each of the `SPANS`. `oldest` is the acceptance time of the
    command that waits longest, in epoch seconds; None when none waits. `let_go` has the numbers of `devices`
    and `histories` that were ever deleted because of their limits.
    """

    locks: int
    seen: Mapping[str, int]
    untaken: int
    waiting: int
    under_way: int
    oldest: float | None
    let_go: Mapping[str, int] = field(factory=dict)

    @classmethod
    def sum_of(cls, several: "Sequence[FleetCounts | None]") -> "FleetCounts | None":
        """Return the counts of a fleet in several partitions; None when one of them is unknown."""
        known = [one for one in several if one is not None]
        if len(known) < len(several):
            return None
        if len(known) == 1:
            return known[0]
        oldest = [one.oldest for one in known if one.oldest is not None]
        return cls(
            sum(one.locks for one in known),
            {span: sum(one.seen[span] for one in known) for span in SPANS},
            sum(one.untaken for one in known),
            sum(one.waiting for one in known),
            sum(one.under_way for one in known),
            min(oldest, default=None),
            {what: sum(one.let_go[what] for one in known) for what in known[0].let_go},
        )


async def count_fleet(caller: Caller, keys: Keys, now: float) -> FleetCounts:
    """Count the fleet at `now`, in epoch seconds; txredisapi's errors are passed on."""
    locks, seen, untaken, still_open, under_way, oldest, devices, histories = await scripts.run(
        caller,
        scripts.SURVEY,
        [keys.devices, keys.commands, keys.deadlines, keys.gateways, keys.let_go],
        [keys.prefix, _LOOKED_AT, *(f"{now - seconds:.3f}" for seconds in SPANS.values())],
    )
    return FleetCounts(
        locks,
        dict(zip(SPANS, seen, strict=True)),
        untaken,
        max(0, still_open - under_way),
        under_way,
        None if oldest is None else datetime.fromisoformat(oldest.decode()).timestamp(),
        {"devices": int(devices or 0), "histories": int(histories or 0)},
    )
