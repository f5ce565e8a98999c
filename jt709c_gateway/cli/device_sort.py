"""The sort keys of `jt709c devices`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jt709c_gateway.redis.device_summary import DeviceSummary

#: The sort keys; None sorts last. ISO 8601 times sort as text.
SORTS: "Final[dict[str, Callable[[DeviceSummary], Any]]]" = {
    "seen": lambda one: one.seen,
    "name": lambda one: (one.label and one.label.name and one.label.name.casefold()) or None,
    "group": lambda one: (one.label and one.label.group and one.label.group.casefold()) or None,
    "device": lambda one: (len(one.device), one.device),
    "imei": lambda one: one.imei,
    "battery": lambda one: one.battery_percent,
    "signal": lambda one: one.gsm_signal,
    "state": lambda one: one.lock_state,
    "alarms": lambda one: len(one.alarms),
    "gateway": lambda one: one.gateway,
    "since": lambda one: one.since,
    "speed": lambda one: one.speed_kmh,
}
#: Descending keys: the latest, the most, the fastest first.
FALLING: Final = frozenset(["seen", "alarms", "since", "speed"])
