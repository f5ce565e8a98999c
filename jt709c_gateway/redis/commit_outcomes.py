"""Follows up committed batches: counts and logs them, sends the answers, calls submitters back."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field, fields
from twisted.logger import Logger

from jt709c_gateway.redis.batch import Batch, Recipient, Waiting
from jt709c_gateway.redis.durability import Shortfall
from jt709c_gateway.redis.errors import REPORT_EVERY, explain
from jt709c_gateway.util.clock import Clock

#: Errors that the script returns for one record: docs/architecture.rst, section 7.
_LATE: Final = b"LATE"
_STALE: Final = b"STALE "
_KNOWN: Final = b"KNOWN"
#: Errors that the script returns in normal operation; Redis has not failed.
_EXPECTED: Final = (_LATE, _STALE, _KNOWN, b"DECLINED")


@define
class Statistics:
    """Counters of the committer, for metrics."""

    batches: int = 0
    records: int = 0
    duplicates: int = 0
    failed_records: int = 0
    #: Records refused because another gateway holds the command, or the device has a newer session.
    late: int = 0
    stale: int = 0
    retries: int = 0
    #: Number of calls whose records were not durable in time, by reason.
    shortfalls: Counter[Shortfall] = field(factory=Counter)

    @classmethod
    def sum_of(cls, several: "Sequence[Statistics]") -> "Statistics":
        """Return the sums of several statistics."""
        total = cls()
        for one in several:
            total.shortfalls.update(one.shortfalls)
            for counter in fields(cls):
                if counter.name != "shortfalls":
                    setattr(total, counter.name, getattr(total, counter.name) + getattr(one, counter.name))
        return total


@define(eq=False)
class CommitOutcomes:
    """Counts committed batches, reports records that were not written, and calls their submitters back."""

    log = Logger()

    clock: Clock
    statistics: Statistics
    _unreported: int = 0
    _report_at: float = 0.0

    def count(self, batch: Batch) -> dict[int, bytes]:
        """Count a committed batch; return the reasons of its records that were not written, by index."""
        assert batch.outcome is not None
        duplicates, *failures = batch.outcome
        self.statistics.batches += 1
        self.statistics.records += len(batch.records)
        self.statistics.duplicates += max(duplicates, 0)
        return self._report(failures) if failures else {}

    def refuse(self, record: Waiting) -> None:
        """Count a record that could not be encoded as not written; it gets no answer."""
        self.statistics.failed_records += 1
        _, recipient, _, then = record
        if then is not None:
            self.call_back(then, False)
        if recipient is not None:
            self.call_back(recipient.committed, [b""])

    def answer(self, records: list[Waiting], failed: dict[int, bytes]) -> None:
        """Send the answers of a batch; `failed` has the reasons of records that were not written."""
        answers: defaultdict[Recipient, list[bytes]] = defaultdict(list)
        last, of_last = None, []
        for index, (_, recipient, answer, then) in enumerate(records):
            written = not failed or index not in failed
            if recipient is not None:
                if recipient is not last:
                    last, of_last = recipient, answers[recipient]
                if not written and failed[index] != _KNOWN:
                    answer = None
                elif callable(answer):
                    answer = self.call_back(answer)
                of_last.append(answer or b"")
            if then is not None:
                self.call_back(then, written)
        for recipient, waiting in answers.items():
            self.call_back(recipient.committed, waiting)
        for index, reason in failed.items():
            if reason.startswith(_STALE) and (recipient := records[index][1]) is not None:
                self.call_back(recipient.superseded, reason.removeprefix(_STALE).decode())

    def call_back(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call a caller's function and log its exception."""
        try:
            return callback(*arguments)
        except Exception:
            self.log.failure("post-commit callback failed")
            return None

    def _report(self, failures: Sequence[Any]) -> dict[int, bytes]:
        reasons: dict[int, bytes] = dict(zip(failures[::2], failures[1::2], strict=True))
        late = sum(reason == _LATE for reason in reasons.values())
        stale = sum(reason.startswith(_STALE) for reason in reasons.values())
        self.statistics.late += late
        self.statistics.stale += stale
        self.statistics.duplicates += sum(reason == _KNOWN for reason in reasons.values())
        broken = [reason for reason in reasons.values() if not reason.startswith(_EXPECTED)]
        self.statistics.failed_records += len(broken)
        self._unreported += len(broken)
        now = self.clock.seconds()
        if broken and now >= self._report_at:
            # A missing permission, for example, would otherwise log one line per batch.
            self._report_at = now + REPORT_EVERY
            self.log.error(
                "{count} records could not be written to Redis and stay unanswered: {reason}",
                count=self._unreported,
                reason=explain(broken[0].decode("utf-8", "replace")),
            )
            self._unreported = 0
        return reasons
