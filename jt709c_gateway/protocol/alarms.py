"""Names of alarm bits and wake-up sources, per dialect (docs/protocol.rst §1.1, §1.2, §2.3)."""

from collections.abc import Collection
from functools import lru_cache
from typing import Final

LOW_BATTERY: Final = "low_battery"
JT709_ALARMS: Final = {
    1: "overspeed",
    7: LOW_BATTERY,
    16: "back_cover_opened",
    17: "fence_entered",
    18: "fence_left",
}

#: Alarm u16 of a 0x5501 body, by product: 1 and 2 are trackers, 3 is the lock.
JT705_ALARMS: Final = {
    1: {0: LOW_BATTERY},
    2: {0: LOW_BATTERY},
    3: {
        0: "overspeed",
        1: LOW_BATTERY,
        2: "vibration",
        3: "deep_sleep",
        5: "fence_entered",
        6: "fence_left",
        7: "wrong_password",
    },
}
#: The alarm bits of a `$` record's status u16; bit 15 is undocumented.
JT701_ALARMS: Final = {
    1: "fence_entered",
    2: "fence_left",
    3: "rope_cut",
    4: "vibration",
    8: "open_too_long",
    9: "wrong_password",
    10: "illegal_card",
    11: LOW_BATTERY,
    12: "back_cover_opened",
    14: "motor_stuck",
}
JT701_ALARM_BITS: Final = sum(1 << bit for bit in (*JT701_ALARMS, 15))
#: All names of alarms except `bit_<n>`, an undocumented bit.
NAMES: Final = tuple(
    dict.fromkeys(
        name for bits in (JT709_ALARMS, *JT705_ALARMS.values(), JT701_ALARMS) for name in bits.values()
    )
)

#: Wake-up sources on which all documents of the family agree; the others depend on the model.
WAKE_REASONS: Final = {0: "restart", 1: "timer", 2: "vibration", 3: "back_cover_opened", 5: "charging"}
JT705_WAKE_REASONS: Final = WAKE_REASONS | {
    6: "bluetooth_command",
    7: "unlock_button",
    8: "call_or_sms",
    10: "vip_call_or_sms",
    11: "rfid",
}
JT701_WAKE_REASONS: Final = WAKE_REASONS | {
    4: "rope",
    6: "rfid",
    7: "lora",
    8: "vip_sms",
    9: "sms",
    10: "bluetooth",
}


def name_bits(bits: int, names: dict[int, str]) -> tuple[str, ...]:
    """Return the names of the set bits, lowest first; `bit_<n>` for an undocumented bit."""
    return tuple(names.get(bit, f"bit_{bit}") for bit in range(bits.bit_length()) if bits >> bit & 1)


def alarm_bits(names: Collection[str], table: dict[int, str]) -> int:
    """Return the bits of the names in the table, the inverse of `name_bits`; ignore other names."""
    return sum(1 << bit for bit, name in table.items() if name in names)


@lru_cache(maxsize=4096)
def jt709_alarms(bits: int) -> tuple[str, ...]:
    """Return the names of the alarm flags u32 of a 0x0200 body. Cached: a fleet has few combinations."""
    return name_bits(bits, JT709_ALARMS)


@lru_cache(maxsize=1024)
def jt705_alarms(product: int, bits: int) -> tuple[str, ...]:
    """Return the names of the alarm u16 of a 0x5501 body, which depend on the product."""
    return name_bits(bits, JT705_ALARMS.get(product, {}))


@lru_cache(maxsize=1024)
def jt701_alarms(status: int) -> tuple[str, ...]:
    """Return the names of the alarms in the status u16 of a `$` record."""
    return name_bits(status & JT701_ALARM_BITS, JT701_ALARMS)
