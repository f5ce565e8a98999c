"""Group commit: writes all records of frames and commands to Redis, one script call at a time.

Records that arrive during a call are sent with the next one, and those of frames that were read together are
sent together, since a call costs much more than a record in it. A device's answer is sent only after the call
with its report has succeeded.

With `--durability`, WAIT or WAITAOF follows the call in the same write. Redis processes no further request of
this connection while it waits. So when waits are slow and more records are queued, several calls share one
wait, which follows the last of them.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import txredisapi
from attrs import astuple, define, field, frozen
from msgspec.msgpack import Encoder
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.redis.batch import Answer, Batch, Recipient, Then, Waiting, gather
from jt709c_gateway.redis.commit_outcomes import CommitOutcomes, Statistics
from jt709c_gateway.redis.commit_records import CommitRecord
from jt709c_gateway.redis.durability import Durability, NotDurable, Shortfall
from jt709c_gateway.redis.errors import REPORT_EVERY
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import COMMIT, Script
from jt709c_gateway.util.clock import Clock

#: Batches that may share one wait for durability.
MAX_UNDURABLE: Final = 50
_RETRY_FIRST: Final = 0.1
_RETRY_LONGEST: Final = 5.0

_encode = Encoder().encode
#: Bytes that a queued record occupies besides its packed content.
_OVERHEAD: Final = 256


class Connection(Protocol):
    """The connection to Redis, as the committer uses it."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; return a Deferred of its reply."""

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> Any:
        """Send commands in one write; return a Deferred of their replies, errors as exception instances."""

    @property
    def connected(self) -> bool:
        """Whether the connection is usable now."""


@frozen
class Limits:
    """Maximum lengths of the keys that the script writes, in entries; `max_age_ms` is in ms (0: none).

    The script reads them in the order of the attributes.
    """

    events: int = 100_000
    history: int = 1_000
    malformed: int = 1_000
    devices: int = 200_000
    recent: int = 64
    max_age_ms: int = 0
    track: int = 300
    histories: int = 200_000

    def packed(self) -> bytes:
        """The limits in MessagePack, as the script expects them."""
        return _encode(astuple(self))


