"""Finds the devices of a partition that were seen since the last time, for live updates."""

from typing import Final

import txredisapi
from attrs import define, field

from jt709c_gateway.redis.device_summary import DeviceSummary
from jt709c_gateway.web.device_rows import DeviceRows

#: Seconds by which the commit of a report may be overtaken by that of a later one.
_OVERLAP: Final = 2.0


@define(eq=False)
class SeenDevices:
    """The devices of one partition, at most `most` at a time; those seen first are returned first.

    `key` is a sorted set of devices by time: when they were seen, or when their labels were written.
    """

    rows: DeviceRows
    key: str
    most: int
    #: The start of the next search, and the devices already returned of that time.
    since: float = 0.0
    returned: dict[str, float] = field(factory=dict)

    def start(self, now: float) -> None:
        """Begin with the devices that are seen from now on; in epoch seconds."""
        self.since, self.returned = now - _OVERLAP, {}

    async def summaries(self) -> list[DeviceSummary]:
        """Return the summaries of the devices seen since the last time; none while Redis is away."""
        before = self.since, self.returned
        try:
            devices = await self.devices()
            return await self.rows.summaries(devices) if devices else []
        except txredisapi.RedisError:
            # Try again from the same time later.
            self.since, self.returned = before
            return []

    async def devices(self) -> list[str]:
        """Return the devices seen since the last time, earliest first."""
        heard = await self.rows.changed_since(self.key, self.since, self.most)
        if not heard:
            return []
        last = heard[-1][0]
        if len(heard) == self.most:
            # There are more, possibly with the same time as the last one.
            heard = [one for one in heard if one[0] < last] or heard
            self.since = heard[-1][0]
        else:
            self.since = max(self.since, last - _OVERLAP)
        devices = [name for at, name in heard if self.returned.get(name) != at]
        self.returned = {name: at for at, name in heard if at > self.since}
        return devices
