"""Group commit: everything that frames and commands cause, written to Redis by one script call at a time.

While a call is under way, what arrives gathers for the next. So latency stays low when it is quiet, and the
cost per frame falls when it is busy. A lock's answer is handed to it only after the call that holds its
report has succeeded (DESIGN.md §1, promise 1).

Where an answer has to survive more than the gateway, a call is not the end: WAIT or WAITAOF goes out behind
it, in one write. While Redis waits it takes nothing further from this connection. So when waiting is slow and
there is more to commit, several calls make a train, with one wait behind the last of them.
"""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, Protocol

import txredisapi
from attrs import define, field, frozen
from msgspec.msgpack import Encoder
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.redis.batch import Answer, Batch, Recipient, Then, Waiting, gather
from jt709c_gateway.redis.durability import Durability, NotDurable, Shortfall
from jt709c_gateway.redis.errors import REPORT_EVERY, explain
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.util.clock import Clock

#: Batches that may wait together to be durable.
MAX_UNDURABLE: Final = 50
_RETRY_FIRST: Final = 0.1
_RETRY_LONGEST: Final = 5.0

_PARTS: Final = tuple(
    f"commit{part}.lua" for part in ("", "_checks", "_state", "_sessions", "_conditions", "_batch")
)
SCRIPT: Final = b"\n".join(files(__package__).joinpath("lua", part).read_bytes() for part in _PARTS)
SCRIPT_HASH: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()

_encode = Encoder().encode
#: What a waiting record takes beside its bytes.
_OVERHEAD: Final = 256
#: What the script says of a record that came too late: see the head of `commit.lua`.
_LATE: Final = b"LATE"
_STALE: Final = b"STALE "
_KNOWN: Final = b"KNOWN"
#: What is no fault of Redis's.
_EXPECTED: Final = (_LATE, _STALE, _KNOWN, b"DECLINED")


class Connection(Protocol):
    """What is needed of the connection to Redis."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; a Deferred of its reply."""

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> Any:
        """Send commands in one write; a Deferred of their replies, errors as exception instances."""

    @property
    def connected(self) -> bool:
        """Whether it can be used now."""


@frozen
class Limits:
    """How long what the script writes may become. Entries, but for `max_age_ms` (0: no limit by age)."""

    events: int = 100_000
    history: int = 1_000
    malformed: int = 1_000
    devices: int = 200_000
    recent: int = 64
    max_age_ms: int = 0
    track: int = 300
    histories: int = 200_000

    def packed(self) -> bytes:
        """As the script takes them."""
        return _encode(
            (
                self.events,
                self.history,
                self.malformed,
                self.devices,
                self.recent,
                self.max_age_ms,
                self.track,
                self.histories,
            )
        )


#: The fields of one record: see the head of `commit.lua`.
Content = tuple[Any, ...]


@define
class Statistics:
    """What the committer has done, for metrics."""

    batches: int = 0
    records: int = 0
    duplicates: int = 0
    failed_records: int = 0
    #: Records that were refused because another gateway has the command, or the device a newer session.
    late: int = 0
    stale: int = 0
    retries: int = 0
    #: Times that what had been written was not durable in time, by reason.
    shortfalls: Counter[Shortfall] = field(factory=Counter)


