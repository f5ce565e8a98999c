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


class Manner(StrEnum):
    """How a lock takes a command."""

    OPENS = "opens"
    """Says yes and moves; a text message: shows it and says so."""
    YES_ONLY = "says yes and doesn't move"
    REFUSES = "refuses"
    MUTE = "neither answers nor moves"


@define(eq=False)
class Slip:
    """One command: what was asked, how its lock takes it, and each frame in which the lock saw it.

    `mark` is what it is known by in the frame: its password, or the text to show.
    """

    id: str
    device: str
    physical: bool
    manner: Manner
    mark: str
    seen: list[bytes] = field(factory=list)
    #: Somebody has tried to take it back.
    recalled: bool = False
    #: The report in which the lock said that it had opened.
    movement: Report | None = None


@frozen
class Outcome:
    """What Redis says of a command in the end."""

    state: str
    reason: str = ""
    attempts: int = 0


#: What a physical command may end as, by how its lock took it; None: the lock never saw it.
_PHYSICAL: Final[dict[Manner | None, frozenset[str]]] = {
    None: frozenset({"failed", "expired", "uncertain"}),
    Manner.OPENS: frozenset({"confirmed", "uncertain", "unconfirmed"}),
    Manner.YES_ONLY: frozenset({"unconfirmed", "uncertain"}),
    Manner.REFUSES: frozenset({"rejected", "uncertain"}),
    Manner.MUTE: frozenset({"uncertain"}),
}


@define
class Ledger:
    """The books of one run. Filled by the fleet's thread and the clerk's, read when both have stopped."""

    reports: dict[tuple[str, int], Report] = field(factory=dict, repr=False)
    slips: dict[str, Slip] = field(factory=dict, repr=False)
    #: Ids of the commands that took others back.
    cancels: list[str] = field(factory=list)
    #: Frames that no command explains, and answers to what was never sent.
    oddities: list[str] = field(factory=list)
    answered: int = 0
    sent: int = 0
    _by_mark: dict[str, Slip] = field(factory=dict, repr=False)

    # Written while it runs

    def note(self, report: Report) -> None:
        """A lock has made a report."""
        self.reports[report.device, report.serial] = report

    def was_answered(self, device: str, serial: int, now: float) -> None:
        """An answer names this serial."""
        report = self.reports.get((device, serial))
        if report is None or not report.sent:
            self.oddities.append(f"{device} got an answer to {serial}, which it never sent")
        elif report.answered_at is None:
            report.answered_at = now
            self.answered += 1

    def ordered(self, slip: Slip) -> None:
        """A command is about to be given."""
        self.slips[slip.id] = self._by_mark[slip.mark] = slip

    def saw(self, device: str, mark: str, frame: bytes) -> Slip | None:
        """A lock got a command; None when nobody gave it to this lock."""
        slip = self._by_mark.get(mark)
        if slip is None or slip.device != device:
            whose = "that nobody gave" if slip is None else f"that is for {slip.device}"
            self.oddities.append(f"{device} got a command {whose}: {frame!r}")
            return None
        slip.seen.append(frame)
        return slip

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
        wrong = []
        known: set[Key] = set()
        for report in list(self.reports.values()):
            count = entries[report.key]
            known.add(report.key)
            name = f"report {report.serial} of {report.device}"
            if count > 1:
                wrong.append(f"doubled: {name} is in the stream {count} times")
            if report.answered_at is not None and not count:
                wrong.append(f"lost: {name} was answered and is not in the stream")
            if report.answered_at is None and drained:
                wrong.append(f"left: {name} was sent {report.sent} times and never answered")
        wrong += [f"made up: the stream has {key}" for key in entries if key not in known]
        return wrong

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
        wrong = []
        for slip in list(self.slips.values()):
            kind = "unlock" if slip.physical else "text"
            name = f"{kind} {slip.id} for {slip.device}, which {_story(slip)},"
            if slip.physical and len(slip.seen) > 1:
                wrong.append(f"doubled command: {name} was written {len(slip.seen)} times")
            outcome = outcomes.get(slip.id)
            if outcome is None:
                wrong.append(f"lost command: {name} is not known")
            elif outcome.state not in ENDED:
                wrong.append(f"no outcome: {name} is {outcome.state}")
            elif not self._is_true(slip, outcome):
                wrong.append(f"false outcome: {name} is {outcome.state} ({outcome.reason})")
            elif settled and slip.movement is not None and outcome.state != "confirmed":
                wrong.append(f"unsettled: {name} is {outcome.state} ({outcome.reason})")
        return wrong

    @staticmethod
    def _is_true(slip: Slip, outcome: Outcome) -> bool:
        if slip.recalled and outcome.state == "cancelled":
            return not (slip.physical and slip.seen)
        if not slip.physical:
            if not slip.seen:
                return outcome.state in ("failed", "expired", "timed_out")
            return outcome.state in ("done", "timed_out") or (
                outcome.state == "expired" and outcome.attempts > 0
            )
        if not slip.seen and outcome.state == "rejected":
            return outcome.reason == lockout.REASON
        return outcome.state in _PHYSICAL[slip.manner if slip.seen else None]

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
        wrong = list(self.oddities) + self.check_reports(entries, drained)
        wrong += self.check_commands({one: read_outcome(redis, one, prefix) for one in self.slips}, settled)
        for command_id, states in steps.items():
            try:
                # A crash may come between the record of a step and its event.
                check_edges(states, complete=False)
            except AssertionError as error:
                wrong.append(f"steps of {command_id}: {error}")
        return _shortened(wrong, named)


def _story(slip: Slip) -> str:
    if not slip.seen:
        return "never saw it"
    return f"saw it and {slip.manner}"


def _shortened(wrong: list[str], named: int) -> list[str]:
    """The first few of each kind, and how many there are."""
    kinds = Counter(line.partition(":")[0] for line in wrong)
    shown: Counter[str] = Counter()
    kept = []
    for line in wrong:
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
