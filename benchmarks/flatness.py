"""Whether a number stays where it is while time passes: what `soak.py` concludes from its samples."""

from collections.abc import Sequence
from itertools import combinations
from statistics import median

from attrs import frozen

HOUR = 3600.0


@frozen
class Growth:
    """How fast a series grows: `per_hour`, and `seen`, what that comes to over the time that was sampled."""

    per_hour: float
    seen: float


def growth(times: Sequence[float], values: Sequence[float]) -> Growth:
    """The median of the slopes between all pairs of samples (Theil and Sen); times in seconds.

    Unlike a least-squares line it isn't bent by a burst: a fork of Valkey, a garbage collection, a pause of
    the machine. At least two samples.
    """
    slopes = [(values[j] - values[i]) / (times[j] - times[i]) for i, j in combinations(range(len(times)), 2)]
    slope = median(slopes)
    return Growth(slope * HOUR, slope * (times[-1] - times[0]))


def creeps(times: Sequence[float], values: Sequence[float], noise: float, per_hour: float) -> Growth | None:
    """Growth that is no noise: more than `noise` over the time sampled, and more than `per_hour`. Else None.

    Both, since over a short time noise alone extrapolates to much, and over a long one a growth that is
    clearly there may be too small to matter.
    """
    found = growth(times, values)
    return found if found.seen > noise and found.per_hour > per_hour else None


def slows(values: Sequence[float], factor: float, allowance: float) -> tuple[float, float] | None:
    """Medians of the first and last third, if the last is above `factor` times the first + `allowance`."""
    third = max(1, len(values) // 3)
    before, after = median(values[:third]), median(values[-third:])
    return (before, after) if after > factor * before + allowance else None
