"""What is written to Redis of a message, as `commit.lua` takes it: its head says what stands where."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from msgspec import UNSET

from jt709c_gateway.gateway.lock_clock import credible
from jt709c_gateway.gateway.sessions import Session
from jt709c_gateway.gateway.sublock_states import SubLockStates
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.envelope import wrap
from jt709c_gateway.protocol.framing import MAX_BINARY
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.protocol.zones import to_utc
from jt709c_gateway.redis.committer import Content

if TYPE_CHECKING:
    from jt709c_gateway.gateway.gateway import Moment

#: A frame's bytes stand in each of its events. Those of a split message, longer than this in hex, stand in
#: the first only: else a lock's whole memory would be repeated for every position in it.
_RAW_REPEATED: Final = 2 * MAX_BINARY


def listen(session: Session, message: Message, moment: "Moment") -> float | None:
    """Have the clocks of a lock and its sub-locks learn from a message, whose times are UTC from here on.

    Returns the newest time in it, epoch seconds; None for a message from its memory, and for one without a
    time that can be true.
    """
    if session.utc8:
        to_utc(message)
    clock, facts = session.clock, message.facts
    if message.is_position:
        location: Any = facts[0][1]
        return clock.hear(location.time, moment.epoch, message.wire)
    if message.stored:
        return None
    newest, dated = None, False
    for _, data in facts:
        if type(data) is events.Peripheral:
            time = _heard_through(session, data, moment.epoch, message.wire)
        elif isinstance(data, events.Location) or _is_own(data):
            time = data.time
        else:
            continue
        dated = True
        if time is not None and (newest is None or time > newest):
            newest = time
    return clock.hear(newest, moment.epoch, message.wire) if dated else None


def _is_own(data: events.EventData) -> TypeGuard[events.LockEvent]:
    """Whether it is an event of the lock itself: one of a sub-lock is dated by that one's clock."""
    return isinstance(data, events.LockEvent) and data.peripheral is UNSET


def _heard_through(session: Session, data: events.Peripheral, now: float, wire: bytes) -> datetime | None:
    """Have the clock of a sub-lock learn from its report; the time by the clock of its master."""
    if session.sublocks is None:
        session.sublocks = SubLockStates()
    session.sublocks.hear(data, now, wire)
    return data.master_time


def position_record(
    session: Session, message: Message, moment: "Moment", dialect: str, event_id: str, at: float | None
) -> Content:
    """The record of a message that `is_position`: nearly all are, so it is short and takes no detour.

    `at` is its time where that can be true.
    """
    location: Any = message.facts[0][1]
    skew = None if at is None else session.clock.skew_s
    event = wrap(message, events.KIND_LOCATION, location, session.origin, dialect, moment.utc, event_id, skew)
    return (
        message.device,
        message.fingerprint,
        moment.iso,
        moment.epoch,
        events.to_text(event),
        session.dialect,
        message.imei,
        *_shown(session, location, moment.epoch, at),
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
    peripheral, known = None, None
    located: list[tuple[Any, ...]] = []
    told: list[tuple[str, str]] = []
    now = moment.epoch
    for kind, data in message.facts:
        skew = session.clock.skew_s if _is_dated(data, now) else None
        event = wrap(message, kind, data, session.origin, dialect, moment.utc, next_id(), skew)
        if told and len(message.raw) > _RAW_REPEATED:
            event.raw = None
        if isinstance(data, events.Location) and not message.stored:
            located.append((len(told), *_shown(session, data, now, credible(data.time, now))))
        elif type(data) is events.Peripheral:
            peripheral = _peripheral(session, data, now)
        elif type(data) is events.Reply:
            known = _told(data, moment.iso)
        told.append((kind, events.to_text(event)))
    state: tuple[Any, ...] = (
        session.dialect,
        message.imei,
        message.firmware,
        message.secret,
        located or None,
    )
    if peripheral is not None or known:
        state = (*state, peripheral, known)
    reported = (message.device, message.fingerprint, moment.iso, moment.epoch, told, state, refresh)
    return (*reported, None, None, session.token, message.keys_of_several())


def _is_dated(data: events.EventData, now: float) -> bool:
    """Whether the times in it are by a clock that runs: what has none isn't asked."""
    time = getattr(data, "time", None)
    return time is None or credible(time, now) is not None


def _shown(session: Session, location: events.Location, now: float, at: float | None) -> tuple[Any, ...]:
    """What Redis keeps of a live position beside the event; the state of the lock is kept here as well."""
    clock = session.clock
    happened = now if at is None else clock.by_ours(at, now)
    if happened >= session.state_at:
        session.lock_state, session.state_at = location.lock_state, happened
    alarms = location.alarms
    return (
        location.lock_state,
        location.battery_percent,
        events.to_text(alarms) if alarms else "[]",
        at,
        clock.skew if clock.sure else None,
    )


def _told(reply: events.Reply, now: str) -> dict[str, str]:
    """What an answer says of the device's last known state, by the names in its hash."""
    found: dict[str, Any] = {
        "battery_percent": reply.battery_percent,
        "records_waiting": reply.records_waiting,
        "cards_registered": UNSET if reply.cards is UNSET else events.to_text(reply.cards),
        "clock_set_at": now if reply.time_taken is True else UNSET,
    }
    return {name: str(value) for name, value in found.items() if value is not UNSET}


def _peripheral(session: Session, data: events.Peripheral, now: float) -> tuple[Any, ...]:
    """What Redis keeps of a sub-lock or sensor; the state of a lock is kept here as well."""
    if session.sublocks is None:
        session.sublocks = SubLockStates()
    session.sublocks.note(data, now)
    time = session.sublocks.happened(data, now)
    state = data.lock_state if isinstance(data.lock_state, str) else None
    return (data.peripheral, data.peripheral_type, time, state, data.battery_percent)
