"""Makes the events of a message for publication (docs/redis.rst, "Events")."""

from collections.abc import Callable
from datetime import datetime

from attrs import define
from msgspec import UNSET

from jt709c_gateway.protocol.events import Event, EventData
from jt709c_gateway.protocol.message import Message

VERSION = 1


@define
class Origin:
    """The origin of frames: gateway, transport and peer. All None off-line."""

    gateway: str | None = None
    transport: str | None = None
    peer: str | None = None


def no_id() -> None:
    """Return the id of an event that is only displayed, never published."""
    return


def wrap(
    message: Message,
    kind: str,
    data: EventData,
    origin: Origin,
    dialect: str,
    received_at: datetime | None,
    event_id: str | None,
    clock_skew_s: int | None = None,
) -> Event:
    """Wrap an event of a message in its envelope; `dialect` is the session's, for bytes common to several."""
    return Event(
        VERSION,
        event_id,
        kind,
        message.device,
        message.imei,
        dialect,
        message.serial,
        message.stored,
        received_at,
        clock_skew_s,
        origin.gateway,
        origin.transport,
        origin.peer,
        message.raw,
        True if message.raw_masked else UNSET,
        data,
    )


def wrap_all(
    message: Message,
    origin: Origin,
    received_at: datetime | None = None,
    next_id: Callable[[], str | None] = no_id,
) -> list[Event]:
    """Return all events of a message, in order."""
    return [
        wrap(message, kind, data, origin, message.dialect, received_at, next_id())
        for kind, data in message.events
    ]
