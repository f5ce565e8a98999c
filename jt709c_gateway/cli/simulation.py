"""Makes and runs the virtual locks of `jt709c simulate`."""

import copy
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from attrs import define, field
from rich.table import Table
from twisted.internet import defer, task
from twisted.python.failure import Failure

from jt709c_gateway.cli.console import console
from jt709c_gateway.cli.errors import UserError
from jt709c_gateway.cli.progress import Progress, milliseconds
from jt709c_gateway.commands.value_description import counted
from jt709c_gateway.protocol.dialects import JT701, JT709
from jt709c_gateway.simulator.client import CLOSED_UNANSWERED, DATAGRAM_REJECTED, Fleet, device_ids
from jt709c_gateway.simulator.connections import Target
from jt709c_gateway.simulator.counters import Counters
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import (
    ALARMS,
    FIRST_IDS,
    ID_DIGITS,
    MOST_SUBLOCKS,
    LockOptions,
)
from jt709c_gateway.simulator.route import Route

#: Seconds between checks whether all reports are answered.
_DRAIN_EVERY: Final = 0.1


_SLEEP = re.compile(r"([0-9.]+):([0-9.]+)")


#: What to look for, by problem of a connection.
_ADVICE: Final = {
    "connection refused": "is a gateway running there?",
    CLOSED_UNANSWERED: "it is at one of its limits, as --max-connections, or doesn't admit this lock; "
    "its log and jt709c malformed say which",
    DATAGRAM_REJECTED: "is a gateway running there, with --udp?",
}


def make_locks(
    count: int,
    *,
    first_id: str | None,
    route: str | None,
    sleep: str | None,
    dialects: Sequence[str] = (),
    sublocks: int = 0,
    alarms: Sequence[str] = (),
    **rest: Any,
) -> list[VirtualLock]:
    """Create the locks of the options, with the dialects in turn; raise UserError."""
    dialects = dialects or [_default_dialect(alarms)]
    if sublocks and JT701 not in dialects:
        raise UserError(f"--sublocks: only {JT701} masters have sub-locks; add --dialect {JT701}")
    if not 0 <= sublocks <= MOST_SUBLOCKS:
        raise UserError(f"--sublocks: {sublocks} is not from 0 to {MOST_SUBLOCKS}")
    for alarm in alarms:
        if not any(alarm in ALARMS[dialect] for dialect in dialects):
            raise UserError(f"--alarm: {_expected_alarms(alarm, dialects)}")
    ids = _ids(first_id, count, dialects)
    nap = _nap(sleep)
    line = _route(route)
    try:
        options = {
            dialect: LockOptions(
                dialect=dialect,
                sublocks=sublocks if dialect == JT701 else 0,
                route=line,
                sleep=nap,
                alarms=ALARMS[dialect].intersection(alarms),
                **rest,
            )
            for dialect in dialects
        }
    except ValueError as error:
        # Only the first argument of an error of attrs' validators is for users.
        text = str(error.args[0] if error.args else error)
        raise UserError(text.replace("_", "-")) from None
    counters = Counters()
    turns = itertools.cycle(dialects)
    return [VirtualLock(device, options[next(turns)], counters) for device in ids]


def _default_dialect(alarms: Sequence[str]) -> str:
    """Return the first dialect whose locks report all of the alarms, by default jt709."""
    return next((one for one in (JT709, *ALARMS) if ALARMS[one].issuperset(alarms)), JT709)


def _expected_alarms(alarm: str, dialects: Sequence[str]) -> str:
    able = [dialect for dialect, names in ALARMS.items() if alarm in names]
    if able:
        return f"{' and '.join(dialects)} locks report no {alarm}; add --dialect {' or '.join(able)}"
    known = sorted(set[str]().union(*ALARMS.values()))
    return f"{alarm!r} is not an alarm; expected one of {', '.join(known)}"


def _ids(first: str | None, count: int, dialects: Sequence[str]) -> list[str]:
    """Generate the ids of the locks, from `first` on or from the first id of each dialect."""
    try:
        if first is not None:
            return device_ids(first, count, min(ID_DIGITS[dialect] for dialect in dialects))
        own = {dialect: iter(device_ids(FIRST_IDS[dialect], count)) for dialect in dialects}
        return [next(own[dialect]) for dialect in itertools.islice(itertools.cycle(dialects), count)]
    except ValueError as error:
        raise UserError(f"--first-id: {error}") from None


def _nap(sleep: str | None) -> tuple[float, float] | None:
    if sleep is None:
        return None
    times = _SLEEP.fullmatch(sleep)
    try:
        nap = None if times is None else (float(times[1]), float(times[2]))
        if nap is None or not min(nap) > 0:
            raise ValueError
    except ValueError:
        raise UserError(f"--sleep: {sleep!r} is not AWAKE:ASLEEP in seconds, such as 60:300") from None
    return nap


def describe(locks: Sequence[VirtualLock]) -> str:
    """Format the number of locks by kind: `4 virtual locks (2 jt709, 2 jt701 with 6 sub-locks)`."""
    kinds = Counter(lock.options.dialect for lock in locks)
    sublocks = sum(lock.options.sublocks for lock in locks)
    parts = [f"{count} {kind}" if len(kinds) > 1 else kind for kind, count in kinds.items()]
    if sublocks:
        at = list(kinds).index(JT701)
        parts[at] += f" with {sublocks} sub-locks"
    plural = "s" if len(locks) > 1 else ""
    return f"{len(locks)} virtual lock{plural} ({', '.join(parts)})"


