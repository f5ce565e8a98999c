"""What is written to Redis of a message, as `commit.lua` takes it: its head says what stands where."""

from typing import TYPE_CHECKING, Any

from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.committer import Content

from .sessions import Session

if TYPE_CHECKING:
    from .core import Moment


def record_of(
    session: Session,
    message: Message,
    moment: "Moment",
    events: list[tuple[str, str]],
    location: tuple[Any, ...] | None,
    peripheral: tuple[Any, ...] | None,
    refresh: tuple[Any, ...] | None,
) -> Content:
    """The record of a message with these events (kind, JSON).

    `location` says what a live position among them tells of the lock, `peripheral` what is kept of a sub-lock
    or sensor, and `refresh` what becomes of the session.
    """
    device, known_by, imei = message.device, message.fingerprint, message.imei
    firmware, secret = message.firmware, message.secret
    if location is not None and len(events) == 1 and known_by and not (refresh or firmware or secret):
        # Nearly every report. The script takes this form without a table for each of its parts.
        text = events[0][1]
        return (device, known_by, moment.iso, moment.epoch, text, session.dialect, imei, *location[1:])
    state: tuple[Any, ...] = (session.dialect, imei, firmware, secret, location)
    if peripheral is not None:
        state = (*state, peripheral)
    return (device, known_by, moment.iso, moment.epoch, events, state, refresh, None)
