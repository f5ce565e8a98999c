"""Records reports, answers and commands of a run, and checks Redis against them."""

import json
from collections import Counter
from enum import StrEnum
from typing import Any, Final

from attrs import define, field, frozen

from jt709c_gateway.commands import lockout
from jt709c_gateway.commands.model import ENDED
from tests.support import RedisClient
from tests.support.commands import check_edges

#: Stream entries per XRANGE.
_PAGE: Final = 2000
#: Violations of each kind that are listed one by one.
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
        """The key of the report in the stream."""
        return self.device, self.serial, self.raw


class Reaction(StrEnum):
    """How a lock reacts to a command."""

    OPENS = "opens"
    """Says yes and moves; a text message: shows it and says so."""
    YES_ONLY = "says yes and doesn't move"
    REFUSES = "refuses"
    MUTE = "neither answers nor moves"


@define(eq=False)
class IssuedCommand:
    """One command: its request, the reaction of its lock, and each frame in which the lock received it.

    `mark` identifies it in the frame: its password, or the text to show.
    """

    id: str
    device: str
    physical: bool
    reaction: Reaction
    mark: str
    seen: list[bytes] = field(factory=list)
    #: Whether a cancel command was pushed for it.
    cancel_requested: bool = False
    #: The report in which the lock said that it had opened.
    movement: Report | None = None


@frozen
class Outcome:
    """The recorded outcome of a command in Redis."""

    state: str
    reason: str = ""
    attempts: int = 0


#: Possible final states of a physical command by the reaction of its lock; None: the lock never received it.
_PHYSICAL: Final[dict[Reaction | None, frozenset[str]]] = {
    None: frozenset({"failed", "expired", "uncertain"}),
    Reaction.OPENS: frozenset({"confirmed", "uncertain", "unconfirmed"}),
    Reaction.YES_ONLY: frozenset({"unconfirmed", "uncertain"}),
    Reaction.REFUSES: frozenset({"rejected", "uncertain"}),
    Reaction.MUTE: frozenset({"uncertain"}),
}


@define
class Observations:
    """The traffic of one run. The threads of fleet and issuer fill it; `verify` reads it when both have
    stopped."""

    reports: dict[tuple[str, int], Report] = field(factory=dict, repr=False)
    commands: dict[str, IssuedCommand] = field(factory=dict, repr=False)
    #: Ids of the cancel commands.
    cancels: list[str] = field(factory=list)
    #: Frames of no known command, and answers to reports that were never sent.
    unexpected: list[str] = field(factory=list)
    answered: int = 0
    sent: int = 0
    _by_mark: dict[str, IssuedCommand] = field(factory=dict, repr=False)

    # Recording

    def add_report(self, report: Report) -> None:
        """Record a report of a lock."""
        self.reports[report.device, report.serial] = report

    def was_answered(self, device: str, serial: int, now: float) -> None:
        """Record an answer that names this serial."""
        report = self.reports.get((device, serial))
        if report is None or not report.sent:
            self.unexpected.append(f"{device} got an answer to {serial}, which it never sent")
        elif report.answered_at is None:
            report.answered_at = now
            self.answered += 1

    def issued(self, command: IssuedCommand) -> None:
        """Record a command before it is pushed."""
        self.commands[command.id] = self._by_mark[command.mark] = command

    def received(self, device: str, mark: str, frame: bytes) -> IssuedCommand | None:
        """Record a frame that a lock received; None when no command for this lock has this mark."""
        command = self._by_mark.get(mark)
        if command is None or command.device != device:
            whose = "that nobody gave" if command is None else f"that is for {command.device}"
            self.unexpected.append(f"{device} got a command {whose}: {frame!r}")
            return None
        command.seen.append(frame)
        return command

    @property
    def unanswered(self) -> list[Report]:
        """Reports that are still unanswered."""
        return [report for report in list(self.reports.values()) if report.answered_at is None]

    # Verification

    def check_reports(self, entries: Counter[Key], drained: bool = True) -> list[str]:
        """Return violations in the reports of the stream.

        An answered report is there exactly once. An unanswered one is there at most once; with `drained`,
        when every lock has had time to resend, there are no unanswered ones. The stream has no other reports.
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
        """Return violations in the outcomes of commands; `outcomes` by id.

        A lock receives a physical command at most once. The outcome must agree with what the lock did:

        ===========================  =====================================================================
        the lock                     final state of the command
        ===========================  =====================================================================
        never received it            ``failed`` or ``expired``; ``uncertain`` where the bytes were written
                                     and got lost, or the gateway died about to write them
        received it and opened       ``confirmed``; with `settled` false (a gateway died) also ``uncertain``
                                     or ``unconfirmed``, where a crash fell between the commits of the
                                     evidence and of the command
        accepted, did not open       ``unconfirmed``; ``uncertain`` where the answer got lost
        refused it                   ``rejected``; ``uncertain`` where the answer got lost
        gave no answer               ``uncertain``
        got a cancel command         ``cancelled`` too, if it never received the command
        never received it after      ``rejected``, with the reason that the gateway withheld a third wrong
        two refused passwords        password
        ===========================  =====================================================================

        ``failed`` and ``expired`` say that nothing reached the lock. They are false of any received command:
        a producer would repeat it. ``confirmed`` without a movement is false as well.

        A command that moves nothing is repeated and may be received several times:

        ===========================  =====================================================================
        never received it            ``failed``, ``expired``, ``timed_out``
        received it                  ``done``; ``timed_out`` where each answer got lost; ``expired`` where
                                     its attempts, which are recorded, went unanswered until its ttl ended
        ===========================  =====================================================================

        Every command has a final state.
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
        """Return all violations, the first `named` of each kind; empty when every promise was kept."""
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
    """Keep the first few violations of each kind and add the count of all."""
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
    """Return each report in the stream with its count, and the states of each command, oldest first."""
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
                # The gateway publishes the state of a known id again, unchanged.
                if not states or states[-1] != event["data"]["state"]:
                    states.append(event["data"]["state"])
        start = "(" + page[-1][0].decode()
    return reports, steps


def read_outcome(redis: RedisClient, command_id: str, prefix: str = "jt709c") -> Outcome | None:
    """Return the outcome in a command's hash; None without a hash."""
    state, reason, attempts = redis.call(
        "HMGET", f"{prefix}:command:{command_id}", "state", "reason", "attempts"
    )
    if state is None:
        return None
    return Outcome(state.decode(), (reason or b"").decode(), int(attempts or 0))
