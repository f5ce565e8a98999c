"""Events as they are in Redis."""

from typing import Any

from msgspec import UNSET

from jt709c_gateway.protocol.events import (
    KIND_ALARM,
    KIND_LOCK,
    KIND_REPLY,
    KIND_TIME_REQUEST,
    Alarm,
    Event,
    LockEvent,
    Reply,
    TimeRequest,
    to_text,
)

_DATA: dict[str, Any] = {
    KIND_LOCK: LockEvent(None, 1, "card", "unlocked", None, None, None, None, None),
    KIND_ALARM: Alarm(None, "rope_cut", True, None, None),
    KIND_REPLY: Reply("BASE", ()),
    KIND_TIME_REQUEST: TimeRequest(),
}


def event(kind: str, device: str, number: int) -> str:
    """Return an event whose serial is a number, as it is in Redis."""
    unknown: tuple[None, ...] = (None,) * 3
    found = Event(
        1,
        f"x-{number}",
        kind,
        device,
        None,
        None,
        number,
        False,
        None,
        None,
        "x",
        *unknown,
        UNSET,
        _DATA[kind],
    )
    return to_text(found)
