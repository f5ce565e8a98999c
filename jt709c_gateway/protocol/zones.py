"""Converts the times of units whose clocks show UTC+8, as JT/T 808 specifies; the manufacturer's show UTC."""

from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen

from jt709c_gateway.protocol import jt709x
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.message import Message

_AHEAD: Final = timedelta(hours=8)
#: The fields of an event that contain times.
_TIMES: Final = ("time", "master_time")
#: The prefix that stands for every unit.
ALL: Final = "all"


@frozen
class Utc8Devices:
    """The units that send UTC+8: those whose ids begin with one of the prefixes, or all."""

    prefixes: tuple[str, ...] = ()

    def is_sent_by(self, device: str) -> bool:
        """Return whether this device's times are UTC+8."""
        return ALL in self.prefixes or device.startswith(self.prefixes)


def to_utc(message: Message) -> None:
    """Convert the times of a message from UTC+8 to UTC. Call this once."""
    done: set[int] = set()
    for _, data in message.events:
        for one in (data, getattr(data, "lock_event", None)):
            # A lock event is both an event of its own and part of its position.
            if one is not None and id(one) not in done:
                done.add(id(one))
                _shift(one)
        if isinstance(data, Location) and data.lock_event is not None and data.items:
            # This time is UTC in every unit, and matches only after the conversion.
            jt709x.event_time_kept(data, data.lock_event)


def _shift(data: Any) -> None:
    for name in _TIMES:
        time = getattr(data, name, None)
        if isinstance(time, datetime):
            setattr(data, name, time - _AHEAD)
