"""Formats values with their units; None, which means an absent value, has a text, too."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from msgspec import UNSET, UnsetType

from jt709c_gateway.dissector.fields import Bits
from jt709c_gateway.protocol.alarms import name_bits
from jt709c_gateway.protocol.events import Cell, LockEvent

_NO_PLACE: Final = "on no globe"
_UNKNOWN_PLACE: Final = "no place"
_NO_TIME: Final = "no such moment"


def latitude(degrees: float | None, nowhere: bool = False) -> str:
    """Format a latitude in signed degrees with its hemisphere; `nowhere` if the unit sent 0,0."""
    return _degrees(degrees, "N", "S", nowhere)


def longitude(degrees: float | None, nowhere: bool = False) -> str:
    """Format a longitude in signed degrees with its hemisphere; `nowhere` if the unit sent 0,0."""
    return _degrees(degrees, "E", "W", nowhere)


def _degrees(degrees: float | None, positive: str, negative: str, nowhere: bool) -> str:
    if degrees is None:
        return _UNKNOWN_PLACE if nowhere else _NO_PLACE
    return f"{abs(degrees):.6f}° {negative if degrees < 0 else positive}"


def moment(time: datetime | None) -> str:
    """Format a time in UTC."""
    return _NO_TIME if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def unit(value: float | UnsetType | None, name: str) -> str:
    """Format a number with its unit."""
    return "none" if value is None or value is UNSET else f"{value} {name}"


def course(degrees: int | None) -> str:
    """Format a course, clockwise from north."""
    return "none" if degrees is None else f"{degrees}°"


def satellites(number: int | None) -> str:
    """Format the number of satellites in view."""
    return "none known" if number is None else f"{number} satellites"


def signal(strength: int | None) -> str:
    """Format the strength of the mobile signal."""
    return "none" if strength is None else f"signal {strength}"


def count(number: int, name: str) -> str:
    """Format a number of things."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def generation(network: int | None) -> str:
    """Format a generation of mobile networks."""
    return "unknown" if network is None else f"{network}G"


def yes(value: object) -> str:
    """Format a flag as yes or no."""
    return "yes" if value else "no"


def listed(names: Iterable[str]) -> str:
    """Join names with commas; `none` if there are none."""
    return ", ".join(names) or "none"


def named(number: int, names: Mapping[int, str]) -> str:
    """Look up the name of a number."""
    return names.get(number, "not known")


def set_bits(number: int, names: Mapping[int, str], skip: int = 0) -> list[Bits]:
    """Name the bits that are set, without those in the mask `skip`."""
    number &= ~skip
    positions = [bit for bit in range(number.bit_length()) if number >> bit & 1]
    known = name_bits(number, dict(names))
    return [Bits(bit, bit, name, 1) for bit, name in zip(positions, known, strict=True)]


def by_bit(names: Mapping[int, str]) -> dict[int, str]:
    """Convert names by one-bit mask to names by number of the bit."""
    return {mask.bit_length() - 1: name for mask, name in names.items()}


def each_bit(number: int, names: Mapping[int, str]) -> list[Bits]:
    """List all bits with a name, set or not."""
    return [
        Bits(bit, bit, name, number >> bit & 1, yes(number >> bit & 1)) for bit, name in sorted(names.items())
    ]


def wake(source: int | None, reason: str | None) -> str:
    """Format a wake-up source."""
    return "unknown" if source is None else reason or f"source {source}"


def battery(percent: int | None, charging: bool | None) -> str:
    """Format a battery byte, which may also mean charging."""
    if percent is None:
        return "charging" if charging else "not known"
    return f"{percent} %"


def cell(found: Cell | None) -> str:
    """Format a mobile cell."""
    if found is None:
        return "unknown"
    network = "" if found.mcc is None else f"network {found.mcc}-{found.mnc}, "
    return f"{network}cell {found.cell_id}, LAC {found.lac}"


def lock_event(event: LockEvent | None) -> str:
    """Format a lock event."""
    if event is None:
        return "not understood"
    parts = [event.action if event.method == "unknown" else f"{event.action} by {event.method}"]
    if event.card:
        parts.append(f"card {event.card}")
    if event.fence_id is not None:
        parts.append(f"fence {event.fence_id}")
    return ", ".join(parts)
