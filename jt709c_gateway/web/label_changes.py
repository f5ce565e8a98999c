"""Finds the labels of a partition that were written since the last time, for live updates."""

import msgspec
import txredisapi
from attrs import define, field
from msgspec import UNSET, UnsetType

from jt709c_gateway.redis.labels import Label, Labels
from jt709c_gateway.web.device_rows import DeviceRows
from jt709c_gateway.web.seen_devices import SeenDevices


class LabelledDevice(msgspec.Struct):
    """A device and its label, which is absent when it has none."""

    device: str
    label: Label | UnsetType = UNSET


@define(eq=False)
class LabelChanges:
    """The labels of one partition, at most `most` at a time; those written first are returned first."""

    rows: DeviceRows
    most: int
    _written: SeenDevices = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._written = SeenDevices(self.rows, self.rows.keys.label_changes, self.most)

    def start(self, now: float) -> None:
        """Begin with the labels that are written from now on; in epoch seconds."""
        self._written.start(now)

    async def read(self) -> list[LabelledDevice]:
        """Return the labels written since the last time; none while Redis is away."""
        before = self._written.since, self._written.returned
        try:
            devices = await self._written.devices()
            labels = await Labels(self.rows.caller, self.rows.keys).read(devices)
        except txredisapi.RedisError:
            self._written.since, self._written.returned = before
            return []
        return [LabelledDevice(device, label or UNSET) for device, label in zip(devices, labels, strict=True)]
