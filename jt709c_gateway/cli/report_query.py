"""Reads what a seal report needs, and prints it lock by lock."""

import sys
import time
from collections.abc import Mapping
from typing import Final

import txredisapi
from attrs import define, field, frozen
from msgspec import to_builtins

from jt709c_gateway.cli.device_lookup import has_reported, resolve
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.fleet import Fleet, Part
from jt709c_gateway.cli.query import end_partial, query_all
from jt709c_gateway.cli.redis_options import RedisOptions
from jt709c_gateway.cli.report_format import print_report
from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.labels import Labels
from jt709c_gateway.redis.report_data import read_lock
from jt709c_gateway.reports.report_csv import csv_heading, csv_of_lock, csv_of_note
from jt709c_gateway.reports.report_types import LockReport, SealReport
from jt709c_gateway.reports.seal_report import lock_report
from jt709c_gateway.reports.trail import LockData, Period
from jt709c_gateway.util.timestamps import iso

#: The most locks of a report, as in the web API.
_MAX_LOCKS: Final = 500


@frozen
class Wanted:
    """The options of `jt709c report`; times are in epoch seconds, `end` is None for now."""

    name: str | None
    group: str | None
    begin: float
    end: float | None
    gap_s: float
    form: str
    local: bool


@define
class _Writer:
    """Writes reports in the order in which they are made; JSON is one document at the end."""

    wanted: Wanted
    period: Period
    now: float
    _locks: list[LockReport] = field(factory=list)

    def begin(self) -> None:
        """Write what is before the first lock."""
        if self.wanted.form == "csv":
            self._out(csv_heading())

    def add(self, data: LockData) -> None:
        """Write the report of a lock."""
        report = lock_report(data, self.period, self.now, self.wanted.gap_s)
        if self.wanted.form == "csv":
            self._out(csv_of_lock(report))
        elif self.wanted.form == "text":
            print_report(report, self.period, self.now, self.wanted.local)
        else:
            self._locks.append(report)

    def end(self, away: Mapping[int, str]) -> None:
        """Write what is behind the last lock."""
        if self.wanted.form == "csv":
            for number in sorted(away):
                note = f"partition {number} is away: its locks may be missing"
                self._out(csv_of_note("", "incomplete", self.now, note))
        elif self.wanted.form == "json":
            whole = SealReport(
                made_at=iso(self.now),
                made_for=None,
                begin=iso(self.period.begin),
                end=iso(self.period.end),
                gap_s=self.wanted.gap_s,
                group=self.wanted.group,
                locks=self._locks,
                partitions_away=sorted(away),
            )
            self._out(to_json(whole) + b"\n")

    def _out(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def run_report(redis: RedisOptions, prefix: str, wanted: Wanted) -> None:
    """Make and print the report; end with status 1 when partitions are away."""
    if (wanted.name is None) == (wanted.group is None):
        raise UserError("give a DEVICE, or --group NAME")
    now = time.time()
    period = Period(wanted.begin, now if wanted.end is None else wanted.end)
    if not 0 <= period.begin < period.end:
        raise UserError("--from is not before --to; expected a period such as --from 7d")
    writer = _Writer(wanted, period, now)
    away = query_all(redis, prefix, "make a report", lambda fleet: _write(fleet, wanted, writer))[1]
    writer.end(away)
    end_partial(away)


async def _write(fleet: Fleet, wanted: Wanted, writer: _Writer) -> None:
    if wanted.name is not None:
        named = await resolve(fleet, wanted.name)
        part = await fleet.of(named.device)
        label = await _label(part, named.device)
        data = await read_lock(part, part.keys, named.device, writer.period.begin, label)
        if not data.events and not label and not await has_reported(part, named.device):
            raise UserError(f"{wanted.name}: such a device is unknown with the prefix {fleet.prefix}")
        writer.begin()
        writer.add(data)
        return
    locks = await _members(fleet, wanted.group or "")
    writer.begin()
    for _, device, label in sorted(locks, key=lambda one: one[:2]):
        part = fleet.parts[fleet.layout.number_of(device)]
        try:
            writer.add(await read_lock(part, part.keys, device, writer.period.begin, label))
        except txredisapi.ConnectionError as error:
            fleet.lost(part, error)


async def _members(fleet: Fleet, group: str) -> list[tuple[str, str, dict[str, str]]]:
    """Return name, device and label of each lock of a group, of the partitions that are there."""
    found = [
        (label.name or "", device, to_builtins(label))
        for labels in await fleet.each(lambda part: Labels(part, part.keys).all())
        for device, label in labels.items()
        if isinstance(label.group, str) and label.group.casefold() == group.casefold()
    ]
    if not found:
        away = "; partitions are away" if fleet.away else ""
        raise UserError(f"--group: no lock has the group {group!r}{away}")
    if len(found) > _MAX_LOCKS:
        raise UserError(f"--group: {len(found)} locks have it; expected at most {_MAX_LOCKS} in a report")
    return found


async def _label(part: Part, device: str) -> dict[str, str]:
    [label] = await Labels(part, part.keys).read([device])
    return {} if label is None else to_builtins(label)
