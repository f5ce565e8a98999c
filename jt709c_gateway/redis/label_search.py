"""Which locks a search by name, group, plate, note or id finds."""

from collections.abc import Iterable

from attrs import field, frozen

from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.redis.labels import Label


def _folded(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(text.casefold() for text in texts)


@frozen
class LabelSearch:
    """A filter of locks; upper and lower case are the same.

    The lock must be in one of the `groups`, if there are any, and all `texts` must be found in its name,
    group, plate, note, device id or IMEI.
    """

    groups: tuple[str, ...] = field(default=(), converter=_folded)
    texts: tuple[str, ...] = field(default=(), converter=_folded)

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return bool(self.groups or self.texts)

    def fits(self, label: Label | None, *ids: str | None) -> bool:
        """Return whether a device of this label and these ids is found."""
        if self.groups and ((label and label.group) or "").casefold() not in self.groups:
            return False
        hay = "\n".join([*(one for one in ids if one), *(label.values() if label else ())]).casefold()
        return all(text in hay for text in self.texts)

    def fits_summary(self, one: DeviceSummary) -> bool:
        """Return whether a row of the fleet's table is found."""
        return self.fits(one.label or None, one.device, one.imei)