@define(eq=False)
class Committer:
    """Collects records and commits them in order, each exactly once.

    A call with unknown outcome (the connection was lost) is repeated with the same batch number, by which the
    script recognises a batch that it has applied. A call that was not durable in time is repeated, too, which
    writes what a fail-over has lost.

    When `max_unacked` records, or `max_bytes` bytes, are queued, `full` is true and callers must stop
    reading; `drained` is called when half of them are committed, after an outage, too.
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
    #: Returns the time that records carry, in epoch seconds.
    now: Callable[[], float] = time.time
    #: Called for each batch with its duration in seconds and its number of records.
    observed: Callable[[float, int], None] = lambda seconds, size: None
    statistics: Statistics = field(factory=Statistics)
    #: Records that are not committed yet.
    unacked: int = field(default=0, init=False)
    #: The key with the number of the last applied batch, and the last number that Redis has confirmed.
    marker: str = field(init=False)
    applied: int = field(default=0, init=False)
    #: Whether callers must stop reading frames.
    full: bool = field(default=False, init=False)
    _waiting: deque[Waiting] = field(factory=deque, repr=False)
    #: Batches to send or resend; the first one is that of the running call.
    _batches: deque[Batch] = field(factory=deque, repr=False)
    #: Batches that were written and whose durability is not confirmed.
    _undurable: list[Batch] = field(factory=list, repr=False)
    _undurable_since: float = 0.0
    #: Duration in seconds of the last call with a wait.
    _last_wait: float = 0.0
    _bytes: int = 0
    _number: int = 0
    _calling: bool = False
    _scheduled: bool = False
    #: Number of records that were ever submitted.
    submitted: int = field(default=0, init=False)
    #: Set while records are submitted that `send_batch` will send, in the same turn of the reactor.
    batching: bool = field(default=False, init=False)
    _delay: float = _RETRY_FIRST
    _shortfall_at: float = 0.0
    _script: Script = field(init=False, repr=False)
    _outcomes: CommitOutcomes = field(init=False, repr=False)
    #: The first arguments of each call, and the packed limits.
    _call: tuple[str | int, ...] = field(init=False, repr=False)
    _limits: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._script, keys = COMMIT.form_for(self.keys), self.keys
        self.marker = keys.commit_marker(self.gateway, self.boot)
        self._call = ("EVALSHA", self._script.hash, 1, keys.events, keys.prefix, self.marker)
        self._limits, self._outcomes = self.limits.packed(), CommitOutcomes(self.clock, self.statistics)

    def of(self, device: str) -> "Committer":
        """Return the committer of a device's partition: this one. `CommitRouter` has several."""
        return self

    def submit(
        self,
        record: CommitRecord,
        recipient: Recipient | None = None,
        answer: Answer = None,
        then: Then | None = None,
    ) -> None:
        """Queue a record for the next batch; after its commit `recipient` gets `answer`."""
        try:
            packed = _encode(record)
        except Exception:
            self.log.failure("a record could not be encoded for Redis")
            packed = b""
        self._waiting.append((packed, recipient, answer, then))
        self.unacked += 1
        self.submitted += 1
        self._bytes += len(packed) + _OVERHEAD
        if self.unacked >= self.max_unacked or self._bytes >= self.max_bytes:
            self.full = True
        if not self._scheduled and not self._calling and not self.batching:
            self._scheduled = True
            self.clock.callLater(0, self._flush)

    def send_batch(self) -> None:
        """Send what was submitted while `batching`."""
        self.batching = False
        if self._waiting and not self._scheduled and not self._calling:
            self._flush()

    def resume(self) -> None:
        """Continue committing: the connection is ready and the script is loaded."""
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
        """Whether a wait follows this call: the queue is empty, or calls took as long as the last wait."""
        if len(self._batches) > 1:
            return False
        long_enough = now - self._undurable_since >= self._last_wait
        return long_enough or len(self._undurable) + 1 >= MAX_UNDURABLE or not self._waiting

    def _durable(self, replies: list[Any], began: float) -> Any:
        """Return the script's reply after a successful wait; raise the script's error, or NotDurable."""
        applied, waited = replies
        if isinstance(applied, Exception):
            raise applied
        self.durability.check(waited)
        self._last_wait = self.clock.seconds() - began
        return applied

    def _gather(self) -> Batch:
        """Make the next batch of the queued records."""
        records = gather(self._waiting)
        sendable = [record for record in records if record[0]]
        if len(sendable) < len(records):
            for record in records:
                if not record[0]:
                    self.unacked -= 1
                    self._bytes -= _OVERHEAD
                    self._outcomes.refuse(record)
        self._number += 1
        return Batch.of(self._number, sendable)

    def _applied(self, reply: int | list[Any], durable: bool) -> None:
        """Handle the reply to a batch; with `durable`, all written batches are committed."""
        outcome = reply if isinstance(reply, list) else [reply]
        duplicates, *_ = outcome
        batch = self._batches.popleft()
        if batch.outcome is None or duplicates >= 0:
            # For a batch that was applied before, the server may have forgotten which records failed.
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
            # Send the next call before the answers of this one.
            self._flush()
        for batch, indices in zip(done, failed, strict=True):
            self._outcomes.answer(batch.records, indices)
        if self.full and self.unacked <= self.max_unacked // 2 and self._bytes <= self.max_bytes // 2:
            self.full = False
            self._outcomes.call_back(self.drained)

    def _count(self, batch: Batch) -> dict[int, bytes]:
        """Count a committed batch; return the reasons of its records that were not written, by index."""
        size = len(batch.records)
        self.unacked -= size
        self._bytes -= batch.size + _OVERHEAD * size
        assert batch.began is not None
        self._outcomes.call_back(self.observed, self.clock.seconds() - batch.began, size)
        return self._outcomes.count(batch)

    def _failed(self, failure: Failure) -> None:
        """Keep the batch; repeat it when the connection is ready again, or after a delay if it still is."""
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
            loading = self.connection.call("SCRIPT", "LOAD", self._script.source)
            loading.addCallbacks(self._loaded, self._failed)
            loading.addErrback(self._on_unexpected_error)
            return
        if self._delay == _RETRY_FIRST:
            self.log.error("Redis refuses the commit: {reason}; retrying", reason=failure.getErrorMessage())
        self._retry()

    def _requeue_undurable(self) -> None:
        """Requeue batches whose durability is unknown: the connection may lead to a new primary."""
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
            # The wait itself has lasted long enough.
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
        self.log.failure("the committer failed; retrying", failure)
        self._calling = False
        self._requeue_undurable()
        if not self._scheduled:
            self._retry()
