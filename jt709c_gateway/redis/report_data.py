"""Reads from Redis what a seal report is made of: audit trail, track and last state of one lock."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import Caller
from jt709c_gateway.reports.trail import LockData, TrackPoint, epoch, position

#: Entries per read, and the most that are read of one trail.
_PAGE: Final = 500
MAX_EVENTS: Final = 10_000
#: The most positions that are read of a track.
_MAX_POINTS: Final = 10_000


class _Event(msgspec.Struct):
    """The fields of an event that a report needs."""

    data: dict[str, Any]
    kind: Any = None
    received_at: Any = None
    clock_skew_s: Any = None
    stored: Any = False
    repeats: Any = None


_event: Final = msgspec.json.Decoder(_Event)
_point: Final = msgspec.json.Decoder(tuple[str, float, float, float | None, float | None])

Entry = tuple[bytes, list[bytes]]
"""An entry of a stream: its id, and its fields and values."""


async def read_lock(
    caller: Caller, keys: Keys, device: str, begin: float, label: Mapping[str, str] | None = None
) -> LockData:
    """Read what is kept of a lock from a time on, in epoch seconds, and some entries from before.

    The trail is read to its present end, since a lock may report late. Raises txredisapi's errors.
    """
    entries, all_read = await _read_since(caller, keys.history(device), begin)
    before: Sequence[Entry] = []
    if all_read:
        before = await caller.call("XREVRANGE", keys.history(device), f"({_at(begin)}", "-", "COUNT", _PAGE)
    read = [_decoded(entry) for entry in (*entries, *before)][::-1]
    events = [one for one in read if one is not None]
    found = await caller.call("HMGET", keys.device(device), "seen", "lock_state")
    seen, state = (None if one is None else one.decode("utf-8", "replace") for one in found)
    return LockData(
        device,
        events,
        await _read_track(caller, keys, device),
        label or {},
        epoch(seen),
        state,
        reaches_back=bool(before),
        read_from=None if all_read else int(entries[-1][0].partition(b"-")[0]) / 1000,
        unreadable=len(read) - len(events),
    )


async def _read_since(caller: Caller, key: str, begin: float) -> tuple[list[Entry], bool]:
    """Return the entries since a time, newest first, and whether these are all."""
    found: list[Entry] = []
    newest = "+"
    while len(found) < MAX_EVENTS:
        page: list[Entry] = await caller.call("XREVRANGE", key, newest, _at(begin), "COUNT", _PAGE)
        found += page
        if len(page) < _PAGE:
            return found, True
        newest = f"({page[-1][0].decode()}"
    return found, False


def _at(moment: float) -> str:
    """The lowest id of an entry of a moment."""
    return str(max(0, int(moment * 1000)))


def _decoded(entry: Entry) -> dict[str, Any] | None:
    """Return the event in an entry; None if it is none."""
    fields = dict(zip(entry[1][::2], entry[1][1::2], strict=False))
    try:
        event = _event.decode(fields.get(b"event", b""))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return {name: getattr(event, name) for name in _Event.__struct_fields__}


async def _read_track(caller: Caller, keys: Keys, device: str) -> list[TrackPoint]:
    """Return the positions that are kept; an entry that is none is left out."""
    raw: list[bytes] = await caller.call("LRANGE", keys.track(device), -_MAX_POINTS, -1)
    found = []
    for one in raw:
        try:
            time, latitude, longitude, _, _ = _point.decode(one)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        at, place = epoch(time), position(latitude, longitude)
        if at is not None and place is not None and place != (0.0, 0.0):
            found.append((at, *place))
    return found
