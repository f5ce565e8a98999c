"""Units whose clocks show UTC+8, as JT/T 808 asks, where those of the manufacturer show UTC."""

from datetime import datetime, timedelta
from typing import Any, Final

from attrs import frozen

from jt709c_gateway.protocol import jt709x
from jt709c_gateway.protocol.events import Location
from jt709c_gateway.protocol.message import Message

_AHEAD: Final = timedelta(hours=8)
#: The fields in which a fact has times.
_TIMES: Final = ("time", "master_time")
#: What stands for every unit among prefixes.
ALL: Final = "all"


@frozen
class Utc8Devices:
    """Which units send UTC+8: those whose ids begin with one of the prefixes, or every one."""

    prefixes: tuple[str, ...] = ()

    def is_sent_by(self, device: str) -> bool:
        """Whether this device's times are to be read so."""
        return ALL in self.prefixes or device.startswith(self.prefixes)


def to_utc(message: Message) -> None:
    """Put the times of a message that are UTC+8 into UTC. To be done once."""
    done: set[int] = set()
    for _, data in message.facts:
        for one in (data, getattr(data, "lock_event", None)):
            # A lock event stands by itself and in its position.
            if one is not None and id(one) not in done:
                done.add(id(one))
                _shift(one)
        if isinstance(data, Location) and data.lock_event is not None and data.items:
            # This one is UTC in any unit, and fits only now.
            jt709x.event_time_kept(data, data.lock_event)


def _shift(data: Any) -> None:
    for name in _TIMES:
        time = getattr(data, name, None)
        if isinstance(time, datetime):
            setattr(data, name, time - _AHEAD)
