"""Makes the entries about movements: who opened or closed a lock, how, where, and by which command."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from jt709c_gateway.reports.report_types import Entry, EntryCommand, EntryKind, Place
from jt709c_gateway.reports.trail import LATE, Happening, TrackPoint, epoch, number, position, text
from jt709c_gateway.util.timestamps import iso

_ACTIONS: Final[Mapping[object, EntryKind]] = {
    "unlocked": "opened",
    "locked": "closed",
    "refused": "refused",
}
#: Who moved a lock without a command of ours, by the method that it reports.
_BY: Final = {
    "password": "a static password, at the lock or from another system",
    "dynamic_password": "a dynamic password, at the lock",
    "bluetooth": "an app, over Bluetooth",
    "lora": "a remote control, over LoRa",
    "automatic": "the lock itself",
}
#: Commands that move a lock, also where the profile of the lock isn't known.
_MOVING: Final = frozenset(["unlock", "unseal", "seal", "lock", "sublock_unlock"])
_NOT_WRITTEN: Final = frozenset(["failed", "expired", "cancelled", "invalid"])


@define
class Commands:
    """The commands in a trail by their ids, each as its last event has it."""

    records: dict[str, Mapping[str, Any]] = field(factory=dict)

    def note(self, data: Mapping[str, Any]) -> None:
        """Note the state of a command."""
        if (name := text(data.get("id"))) is not None:
            self.records[name] = data

    def of(self, name: str) -> EntryCommand:
        """Return what is known of a command."""
        data = self.records.get(name)
        if data is None:
            return EntryCommand(name)
        evidence = data.get("evidence")
        return EntryCommand(
            id=name,
            command=text(data.get("command")),
            state=text(data.get("state")),
            issued_by=text(data.get("issued_by")),
            key=text(data.get("key")),
            reason=text(data.get("reason")),
            created_at=_time(data.get("created_at")),
            sent_at=_time(data.get("sent_at")),
            confirmed_at=_time(data.get("confirmed_at")),
            evidence=dict(evidence) if isinstance(evidence, Mapping) else None,
        )


def _time(value: object) -> str | None:
    at = epoch(value)
    return None if at is None else iso(at)


@define
class Places:
    """Finds where a lock was. `track` is in order of time."""

    track: Sequence[TrackPoint]

    def of(self, data: Mapping[str, Any], at: float) -> Place | None:
        """Return the place in an event, or the last one of the track before it."""
        own = position(data.get("latitude"), data.get("longitude"))
        if own is not None:
            return Place(*own, 0.0, "event")
        index = bisect_right(self.track, at, key=lambda point: point[0])
        if index == 0:
            return None
        time, latitude, longitude = self.track[index - 1]
        return Place(latitude, longitude, round(at - time, 3), "track")


def movement(happening: Happening, commands: Commands, places: Places) -> Entry:
    """Make the entry of a lock event."""
    data = happening.data
    entry = _entry(_ACTIONS.get(data.get("action"), "moved"), happening)
    entry.method, entry.card = text(data.get("method")), text(data.get("card"))
    fence = number(data.get("fence_id"), 0, 1 << 32)
    entry.fence_id = None if fence is None else int(fence)
    entry.place = places.of(data, happening.at)
    name = text(data.get("command_id"))
    if name is not None:
        entry.command = commands.of(name)
        if entry.command.command is None:
            entry.remarks.append("the record of its command is no longer kept")
    entry.by = _by(entry)
    if entry.kind == "moved":
        entry.remarks.append("the lock does not say whether it was opened or closed")
    return entry


def alarm(happening: Happening, places: Places) -> Entry:
    """Make the entry of an alarm."""
    data = happening.data
    entry = _entry("alarm" if data.get("active") is not False else "alarm_cleared", happening)
    entry.alarm = text(data.get("name")) or "unknown"
    entry.place = places.of(data, happening.at)
    return entry


def _entry(kind: EntryKind, happening: Happening) -> Entry:
    delay = happening.received - happening.at
    entry = Entry(
        kind=kind,
        at=iso(happening.at),
        time_of="lock" if happening.by_lock else "receipt",
        received_at=iso(happening.received),
        delay_s=round(delay, 3) if delay >= LATE else None,
        stored=happening.stored,
        sublock=happening.sublock,
        remarks=[],
    )
    if not happening.by_lock:
        entry.remarks.append("the lock sent no usable time: this is when the report came")
    return entry


def _by(entry: Entry) -> str:
    if entry.command is not None:
        return entry.command.issued_by or "a command without an issuer"
    if entry.method == "card":
        return f"card {entry.card}" if entry.card else "a card"
    return _BY.get(entry.method or "", "not reported")


def command_entry(happening: Happening, commands: Commands, places: Places) -> Entry | None:
    """Make the entry of a physical command of which no lock event is kept, from its last event."""
    data = happening.data
    name = text(data.get("id"))
    moves = data.get("physical")
    if name is None or not (moves or (moves is None and data.get("command") in _MOVING)):
        return None
    command = commands.of(name)
    moved = _moved(data) if command.state == "confirmed" else None
    times = ("confirmed_at", "ended_at") if moved else ("sent_at", "ended_at", "created_at")
    if command.state in _NOT_WRITTEN:
        times = ("ended_at", "created_at")
    known = [at for at in (epoch(data.get(one)) for one in times) if at is not None]
    at = min(known[0], happening.received) if known else happening.received
    entry = Entry(
        kind=moved or "command",
        at=iso(at),
        time_of="receipt",
        received_at=iso(happening.received),
        sublock=happening.sublock,
        by=command.issued_by or "a command without an issuer",
        method="command",
        place=places.of({}, at),
        command=command,
        remarks=[],
    )
    if moved:
        entry.remarks.append("no lock event is kept: this is by the evidence that confirmed the command")
    return entry


def _moved(data: Mapping[str, Any]) -> EntryKind | None:
    """Return what the evidence for a command shows."""
    evidence = data.get("evidence")
    if not isinstance(evidence, Mapping):
        return None
    shown = evidence.get("action") or evidence.get("lock_state")
    found = _ACTIONS.get(shown)
    return found if found in ("opened", "closed") else None
