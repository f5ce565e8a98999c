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
    """Signed degrees with the side of the equator. `nowhere` when the unit sent 0,0."""
    return _degrees(degrees, "N", "S", nowhere)


def longitude(degrees: float | None, nowhere: bool = False) -> str:
    """Signed degrees with the side of Greenwich. `nowhere` when the unit sent 0,0."""
    return _degrees(degrees, "E", "W", nowhere)


def _degrees(degrees: float | None, positive: str, negative: str, nowhere: bool) -> str:
    if degrees is None:
        return _UNKNOWN_PLACE if nowhere else _NO_PLACE
    return f"{abs(degrees):.6f}° {negative if degrees < 0 else positive}"


def moment(time: datetime | None) -> str:
    """A moment in UTC."""
    return _NO_TIME if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def unit(value: float | UnsetType | None, name: str) -> str:
    """A number with its unit."""
    return "none" if value is None or value is UNSET else f"{value} {name}"


def course(degrees: int | None) -> str:
    """A course, clockwise from north."""
    return "none" if degrees is None else f"{degrees}°"


def satellites(number: int | None) -> str:
    """Satellites in view."""
    return "none known" if number is None else f"{number} satellites"


def signal(strength: int | None) -> str:
    """A mobile signal."""
    return "none" if strength is None else f"signal {strength}"


def count(number: int, name: str) -> str:
    """So many of something."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def generation(network: int | None) -> str:
    """A generation of mobile networks."""
    return "unknown" if network is None else f"{network}G"


def yes(value: object) -> str:
    """Yes or no."""
    return "yes" if value else "no"


def listed(names: Iterable[str]) -> str:
    """Names with commas, or `none`."""
    return ", ".join(names) or "none"


def named(number: int, names: Mapping[int, str]) -> str:
    """The name of a number."""
    return names.get(number, "not known")


def set_bits(number: int, names: Mapping[int, str], skip: int = 0) -> list[Bits]:
    """The bits that are set, each with its name; those in the mask `skip` are left out."""
    number &= ~skip
    positions = [bit for bit in range(number.bit_length()) if number >> bit & 1]
    known = name_bits(number, dict(names))
    return [Bits(bit, bit, name, 1) for bit, name in zip(positions, known, strict=True)]


def by_bit(names: Mapping[int, str]) -> dict[int, str]:
    """Names by mask of one bit to names by the bit's number."""
    return {mask.bit_length() - 1: name for mask, name in names.items()}


def each_bit(number: int, names: Mapping[int, str]) -> list[Bits]:
    """All bits that have a name, set or not."""
    return [
        Bits(bit, bit, name, number >> bit & 1, yes(number >> bit & 1)) for bit, name in sorted(names.items())
    ]


def wake(source: int | None, reason: str | None) -> str:
    """A wake-up source."""
    return "unknown" if source is None else reason or f"source {source}"


def battery(percent: int | None, charging: bool | None) -> str:
    """A battery byte that may say that the unit is being charged."""
    if percent is None:
        return "charging" if charging else "not known"
    return f"{percent} %"


def cell(found: Cell | None) -> str:
    """A mobile cell."""
    if found is None:
        return "unknown"
    network = "" if found.mcc is None else f"network {found.mcc}-{found.mnc}, "
    return f"{network}cell {found.cell_id}, LAC {found.lac}"


def lock_event(event: LockEvent | None) -> str:
    """What happened at a lock."""
    if event is None:
        return "not understood"
    parts = [event.action if event.method == "unknown" else f"{event.action} by {event.method}"]
    if event.card:
        parts.append(f"card {event.card}")
    if event.fence_id is not None:
        parts.append(f"fence {event.fence_id}")
    return ", ".join(parts)
