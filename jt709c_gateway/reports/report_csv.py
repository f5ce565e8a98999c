"""Writes a seal report as CSV (RFC 4180, UTF-8): one line for each entry, and for all that is not known."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, Final

from jt709c_gateway.reports.report_types import Entry, LockReport, NotKnown
from jt709c_gateway.util.timestamps import iso

COLUMNS: Final = (
    *("device", "name", "group", "plate", "entry", "at", "time_of", "received_at", "delay_s", "stored"),
    *("sublock", "by", "method", "card", "fence_id", "alarm"),
    *("latitude", "longitude", "position_age_s", "position_source"),
    *("command_id", "command", "command_state", "issued_by", "key", "reason", "evidence"),
    *("until", "seconds", "remarks"),
)
#: A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "'")


def csv_heading() -> bytes:
    """The line with the names of the columns."""
    return _lines([COLUMNS])


def csv_of_lock(report: LockReport) -> bytes:
    """The lines of one lock, at least one."""
    return _lines(_rows(report))


def csv_of_note(device: str, entry: str, at: float, remark: str) -> bytes:
    """A line about what the report lacks; `device` may be empty, `at` is in epoch seconds."""
    return _lines([_row({"device": device, "entry": entry, "at": iso(at), "remarks": remark})])


def _lines(rows: Sequence[Sequence[Any]] | Iterator[Sequence[Any]]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def _rows(report: LockReport) -> Iterator[list[Any]]:
    lock = {"device": report.device, **{name: report.label.get(name) for name in ("name", "group", "plate")}}
    for unknown in report.not_known:
        yield _row({**lock, **_unknown(unknown)})
    for entry in report.entries:
        yield _row({**lock, **_entry(entry)})
    if not report.entries and not report.not_known:
        yield _row({**lock, "entry": "nothing", "remarks": "no opening, closing, alarm or gap"})


def _unknown(unknown: NotKnown) -> dict[str, Any]:
    return {"entry": "not_known", "at": unknown.begin, "until": unknown.end, "remarks": unknown.text}


def _entry(entry: Entry) -> dict[str, Any]:
    place, command = entry.place, entry.command
    found: dict[str, Any] = {
        name: getattr(entry, name)
        for name in ("at", "time_of", "received_at", "delay_s", "sublock", "by", "method", "card", "fence_id")
    }
    found |= {"entry": entry.kind, "stored": entry.stored, "alarm": entry.alarm}
    found |= {"until": entry.until, "seconds": entry.seconds, "remarks": "; ".join(entry.remarks)}
    if place is not None:
        found |= {"latitude": place.latitude, "longitude": place.longitude}
        found |= {"position_age_s": place.age_s, "position_source": place.source}
    if command is not None:
        found |= {"command_id": command.id, "command": command.command, "command_state": command.state}
        found |= {"issued_by": command.issued_by, "key": command.key, "reason": command.reason}
        found["evidence"] = " ".join(f"{name}={value}" for name, value in (command.evidence or {}).items())
    return found


def _row(values: dict[str, Any]) -> list[Any]:
    return [_cell(values.get(name)) for name in COLUMNS]


def _cell(value: Any) -> Any:
    """Make a cell: text never begins a formula or has line breaks; numbers stay numbers."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    text = value if value.isprintable() else value.encode("unicode_escape").decode("ascii")
    # Where a spreadsheet divides lines at semicolons, each part of the text is a cell.
    return ";".join(f"'{one}" if one.startswith(_FORMULA) else one for one in text.split(";"))
