"""What is written to Redis of a message, as `commit.lua` takes it: its head says what stands where."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.envelope import wrap
from jt709c_gateway.protocol.framing import MAX_BINARY
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.committer import Content

from .sessions import Session
from .sublocks import SubLocks

if TYPE_CHECKING:
    from .core import Moment

#: A frame's bytes stand in each of its events. Those of a split message, longer than this in hex, stand in
#: the first only: else a lock's whole memory would be repeated for every position in it.
_RAW_REPEATED: Final = 2 * MAX_BINARY


def position_record(
    session: Session, message: Message, moment: "Moment", dialect: str, event_id: str
) -> Content:
    """The record of a message that `is_position`: nearly all are, so it is short and takes no detour."""
    location: Any = message.facts[0][1]
    kind = events.KIND_LOCATION
    event = wrap(message, kind, location, session.origin, dialect, moment.utc, event_id)
    return (
        message.device,
        message.fingerprint,
        moment.iso,
        moment.epoch,
        events.to_text(event),
        session.dialect,
        message.imei,
        *_shown(session, location),
        session.token,
    )


def record_of(
    session: Session,
    message: Message,
    moment: "Moment",
    dialect: str,
    next_id: Callable[[], str],
    refresh: tuple[Any, ...] | None,
) -> Content:
    """The record of any message. `refresh` is what becomes of its session in Redis."""
    location, peripheral = None, None
    told: list[tuple[str, str]] = []
    for kind, data in message.facts:
        event = wrap(message, kind, data, session.origin, dialect, moment.utc, next_id())
        if told and len(message.raw) > _RAW_REPEATED:
            event.raw = None
        if isinstance(data, events.Location) and not message.stored:
            location = (len(told), *_shown(session, data))
        elif type(data) is events.Peripheral:
            peripheral = _peripheral(session, data, moment.epoch)
        told.append((kind, events.to_text(event)))
    state: tuple[Any, ...] = (session.dialect, message.imei, message.firmware, message.secret, location)
    if peripheral is not None:
        state = (*state, peripheral)
    reported = (message.device, message.fingerprint, moment.iso, moment.epoch, told, state, refresh)
    return (*reported, None, None, session.token)


def _shown(session: Session, location: events.Location) -> tuple[Any, ...]:
    """What Redis keeps of a live position beside the event; the state of the lock is kept here as well."""
    session.lock_state = location.lock_state
    alarms, time = location.alarms, location.time
    return (
        location.lock_state,
        location.battery_percent,
        events.to_text(alarms) if alarms else "[]",
        None if time is None else time.timestamp(),
    )


def _peripheral(session: Session, data: events.Peripheral, now: float) -> tuple[Any, ...]:
    """What Redis keeps of a sub-lock or sensor; the state of a lock is kept here as well."""
    if session.sublocks is None:
        session.sublocks = SubLocks()
    session.sublocks.note(data, now)
    time = None if data.time is None else data.time.timestamp()
    state = data.lock_state if isinstance(data.lock_state, str) else None
    return (data.peripheral, data.peripheral_type, time, state, data.battery_percent)
