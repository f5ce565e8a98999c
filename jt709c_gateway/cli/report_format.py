"""Prints the seal report of a lock as text for people."""

from typing import Final

from rich.text import Text

from jt709c_gateway.cli.console import console, plain, print_line
from jt709c_gateway.cli.time_format import date_and_time, parse
from jt709c_gateway.reports.report_types import Entry, LockReport, NotKnown
from jt709c_gateway.reports.trail import Period
from jt709c_gateway.util.timestamps import iso

_INDENT: Final = 26
_WIDTH: Final = 8
_STYLES: Final = {
    "opened": "bold yellow",
    "closed": "green",
    "refused": "red",
    "alarm": "bold red",
    "command": "bold",
    "gap": "magenta",
}
_NAMES: Final = {"alarm_cleared": "cleared"}


def print_report(report: LockReport, period: Period, now: float, local: bool) -> None:
    """Print a report; times are in UTC, or with `local` in the local zone."""
    out = console()
    begin, end = (date_and_time(parse(iso(at)), local) for at in (period.begin, period.end))
    out.print(f"seal report of {_title(report)}", style="bold")
    out.print(f"from {begin} to {end}, as known at {date_and_time(parse(iso(now)), local)}")
    out.print(_summary(report))
    for one in report.not_known:
        print_line(out, _not_known(one, local), 2)
    if not report.entries:
        known = "no opening, closing or alarm is known of this period"
        out.print(known if report.not_known else "no opening, closing or alarm")
    for entry in report.entries:
        print_line(out, _line(entry, local), _INDENT)
    if report.earlier:
        out.print(f"{_count(report.earlier, 'entry', 'entries')} came in this period and happened before it")
    out.print()


def _title(report: LockReport) -> str:
    label = report.label
    name = f"{label['name']} ({report.device})" if label.get("name") else report.device
    more = [f"{one} {label[one]}" for one in ("plate", "group") if label.get(one)]
    return plain(", ".join([name, *more]))


def _summary(report: LockReport) -> str:
    counts = report.counts
    opened = _count(counts.opened, "opening", "openings")
    if counts.open_seconds:
        opened += f" (open for {_span(counts.open_seconds)} in all)"
    parts = [opened, _count(counts.closed, "closing", "closings")]
    parts += [
        _count(number, one, many)
        for number, one, many in (
            (counts.refused, "refused attempt", "refused attempts"),
            (counts.alarms, "alarm", "alarms"),
            (counts.commands, "command without a movement", "commands without a movement"),
            (counts.gaps, "gap", "gaps"),
        )
        if number
    ]
    before, after = (one or "not known" for one in (report.state_at_begin, report.state_at_end))
    return f"{', '.join(parts)}; at the beginning {before}, at the end {after}"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _not_known(unknown: NotKnown, local: bool) -> Text:
    span = ""
    if unknown.begin is not None:
        span = f" ({date_and_time(parse(unknown.begin), local)}"
        span += f" to {date_and_time(parse(unknown.end), local)})" if unknown.end else ")"
    return Text(f"! {unknown.text}{span}", "yellow")


def _line(entry: Entry, local: bool) -> Text:
    text = Text(no_wrap=True, overflow="ignore", end="")
    text.append(f"{date_and_time(parse(entry.at), local)}  ", "dim")
    name = _NAMES.get(entry.kind, entry.kind)
    text.append(f"{name:<{_WIDTH}}  ", _STYLES.get(entry.kind, ""))
    parts = [
        None if entry.alarm is None else entry.alarm.replace("_", " "),
        None if entry.sublock is None else f"sub-lock {entry.sublock}",
        None if entry.by is None else f"by {entry.by}",
        *_command(entry),
        _seconds(entry, local),
        _place(entry),
        _late(entry, local),
        *entry.remarks,
    ]
    text.append(plain("; ".join(part for part in parts if part)))
    return text


def _command(entry: Entry) -> list[str]:
    command = entry.command
    if command is None:
        return []
    said = f"command {command.command or ''} {command.id} {command.state or ''}"
    reason = f"({command.reason})" if command.reason else ""
    key = f"signed with key {command.key}" if command.key else ""
    return [" ".join([*said.split(), *reason.split()]), key]


def _seconds(entry: Entry, local: bool) -> str | None:
    if entry.seconds is None:
        return None
    if entry.kind == "opened":
        return f"open for {_span(entry.seconds)}"
    until = "now" if entry.until is None else date_and_time(parse(entry.until), local)
    return f"{_span(entry.seconds)}, until {until}"


def _place(entry: Entry) -> str | None:
    place = entry.place
    if place is None:
        return "place not known" if entry.kind in ("opened", "closed", "alarm") else None
    text = f"at {place.latitude:.6f},{place.longitude:.6f}"
    return text if place.source == "event" else f"{text} ({_span(place.age_s)} before)"


def _late(entry: Entry, local: bool) -> str | None:
    if entry.delay_s is None:
        return "from the lock's memory" if entry.stored else None
    came = date_and_time(parse(entry.received_at), local)
    return f"came {_span(entry.delay_s)} later, {came}" + (", from the lock's memory" if entry.stored else "")


def _span(seconds: float) -> str:
    """Format a duration with its two largest units: `2 h 5 min`."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"
