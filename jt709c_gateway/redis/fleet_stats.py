"""What Redis knows of the fleet as a whole, in numbers: for /metrics."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import field, frozen

from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller

#: Spans for which the locks seen are counted, in seconds, by the label they have in metrics.
SPANS: Final[Mapping[str, int]] = {"1h": 3600, "1d": 86_400, "7d": 604_800}
#: Open commands among which the oldest waiting one is sought.
_LOOKED_AT: Final = 1000


@frozen
class FleetCounts:
    """One count of the fleet.

    `seen` has the locks heard within each of the `SPANS`. `oldest` is when the command came in that waits
    longest, in epoch seconds; None where none waits. `let_go` is how many `devices` and `histories` had to go
    because of their limits, ever.
    """

    locks: int
    seen: Mapping[str, int]
    untaken: int
    waiting: int
    under_way: int
    oldest: float | None
    let_go: Mapping[str, int] = field(factory=dict)


async def count_fleet(caller: Caller, keys: Keys, now: float) -> FleetCounts:
    """Count the fleet as it is `now`, in epoch seconds; txredisapi's errors as they come."""
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
