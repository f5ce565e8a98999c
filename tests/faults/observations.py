"""What locks sent, what was answered, what was ordered, what the locks saw; and whether Redis agrees."""

import json
from collections import Counter
from enum import StrEnum
from typing import Any, Final

from attrs import define, field, frozen

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.model import ENDED
from tests.support import RedisClient
from tests.support.commands import check_edges

#: Entries of the stream that are read at a time.
_PAGE: Final = 2000
#: Violations of a kind that are named one by one.
_NAMED: Final = 5
#: A report in the stream: device, serial, raw.
Key = tuple[str, int, str]


@define(eq=False)
class Report:
    """One report: its frame, how often it was sent, when it was answered (monotonic seconds).

    `raw` is the frame as the gateway shows it: in hex, with a star for each byte of a password.
    """

    device: str
    serial: int
    frame: bytes = field(repr=False)
    raw: str = field(repr=False)
    sent: int = 0
    answered_at: float | None = None

    @property
    def key(self) -> Key:
        """How it is found in the stream."""
        return self.device, self.serial, self.raw


class Reaction(StrEnum):
    """How a lock takes a command."""

    OPENS = "opens"
    """Says yes and moves; a text message: shows it and says so."""
    YES_ONLY = "says yes and doesn't move"
    REFUSES = "refuses"
    MUTE = "neither answers nor moves"


@define(eq=False)
class IssuedCommand:
    """One command: what was asked, how its lock takes it, and each frame in which the lock saw it.

    `mark` is what it is known by in the frame: its password, or the text to show.
    """

    id: str
    device: str
    physical: bool
    reaction: Reaction
    mark: str
    seen: list[bytes] = field(factory=list)
    #: Somebody has tried to take it back.
    cancel_requested: bool = False
    #: The report in which the lock said that it had opened.
    movement: Report | None = None


@frozen
class Outcome:
    """What Redis says of a command in the end."""

    state: str
    reason: str = ""
    attempts: int = 0


#: What a physical command may end as, by how its lock took it; None: the lock never saw it.
_PHYSICAL: Final[dict[Reaction | None, frozenset[str]]] = {
    None: frozenset({"failed", "expired", "uncertain"}),
    Reaction.OPENS: frozenset({"confirmed", "uncertain", "unconfirmed"}),
    Reaction.YES_ONLY: frozenset({"unconfirmed", "uncertain"}),
    Reaction.REFUSES: frozenset({"rejected", "uncertain"}),
    Reaction.MUTE: frozenset({"uncertain"}),
}


