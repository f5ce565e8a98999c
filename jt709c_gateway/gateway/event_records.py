"""Builds the commit records of messages; it changes nothing."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET

from jt709c_gateway.gateway.event_labels import labelled
from jt709c_gateway.gateway.lock_clock import LockClock, credible
from jt709c_gateway.gateway.policy import Moment
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.envelope import wrap
from jt709c_gateway.protocol.framing import MAX_BINARY
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.redis.commit_records import (
    DeviceState,
    EventsRecord,
    KeepSession,
    LivePosition,
    PeripheralState,
    PositionRecord,
)

#: Longest `raw` (hex digits) that is repeated in each event of a message. A longer one, of a split message,
#: is in the first event only: else a device's whole memory would be repeated for each position in it.
_RAW_REPEATED: Final = 2 * MAX_BINARY


def position_record(
    session: Session, message: Message, moment: Moment, dialect: str, event_id: str, at: float | None
) -> PositionRecord:
    """The record of a message that `is_position`: the most frequent kind, built without detours.

    `at` is its time, if credible. The session has observed the message before.
    """
    location: Any = message.events[0][1]
    clock, alarms = session.clock, location.alarms
    skew = None if at is None else clock.skew_s
    event = wrap(message, events.KIND_LOCATION, location, session.origin, dialect, moment.utc, event_id, skew)
    text = events.to_text(event)
    return PositionRecord(
        device=message.device,
        # Every report has one.
        fingerprint=message.fingerprint,  # type: ignore[arg-type]
        seen=moment.iso,
        seen_at=moment.epoch,
        event=labelled(text, session.label) if session.label else text,
        dialect=session.dialect,
        imei=message.imei,
        lock_state=location.lock_state,
        battery_percent=location.battery_percent,
        alarms=events.to_text(alarms) if alarms else "[]",
        time=at,
        skew=clock.skew if clock.sure else None,
        token=session.token,
    )


def message_record(
    session: Session,
    message: Message,
    moment: Moment,
    dialect: str,
    next_id: Callable[[], str],
    refresh: KeepSession | None,
    guest: bool = False,
    must_be_new: bool = False,
) -> EventsRecord:
    """The record of any message; `refresh` is the change of its session in Redis.

    The session has observed the message before. The record of a `guest` names no session. With `must_be_new`,
    the commit's callback gets whether the report was new.
    """
    peripheral, reply_state = None, None
    positions: list[LivePosition] = []
    packed: list[tuple[str, str]] = []
    now = moment.epoch
    for kind, data in message.events:
        skew = session.clock.skew_s if _is_dated(data, now) else None
        event = wrap(message, kind, data, session.origin, dialect, moment.utc, next_id(), skew)
        if packed and len(message.raw) > _RAW_REPEATED:
            event.raw = None
        if isinstance(data, events.Location) and not message.stored:
            at = credible(data.time, now)
            positions.append(_live_position(data, session.clock, len(packed), at))
        elif type(data) is events.Peripheral:
            peripheral = _peripheral_state(data, session.sublocks, now)
        elif type(data) is events.Reply:
            reply_state = _reply_state(data, moment.iso)
        text = events.to_text(event)
        packed.append((kind, labelled(text, session.label) if session.label else text))
    return EventsRecord(
        device=message.device,
        fingerprint=message.fingerprint,
        seen=moment.iso,
        seen_at=moment.epoch,
        events=packed,
        state=DeviceState(
            dialect=session.dialect,
            imei=message.imei,
            firmware=message.firmware,
            secret=message.secret,
            positions=positions or None,
            peripheral=peripheral,
            reply_state=reply_state or None,
        ),
        session=refresh,
        token=None if guest else session.token,
        keys=message.keys_of_several(),
        must_be_new=must_be_new,
    )


def _is_dated(data: events.EventData, now: float) -> bool:
    """Whether an event's time is credible; true for events without one."""
    time = getattr(data, "time", None)
    return time is None or credible(time, now) is not None


def _live_position(location: events.Location, clock: LockClock, index: int, at: float | None) -> LivePosition:
    """Changes of a live position in Redis; `index` is that of its event, `at` its time, if credible."""
    alarms = location.alarms
    return LivePosition(
        event=index,
        lock_state=location.lock_state,
        battery_percent=location.battery_percent,
        alarms=events.to_text(alarms) if alarms else "[]",
        time=at,
        skew=clock.skew if clock.sure else None,
    )


def _reply_state(reply: events.Reply, now: str) -> dict[str, str]:
    """Changes that a reply makes to the device's last known state, by field of its hash."""
    found: dict[str, Any] = {
        "battery_percent": reply.battery_percent,
        "records_waiting": reply.records_waiting,
        "cards_registered": UNSET if reply.cards is UNSET else events.to_text(reply.cards),
        "clock_set_at": now if reply.time_taken is True else UNSET,
    }
    return {name: str(value) for name, value in found.items() if value is not UNSET}


def _peripheral_state(data: events.Peripheral, sublocks: SubLockStates | None, now: float) -> PeripheralState:
    """State that Redis stores of a sub-lock or sensor."""
    time = None if sublocks is None else sublocks.event_time(data, now)
    state = data.lock_state if isinstance(data.lock_state, str) else None
    return PeripheralState(
        peripheral=data.peripheral,
        type=data.peripheral_type,
        time=time,
        lock_state=state,
        battery_percent=data.battery_percent,
    )
