"""Names of alarm bits and wake-up sources, per dialect (PROTOCOL.md §1.1, §1.2; DESIGN.md §3)."""

from functools import lru_cache
from typing import Final

JT709_ALARMS: Final = {
    1: "overspeed",
    7: "low_battery",
    16: "back_cover_opened",
    17: "fence_entered",
    18: "fence_left",
}

#: Wake-up sources that all documents of the family agree on; the rest depends on the model.
WAKE_REASONS: Final = {0: "restart", 1: "timer", 2: "vibration", 3: "back_cover_opened", 5: "charging"}


def name_bits(bits: int, names: dict[int, str]) -> tuple[str, ...]:
    """The set bits by name, lowest first; `bit_<n>` for one that nobody names."""
    return tuple(names.get(bit, f"bit_{bit}") for bit in range(bits.bit_length()) if bits >> bit & 1)


@lru_cache(maxsize=4096)
def jt709_alarms(bits: int) -> tuple[str, ...]:
    """Alarm flags u32 of a 0x0200 body to names. Cached: a fleet shows few combinations."""
    return name_bits(bits, JT709_ALARMS)