@define
class Observations:
    """The books of one run. Filled by the fleet's thread and the clerk's, read when both have stopped."""

    reports: dict[tuple[str, int], Report] = field(factory=dict, repr=False)
    commands: dict[str, IssuedCommand] = field(factory=dict, repr=False)
    #: Ids of the commands that took others back.
    cancels: list[str] = field(factory=list)
    #: Frames that no command explains, and answers to what was never sent.
    unexpected: list[str] = field(factory=list)
    answered: int = 0
    sent: int = 0
    _by_mark: dict[str, IssuedCommand] = field(factory=dict, repr=False)

    # Written while it runs

    def add_report(self, report: Report) -> None:
        """A lock has made a report."""
        self.reports[report.device, report.serial] = report

    def was_answered(self, device: str, serial: int, now: float) -> None:
        """An answer names this serial."""
        report = self.reports.get((device, serial))
        if report is None or not report.sent:
            self.unexpected.append(f"{device} got an answer to {serial}, which it never sent")
        elif report.answered_at is None:
            report.answered_at = now
            self.answered += 1

    def issued(self, command: IssuedCommand) -> None:
        """A command is about to be given."""
        self.commands[command.id] = self._by_mark[command.mark] = command

    def received(self, device: str, mark: str, frame: bytes) -> IssuedCommand | None:
        """A lock got a command; None when nobody gave it to this lock."""
        command = self._by_mark.get(mark)
        if command is None or command.device != device:
            whose = "that nobody gave" if command is None else f"that is for {command.device}"
            self.unexpected.append(f"{device} got a command {whose}: {frame!r}")
            return None
        command.seen.append(frame)
        return command

    @property
    def unanswered(self) -> list[Report]:
        """Reports that are in their locks' memories yet."""
        return [report for report in list(self.reports.values()) if report.answered_at is None]

    # Read when all is quiet

    def check_reports(self, entries: Counter[Key], drained: bool = True) -> list[str]:
        """What is wrong with the reports in the stream.

        Answered: there exactly once. Not answered: there once at most, and with `drained`, when every lock
        has had the time to send again, there are none of these. Nothing else is there.
        """
        violations = []
        known: set[Key] = set()
        for report in list(self.reports.values()):
            count = entries[report.key]
            known.add(report.key)
            name = f"report {report.serial} of {report.device}"
            if count > 1:
                violations.append(f"doubled: {name} is in the stream {count} times")
            if report.answered_at is not None and not count:
                violations.append(f"lost: {name} was answered and is not in the stream")
            if report.answered_at is None and drained:
                violations.append(f"left: {name} was sent {report.sent} times and never answered")
        violations += [f"made up: the stream has {key}" for key in entries if key not in known]
        return violations

    def check_commands(self, outcomes: dict[str, Outcome], settled: bool = False) -> list[str]:
        """What is wrong with the outcomes of commands; `outcomes` by id.

        A physical command is seen once at most. Its outcome is true when it says no more than happened and
        nothing else than happened:

        ===========================  =====================================================================
        the lock …                   and the command is
        ===========================  =====================================================================
        never saw it                 ``failed`` or ``expired``; or ``uncertain``, where the bytes were written
                                     and got lost, or the gateway died about to write them
        saw it and opened            ``confirmed``; ``uncertain`` or ``unconfirmed`` where a crash fell
                                     between the commit of evidence and that of the command: not false, and
                                     with `settled` (no gateway died) not good enough
        saw it, said yes, stood      ``unconfirmed``; ``uncertain`` where the yes got lost
        saw it and refused           ``rejected``; ``uncertain`` where the no got lost
        saw it and was mute          ``uncertain``
        was to be taken back         ``cancelled`` too, where it never saw it
        never saw it, but had        ``rejected``, and the reason says that the gateway spared the lock
        refused two in a row         a third wrong password
        ===========================  =====================================================================

        ``failed`` and ``expired`` say that nothing reached the lock: false of any command that it saw, since
        whoever reads that gives it again. ``confirmed`` of one that moved nothing is as bad.

        A command that moves nothing may be seen several times (it is repeated):

        ===========================  =====================================================================
        never saw it                 ``failed``, ``expired``, ``timed_out``
        saw it                       ``done``, or ``timed_out`` where each answer got lost; ``expired`` where
                                     its attempts, which it tells, went unanswered until its ttl ended
        ===========================  =====================================================================

        No command is left without an end.
        """
        violations = []
        for command in list(self.commands.values()):
            kind = "unlock" if command.physical else "text"
            name = f"{kind} {command.id} for {command.device}, which {_describe(command)},"
            if command.physical and len(command.seen) > 1:
                violations.append(f"doubled command: {name} was written {len(command.seen)} times")
            outcome = outcomes.get(command.id)
            if outcome is None:
                violations.append(f"lost command: {name} is not known")
            elif outcome.state not in ENDED:
                violations.append(f"no outcome: {name} is {outcome.state}")
            elif not self._is_true(command, outcome):
                violations.append(f"false outcome: {name} is {outcome.state} ({outcome.reason})")
            elif settled and command.movement is not None and outcome.state != "confirmed":
                violations.append(f"unsettled: {name} is {outcome.state} ({outcome.reason})")
        return violations

    @staticmethod
    def _is_true(command: IssuedCommand, outcome: Outcome) -> bool:
        if command.cancel_requested and outcome.state == "cancelled":
            return not (command.physical and command.seen)
        if not command.physical:
            if not command.seen:
                return outcome.state in ("failed", "expired", "timed_out")
            return outcome.state in ("done", "timed_out") or (
                outcome.state == "expired" and outcome.attempts > 0
            )
        if not command.seen and outcome.state == "rejected":
            return outcome.reason == lockout.REASON
        return outcome.state in _PHYSICAL[command.reaction if command.seen else None]

    def verify(
        self,
        redis: RedisClient,
        prefix: str = "jt709c",
        *,
        drained: bool = True,
        settled: bool = False,
        named: int = _NAMED,
    ) -> list[str]:
        """All that is wrong, in words, the first of each kind; empty when every promise was kept."""
        entries, steps = read_stream(redis, prefix)
        violations = list(self.unexpected) + self.check_reports(entries, drained)
        violations += self.check_commands(
            {one: read_outcome(redis, one, prefix) for one in self.commands}, settled
        )
        for command_id, states in steps.items():
            try:
                # A crash may come between the record of a step and its event.
                check_edges(states, complete=False)
            except AssertionError as error:
                violations.append(f"steps of {command_id}: {error}")
        return _limit(violations, named)


def _describe(command: IssuedCommand) -> str:
    if not command.seen:
        return "never saw it"
    return f"saw it and {command.reaction}"


def _limit(violations: list[str], named: int) -> list[str]:
    """The first few of each kind, and how many there are."""
    kinds = Counter(line.partition(":")[0] for line in violations)
    shown: Counter[str] = Counter()
    kept = []
    for line in violations:
        kind = line.partition(":")[0]
        shown[kind] += 1
        if shown[kind] <= named:
            kept.append(line)
        elif shown[kind] == named + 1:
            kept.append(f"{kind}: {kinds[kind]} in all")
    return kept


def read_stream(redis: RedisClient, prefix: str = "jt709c") -> tuple[Counter[Key], dict[str, list[str]]]:
    """Every report in the stream with how often it is there, and the states of each command in their
    order."""
    reports: Counter[Key] = Counter()
    steps: dict[str, list[str]] = {}
    start = "-"
    while page := redis.call("XRANGE", f"{prefix}:events", start, "+", "COUNT", _PAGE):
        for _, fields in page:
            event: dict[str, Any] = json.loads(fields[5])
            if event["kind"] == "location":
                reports[event["device"], event["serial"], event["raw"]] += 1
            elif event["kind"] == "command":
                states = steps.setdefault(event["data"]["id"], [])
                # A known id's state is told again without having changed.
                if not states or states[-1] != event["data"]["state"]:
                    states.append(event["data"]["state"])
        start = "(" + page[-1][0].decode()
    return reports, steps


def read_outcome(redis: RedisClient, command_id: str, prefix: str = "jt709c") -> Outcome | None:
    """What a command's hash says; None where there is none."""
    state, reason, attempts = redis.call(
        "HMGET", f"{prefix}:command:{command_id}", "state", "reason", "attempts"
    )
    if state is None:
        return None
    return Outcome(state.decode(), (reason or b"").decode(), int(attempts or 0))
