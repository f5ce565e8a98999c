"""Serves seal reports: of one lock, or of the locks of a group."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, TypeVar

import txredisapi
from attrs import define, field, frozen
from msgspec import to_builtins
from twisted.internet import defer, threads

from jt709c_gateway.protocol.events import to_json
from jt709c_gateway.redis.labels import Labels
from jt709c_gateway.redis.report_data import read_lock
from jt709c_gateway.reports.report_csv import csv_heading, csv_of_lock, csv_of_note
from jt709c_gateway.reports.report_types import LockReport, SealReport
from jt709c_gateway.reports.seal_report import lock_report
from jt709c_gateway.reports.trail import LockData, Period
from jt709c_gateway.util.timestamps import iso
from jt709c_gateway.web import query as read
from jt709c_gateway.web.api.devices import unknown_device
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest, Response
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition, side_by_side
from jt709c_gateway.web.redis_client import PartitionsAway, numbers_away
from jt709c_gateway.web.router import Result, Route
from jt709c_gateway.web.streamed import StreamedBody

#: The most locks of a report, entries of one as JSON, and reports that are made at the same time.
MAX_LOCKS: Final = 500
MAX_ENTRIES: Final = 10_000
_AT_ONCE: Final = 4
_DAY: Final = 86400.0
CSV: Final = "text/csv; charset=utf-8; header=present"
_JSON_NAME: Final = "json"
_CSV_NAME: Final = "csv"
#: Events from which a thread makes the report, so that locks don't wait.
_MANY: Final = 300

_Made = TypeVar("_Made")

_GROUP: Final = read.Parameter("group", read.group, "A group: all locks whose label has it.")
_FROM: Final = read.Parameter(
    "from", read.moment, "The beginning, RFC 3339 or epoch seconds; a day before the end by default."
)
_TO: Final = read.Parameter(
    "to", read.moment, "The end, which is not part of it, RFC 3339 or epoch seconds; now by default."
)
_GAP: Final = read.Parameter(
    "gap",
    read.limit(30 * 86400),
    "The seconds without a record from which a gap is listed.",
    {"type": "integer", "minimum": 1, "maximum": 30 * 86400, "default": 3600},
    3600,
)
_FORMAT: Final = read.Parameter(
    "format",
    read.one_of(_JSON_NAME, _CSV_NAME),
    "JSON, or CSV with a line for each entry (docs/report.rst).",
    {"enum": [_JSON_NAME, _CSV_NAME], "default": _JSON_NAME},
    _JSON_NAME,
)


@frozen
class _Lock:
    device: str
    label: dict[str, str]


@frozen
class _Asked:
    """A request for a report: its period, the locks, and the partitions that could not be asked for locks."""

    period: Period
    now: float
    gap_s: float
    group: str | None
    locks: Sequence[_Lock]
    away: list[int] = field(factory=list)


@define(eq=False)
class ReportsApi:
    """The handler of /report. `now()` returns the time in epoch seconds."""

    reactor: Any
    web: PartitionedWebRedis
    fleet: DeviceTable
    now: Any
    _running: int = field(default=0, init=False)
    #: More threads that compute would slow down the reactor.
    _turn: defer.DeferredLock = field(factory=defer.DeferredLock, init=False)

    def routes(self) -> Sequence[Route]:
        """The routes to these handlers."""
        parameters = (read.DEVICE, _GROUP, _FROM, _TO, _GAP, _FORMAT)
        results = {200: Result(SealReport, others=[CSV])}
        return [Route("GET", "/report", self.report, results, parameters, errors=(404,))]

    async def report(self, request: ApiRequest) -> Response | None:
        """GET /report: the openings and closings of a lock, or of a group, in a period.

        Give `device` or `group`. A report has at most 500 locks. As JSON it has at most 10,000 entries;
        CSV is sent lock by lock.
        """
        if self._running >= _AT_ONCE:
            raise ApiError(503, "other reports are being made: try again later", headers={"retry-after": "5"})
        self._running += 1
        try:
            asked = await self._read_request(request)
            if request.param(_FORMAT) == _CSV_NAME:
                await self._send_csv(request, asked)
                return None
            return await self._json(request, asked)
        finally:
            self._running -= 1

    async def _read_request(self, request: ApiRequest) -> _Asked:
        now = float(self.now())
        end: float | None = request.param(_TO)
        begin: float | None = request.param(_FROM)
        until = now if end is None else end
        period = Period(max(0.0, until - _DAY) if begin is None else begin, until)
        if not 0 <= period.begin < period.end <= _LATEST:
            raise ApiError(400, "from is not before to: expected a period such as a day", "from")
        name: str | None = request.param(read.DEVICE)
        group: str | None = request.param(_GROUP)
        if (name is None) == (group is None):
            raise ApiError(400, "device, group: expected one of them", "device")
        away: list[int] = []
        if name is not None:
            locks = [await self._one(name)]
        else:
            locks = await self._members(group or "", away)
        return _Asked(period, now, request.param(_GAP), group, locks, away)

    async def _one(self, name: str) -> _Lock:
        device = await self.fleet.resolve(name)
        partition = self.web.of(device)
        keys = partition.keys
        [label] = await _labels(partition).read([device])
        if label is None and not await partition.redis.call(
            "EXISTS", keys.device(device), keys.history(device)
        ):
            raise unknown_device("device")
        return _Lock(device, {} if label is None else to_builtins(label))

    async def _members(self, group: str, away: list[int]) -> list[_Lock]:
        """Return the locks of a group in the order of their names; partitions that are away go to `away`."""
        answers = await side_by_side(self.web.partitions, lambda one: _labels(one).all())
        away.extend(answers.away)
        found = [
            _Lock(device, to_builtins(label))
            for labels in answers.values()
            for device, label in labels.items()
            if isinstance(label.group, str) and label.group.casefold() == group.casefold()
        ]
        if not found and away:
            raise PartitionsAway(away)
        if not found:
            raise ApiError(404, "group: no lock has this group", "group")
        if len(found) > MAX_LOCKS:
            raise ApiError(
                400, f"group has {len(found)} locks: expected at most {MAX_LOCKS} in a report", "group"
            )
        return sorted(found, key=lambda one: (one.label.get("name", ""), one.device))

    async def _each(
        self, asked: _Asked, make: Callable[[LockReport], _Made]
    ) -> AsyncIterator[tuple[_Lock, _Made | None]]:
        """Yield what `make` makes of the report of each lock; None for one whose partition is away.

        `make` may run in a thread.
        """

        def made(data: LockData) -> _Made:
            return make(lock_report(data, asked.period, asked.now, asked.gap_s))

        for lock in asked.locks:
            partition = self.web.of(lock.device)
            begin = asked.period.begin
            try:
                data = await read_lock(partition.redis, partition.keys, lock.device, begin, lock.label)
            except txredisapi.ConnectionError as error:
                away = numbers_away(error)
                if not away or asked.group is None:
                    raise
                asked.away.extend(away)
                yield lock, None
                continue
            is_short = len(data.events) < _MANY
            yield lock, made(data) if is_short else await self._turn.run(threads.deferToThread, made, data)

    async def _json(self, request: ApiRequest, asked: _Asked) -> Response:
        found: list[LockReport] = []
        entries = 0
        async for _, report in self._each(asked, lambda one: one):
            if request.gone:
                break
            if report is not None:
                found.append(report)
                entries += len(report.entries)
            if entries > MAX_ENTRIES:
                most = f"expected at most {MAX_ENTRIES} entries"
                raise ApiError(400, f"the report is too large: {most}; take a shorter period, or CSV", "from")
        if not found and asked.away:
            raise PartitionsAway(asked.away)
        return Response(
            to_json(
                SealReport(
                    made_at=iso(asked.now),
                    made_for=None if request.user is None else request.user.name,
                    begin=iso(asked.period.begin),
                    end=iso(asked.period.end),
                    gap_s=asked.gap_s,
                    group=asked.group,
                    locks=found,
                    partitions_away=sorted(set(asked.away)),
                )
            )
        )

    async def _send_csv(self, request: ApiRequest, asked: _Asked) -> None:
        body = StreamedBody(request.twisted_request, self.reactor)
        begun = False
        try:
            async for lock, lines in self._each(asked, csv_of_lock):
                if not begun:
                    begun = True
                    body.begin(CSV, f"seal-report-{iso(asked.period.begin)[:10]}.csv")
                    await body.write(csv_heading())
                if lines is None:
                    note = "the partition of this lock is away: nothing of it is in this report"
                    await body.write(csv_of_note(lock.device, "not_known", asked.period.begin, note))
                else:
                    await body.write(lines)
                if body.gone:
                    return
        except txredisapi.RedisError:
            if not begun:
                raise
            note = "the report ends here: Redis could not be read"
            await body.write(csv_of_note("", "incomplete", asked.now, note))
        for number in sorted(set(asked.away)):
            note = f"partition {number} is away: its locks may be missing"
            await body.write(csv_of_note("", "incomplete", asked.now, note))
        body.end()


#: The last moment of which a report can be made.
_LATEST: Final = 253_000_000_000.0


def _labels(partition: WebPartition) -> Labels:
    return Labels(partition.redis, partition.keys)