def _route(path: str | None) -> Route:
    if path is None:
        return Route.built_in()
    try:
        return Route.load(path)
    except OSError as error:
        raise UserError(f"--route: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--route: {path}: {error}") from None


@define
class _Board:
    """The counters, with rates since the last update."""

    fleet: Fleet
    began: float
    _kinds: str = field(init=False)
    _sublocks: bool = field(init=False)
    _last: tuple[float, Counters] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._kinds = describe(self.fleet.locks)
        self._sublocks = any(lock.options.sublocks for lock in self.fleet.locks)
        self._last = (self.began, Counters())

    def rates(self, now: float) -> tuple[float, float]:
        """Reports sent and answered per second since the last call."""
        then, before = self._last
        counters = self.fleet.counters
        passed = max(now - then, 1e-6)
        self._last = (now, copy.copy(counters))
        return (counters.sent - before.sent) / passed, (counters.answered - before.answered) / passed

    def line(self, now: float) -> str:
        """Format the figures as a line for a log."""
        sent, answered = self.rates(now)
        counters = self.fleet.counters
        return (
            f"{now - self.began:6.0f} s  up {counters.up}/{len(self.fleet.locks)}"
            f"  sent {counters.sent} ({sent:.1f}/s)  answered {counters.answered} ({answered:.1f}/s)"
            f"  unanswered {self.fleet.unanswered}  sent again {counters.resent}"
            f"  p50 {_ms(counters, 50)}  p99 {_ms(counters, 99)}  commands {counters.commands}"
        )

    def table(self, now: float) -> Table:
        """Format the figures as a table, with more details."""
        sent, answered = self.rates(now)
        counters = self.fleet.counters
        table = Table(title=f"{self._kinds}, {now - self.began:.0f} s", min_width=48)
        for name in ("", "total", "a second"):
            table.add_column(name, justify="left" if not name else "right")
        rows = [
            ("connections up", f"{counters.up}", ""),
            ("connection failures", f"{counters.connect_failures}", ""),
            ("reports sent", f"{counters.sent}", f"{sent:.1f}"),
            ("reports answered", f"{counters.answered}", f"{answered:.1f}"),
            ("reports unanswered", f"{self.fleet.unanswered}", ""),
            ("reports sent again", f"{counters.resent}", ""),
            ("reports from memory", f"{counters.stored}", ""),
            ("answer p50 / p99", f"{_ms(counters, 50)} / {_ms(counters, 99)}", ""),
            ("heartbeats", f"{counters.heartbeats}", ""),
            ("commands / answered", f"{counters.commands} / {counters.commands_answered}", ""),
            (
                "unlocked / closed / refused",
                f"{counters.unlocked} / {counters.sealed} / {counters.refused}",
                "",
            ),
        ]
        if self._sublocks:
            rows.append(("reports of sub-locks", f"{counters.sublock_reports}", ""))
        for row in rows:
            table.add_row(*row)
        return table

    def summary(self) -> str:
        """Format the summary at the end."""
        counters = self.fleet.counters
        problems = "".join(f"; {text}: {number}" for text, number in counters.problems.items())
        return (
            f"{self._kinds}: {counted(counters.sent, 'report frame')} sent, {counters.answered} answered,"
            f" {self.fleet.unanswered} unanswered, {counters.resent} sent again;"
            f" answer p50 {_ms(counters, 50)}, p99 {_ms(counters, 99)};"
            f" {counted(counters.connects, 'connection')}, {counted(counters.connect_failures, 'failure')};"
            f" {counted(counters.commands, 'command')}, {counters.commands_answered} answered;"
            f" {counted(counters.unlocked, 'time')} unlocked, {counters.sealed} closed,"
            f" {counters.refused} refused{problems}"
        )


def _ms(counters: Counters, percent: float) -> str:
    return milliseconds(counters.latencies.percentile(percent))


def _explain(target: Target, problem: str) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    advice = f"; {_ADVICE[problem]}" if problem in _ADVICE else ""
    return f"{host}:{target.port}: {problem}{advice}"


async def run_fleet(
    reactor: Any, locks: list[VirtualLock], target: Target, duration: float | None, grace: float
) -> int:
    """Run the locks for `duration` seconds (None: until cancelled); return 1 if reports stay unanswered."""
    ended: defer.Deferred[None] = (
        defer.Deferred() if duration is None else task.deferLater(reactor, duration, lambda: None)
    )

    def on_problem(problem: str) -> None:
        progress.notice(_explain(target, problem))

    def broken(failure: Failure) -> None:
        if not ended.called:
            ended.errback(failure)

    fleet = Fleet(reactor, locks, target, on_problem=on_problem)
    progress = Progress(console(), _Board(fleet, reactor.seconds()), reactor, broken)
    unanswered = 0
    try:
        with progress:
            fleet.start()
            await ended
            await _drained(reactor, fleet, grace)
            unanswered = fleet.unanswered
    finally:
        await fleet.stop()
    # A fleet that never connected has failed too.
    return 1 if unanswered or not fleet.counters.connects else 0


async def _drained(reactor: Any, fleet: Fleet, grace: float) -> None:
    fleet.drain()
    deadline = reactor.seconds() + grace
    while fleet.unanswered and reactor.seconds() < deadline:
        await task.deferLater(reactor, _DRAIN_EVERY)