@define(eq=False)
class Committer:
    """Gathers records and has them applied in order, each exactly once.

    A call whose fate is unknown (the connection died under it) is repeated with the same number, by which
    the script knows that it has been applied. So is one that was not as durable in time as `durability` asks:
    nothing of it is answered or carried on with before it is, and if a fail-over has lost it, the repetition
    writes it.

    At most `max_unacked` records, of `max_bytes` in all, should be waiting: then `full` is true, and it is
    for the callers to stop reading; `drained` is called when half of them are done. Without Redis nothing is
    lost: what waits here is committed when it is back.
    """

    log = Logger()

    clock: Clock
    connection: Connection
    keys: Keys
    gateway: str
    boot: str
    limits: Limits = field(factory=Limits)
    max_unacked: int = 20_000
    max_bytes: int = 128 << 20
    durability: Durability = field(factory=Durability)
    drained: Callable[[], None] = lambda: None
    #: The time that records carry, in epoch seconds.
    now: Callable[[], float] = time.time
    #: Called per batch with its seconds and its number of records.
    observed: Callable[[float, int], None] = lambda seconds, size: None
    statistics: Statistics = field(factory=Statistics)
    #: Records that are not committed yet.
    unacked: int = field(default=0, init=False)
    #: The number of the last batch that Redis is known to have.
    applied: int = field(default=0, init=False)
    #: Whether frames should not be taken any more for now.
    full: bool = field(default=False, init=False)
    _waiting: deque[Waiting] = field(factory=deque, repr=False)
    #: Batches to be sent, again or for the first time; that of the call under way is the first.
    _batches: deque[Batch] = field(factory=deque, repr=False)
    #: Batches that were written, and for whose durability nobody has asked yet.
    _undurable: list[Batch] = field(factory=list, repr=False)
    _undurable_since: float = 0.0
    #: Seconds that the last call with a wait took.
    _last_wait: float = 0.0
    _bytes: int = 0
    _number: int = 0
    _calling: bool = False
    _scheduled: bool = False
    _delay: float = _RETRY_FIRST
    _unreported: int = 0
    _report_at: float = 0.0
    _shortfall_at: float = 0.0
    #: What each call begins with, and the limits, as the script takes them.
    _call: tuple[str | int, ...] = field(init=False, repr=False)
    _limits: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        marker = self.marker
        self._call = ("EVALSHA", SCRIPT_HASH, 1, self.keys.events, self.keys.prefix, marker)
        self._limits = self.limits.packed()

    @property
    def marker(self) -> str:
        """The key that has the number of the last batch that was applied."""
        return self.keys.commit_marker(self.gateway, self.boot)

    def submit(
        self,
        content: Content,
        recipient: Recipient | None = None,
        answer: Answer = None,
        then: Then | None = None,
    ) -> None:
        """Have a record committed with the next batch; then `recipient` gets its `answer`."""
        try:
            packed = _encode(content)
        except Exception:
            self.log.failure("a record can't be sent to Redis")
            packed = b""
        self._waiting.append((packed, recipient, answer, then))
        self.unacked += 1
        self._bytes += len(packed) + _OVERHEAD
        if self.unacked >= self.max_unacked or self._bytes >= self.max_bytes:
            self.full = True
        if not self._scheduled and not self._calling:
            self._scheduled = True
            self.clock.callLater(0, self._flush)

    def resume(self) -> None:
        """The connection is ready and knows the script: go on."""
        if not self._calling:
            self._requeue_undurable()
        if self.unacked and not self._scheduled and not self._calling:
            self._scheduled = True
            self.clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._calling or not self.connection.connected:
            return
        if not self._batches:
            if not self._waiting:
                return
            self._batches.append(self._gather())
        self._calling = True
        batch = self._batches[0]
        now = self.clock.seconds()
        batch.began = now if batch.began is None else batch.began
        if not self._undurable:
            self._undurable_since = now
        script = (*self._call, batch.number, self._limits, batch.packed, f"{self.now():.3f}")
        waits = self.durability.waits
        last = not waits or self._waits_now(now)
        if waits and last:
            call = self.connection.pipeline([script, self.durability.command()])
            call.addCallback(self._durable, now)
        else:
            call = self.connection.call(*script)
        call.addCallbacks(self._applied, self._failed, callbackArgs=(last,))
        call.addErrback(self._on_unexpected_error)

    def _waits_now(self, now: float) -> bool:
        """Whether to wait behind this call: all is written then, or as much time went by as waiting takes."""
        if len(self._batches) > 1:
            return False
        long_enough = (
            now - self._undurable_since >= self._last_wait or len(self._undurable) + 1 >= MAX_UNDURABLE
        )
        return long_enough or not self._waiting

    def _durable(self, replies: list[Any], began: float) -> Any:
        """What the script replied, when the wait behind it came to its end; else its error, or NotDurable."""
        applied, waited = replies
        if isinstance(applied, Exception):
            raise applied
        self.durability.check(waited)
        self._last_wait = self.clock.seconds() - began
        return applied

    def _gather(self) -> Batch:
        """Make the next batch of what waits."""
        records = gather(self._waiting)
        sendable = [record for record in records if record[0]]
        if len(sendable) < len(records):
            for record in records:
                if not record[0]:
                    self._refused(record)
        self._number += 1
        return Batch.of(self._number, sendable)

    def _refused(self, record: Waiting) -> None:
        """A record that can't be put into bytes counts as not written."""
        self.unacked -= 1
        self._bytes -= _OVERHEAD
        self.statistics.failed_records += 1
        _, recipient, _, then = record
        if then is not None:
            self._call_back(then, False)
        if recipient is not None:
            self._call_back(recipient.committed, [b""])

    def _applied(self, reply: int | list[Any], durable: bool) -> None:
        """A batch was written; with `durable`, all that were count."""
        outcome = reply if isinstance(reply, list) else [reply]
        duplicates, *_ = outcome
        batch = self._batches.popleft()
        if batch.outcome is None or duplicates >= 0:
            # Of one that had been written before, the server may not know any more what had failed.
            batch.outcome = outcome
        self._undurable.append(batch)
        self._calling = False
        if not durable:
            self._flush()
            return
        self._delay = _RETRY_FIRST
        self.applied = batch.number
        done, self._undurable = self._undurable, []
        failed = [self._count(batch) for batch in done]
        if self._waiting:
            # The next call is on its way before the answers of this one are written.
            self._flush()
        for batch, indices in zip(done, failed, strict=True):
            self._answer(batch.records, indices)
        if self.full and self.unacked <= self.max_unacked // 2 and self._bytes <= self.max_bytes // 2:
            self.full = False
            self._call_back(self.drained)

    def _count(self, batch: Batch) -> dict[int, bytes]:
        """Take a batch off the books; which of its records were not written, by index, and why."""
        size = len(batch.records)
        self.unacked -= size
        self._bytes -= batch.size + _OVERHEAD * size
        assert batch.outcome is not None and batch.began is not None
        duplicates, *failures = batch.outcome
        self.statistics.batches += 1
        self.statistics.records += size
        self.statistics.duplicates += max(duplicates, 0)
        self._call_back(self.observed, self.clock.seconds() - batch.began, size)
        return self._report(failures) if failures else {}

    def _answer(self, records: list[Waiting], failed: dict[int, bytes]) -> None:
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
                    answer = self._call_back(answer)
                of_last.append(answer or b"")
            if then is not None:
                self._call_back(then, written)
        for recipient, waiting in answers.items():
            self._call_back(recipient.committed, waiting)
        for index, reason in failed.items():
            if reason.startswith(_STALE) and (recipient := records[index][1]) is not None:
                self._call_back(recipient.superseded, reason.removeprefix(_STALE).decode())

    def _call_back(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call what belongs to others: its failure is its own."""
        try:
            return callback(*arguments)
        except Exception:
            self.log.failure("what follows a commit failed")
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
            # A user without a permission, say, would otherwise fill the log with one line per batch.
            self._report_at = now + REPORT_EVERY
            self.log.error(
                "{count} records could not be written to Redis and stay unanswered: {reason}",
                count=self._unreported,
                reason=explain(broken[0].decode("utf-8", "replace")),
            )
            self._unreported = 0
        return reasons

    def _failed(self, failure: Failure) -> None:
        """Keep the batch: it is repeated when the connection is ready, or after a while when it still is."""
        self._calling = False
        self.statistics.retries += 1
        self._requeue_undurable()
        if isinstance(failure.value, NotDurable):
            self._not_durable(failure.value)
            return
        if not isinstance(failure.value, txredisapi.ResponseError):
            return
        if "NOSCRIPT" in failure.getErrorMessage():
            self._calling = True
            loading = self.connection.call("SCRIPT", "LOAD", SCRIPT)
            loading.addCallbacks(self._loaded, self._failed)
            loading.addErrback(self._on_unexpected_error)
            return
        if self._delay == _RETRY_FIRST:
            self.log.error("Redis takes no events: {reason}; trying again", reason=failure.getErrorMessage())
        self._retry()

    def _requeue_undurable(self) -> None:
        """What was written and isn't known to be durable is sent again: it may be another server by now."""
        self._batches.extendleft(reversed(self._undurable))
        self._undurable.clear()

    def _not_durable(self, error: NotDurable) -> None:
        self.statistics.shortfalls[error.shortfall] += 1
        now = self.clock.seconds()
        if now >= self._shortfall_at:
            self._shortfall_at = now + REPORT_EVERY
            self.log.error(
                "{count} records wait for --durability: {reason}; nothing is answered until it is reached",
                count=self.unacked,
                reason=str(error),
            )
        if error.shortfall is not Shortfall.REFUSED:
            # It has waited long enough already.
            self._delay = _RETRY_FIRST
        self._retry()

    def _loaded(self, _: object) -> None:
        self._calling = False
        self._flush()

    def _retry(self) -> None:
        self._scheduled = True
        self.clock.callLater(self._delay, self._flush)
        self._delay = min(self._delay * 2, _RETRY_LONGEST)

    def _on_unexpected_error(self, failure: Failure) -> None:
        self.log.failure("the committer failed; trying again", failure)
        self._calling = False
        self._requeue_undurable()
        if not self._scheduled:
            self._retry()
