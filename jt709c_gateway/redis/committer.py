"""Group commit: everything that frames and orders cause, written to Redis by one script call at a time.

While a call is under way, what arrives gathers for the next. So latency stays low when it is quiet, and the
cost per frame falls when it is busy. A lock's answer is handed to it only after the call that holds its
report has succeeded (DESIGN.md §1, promise 1).
"""

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from importlib.resources import files
from struct import Struct
from typing import Any, Final, Protocol

import txredisapi
from attrs import define, field, frozen
from msgspec.msgpack import Encoder
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.clock import Clock

from .keys import Keys
from .refusals import REPORT_EVERY, explain

#: The server spends about 5 µs on an event, so a batch of this size keeps it from others for a millisecond.
MAX_BATCH: Final = 200
#: More than that only to keep together what one link has sent.
_LARGEST_BATCH: Final = 264
#: The same in bytes: a few records are large, such as a lock's whole memory in one message.
MAX_BATCH_BYTES: Final = 1 << 20
_RETRY_FIRST: Final = 0.1
_RETRY_LONGEST: Final = 5.0

SCRIPT: Final = files(__package__).joinpath("commit.lua").read_bytes()
SCRIPT_HASH: Final = sha1(SCRIPT, usedforsecurity=False).hexdigest()

_encode = Encoder().encode
#: How a MessagePack array of up to 65,535 items begins.
_ARRAY: Final = Struct(">BH")
_ARRAY_16: Final = 0xDC
#: What a waiting record takes beside its bytes.
_OVERHEAD: Final = 256


class Recipient(Protocol):
    """Whoever gets the answers of frames that have been committed."""

    def committed(self, answers: list[bytes]) -> None:
        """Write these; called once per batch. One for each record, in order, empty for one that gets none."""


class Connection(Protocol):
    """What is needed of the connection to Redis."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; a Deferred of its reply."""

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

    def packed(self) -> bytes:
        """As the script takes them."""
        return _encode(
            (self.events, self.history, self.malformed, self.devices, self.recent, self.max_age_ms)
        )


#: The fields of one record: see the head of `commit.lua`.
Content = tuple[Any, ...]
#: What a recipient gets; a callable makes it when the record has been written.
Answer = bytes | Callable[[], bytes | None] | None
#: Called once with whether the record was written.
Then = Callable[[bool], None]
#: A record that waits, packed at once, so that a frame in flight is a few bytes and not dozens of objects for
#: the garbage collector to look at. Empty when its content could not be put into bytes.
_Waiting = tuple[bytes, Recipient | None, Answer, Then | None]


@define
class Statistics:
    """What the committer has done, for metrics."""

    batches: int = 0
    records: int = 0
    duplicates: int = 0
    failed_records: int = 0
    retries: int = 0


@define(eq=False)
class Committer:
    """Gathers records and has them applied in order, each exactly once.

    A call whose fate is unknown (the connection died under it) is repeated with the same number, by which
    the script knows that it has been applied. At most `max_unacked` records, of `max_bytes` in all, should be
    waiting: then `full` is true, and it is for the callers to stop reading; `drained` is called when half of
    them are done. Without Redis nothing is lost: what waits here is committed when it is back.
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
    drained: Callable[[], None] = lambda: None
    #: Called per batch with its seconds and its number of records.
    observed: Callable[[float, int], None] = lambda seconds, size: None
    statistics: Statistics = field(factory=Statistics)
    #: Records that are not committed yet.
    unacked: int = field(default=0, init=False)
    #: Whether frames should not be taken any more for now.
    full: bool = field(default=False, init=False)
    _waiting: deque[_Waiting] = field(factory=deque, repr=False)
    _batch: list[_Waiting] = field(factory=list, repr=False)
    #: The batch in bytes, kept for when it has to be repeated.
    _packed: bytes = field(default=b"", repr=False)
    _batch_bytes: int = 0
    _bytes: int = 0
    _number: int = 0
    _calling: bool = False
    _scheduled: bool = False
    _delay: float = _RETRY_FIRST
    _unreported: int = 0
    _report_at: float = 0.0
    #: What each call begins with, and the limits, as the script takes them.
    _call: tuple[str | int, ...] = field(init=False, repr=False)
    _limits: bytes = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        marker = self.keys.commit_marker(self.gateway, self.boot)
        self._call = ("EVALSHA", SCRIPT_HASH, 1, self.keys.events, self.keys.prefix, marker)
        self._limits = self.limits.packed()

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
        if self.unacked and not self._scheduled and not self._calling:
            self._scheduled = True
            self.clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._calling or not self.connection.connected:
            return
        if not self._batch:
            if not self._waiting:
                return
            self._gather()
        self._calling = True
        started = self.clock.seconds()
        call = self.connection.call(*self._call, self._number, self._limits, self._packed)
        call.addCallbacks(self._applied, self._failed, callbackArgs=(started,))
        call.addErrback(self._broken)

    def _gather(self) -> None:
        """Make the next batch of what waits."""
        waiting, take = self._waiting, self._waiting.popleft
        batch = [take() for _ in range(min(MAX_BATCH, len(waiting)))]
        # A link's frames stay together, and so do its answers and the frames that it sends upon them.
        while waiting and waiting[0][1] is batch[-1][1] and len(batch) < _LARGEST_BATCH:
            batch.append(take())
        size = sum([len(record[0]) for record in batch])
        while size > MAX_BATCH_BYTES and len(batch) > 1:
            waiting.appendleft(batch.pop())
            size -= len(waiting[0][0])
        self._batch, self._batch_bytes = batch, size
        contents = [record[0] for record in batch]
        if not all(contents):
            for record in batch:
                if not record[0]:
                    self._refused(record)
            self._batch = [record for record in batch if record[0]]
            contents = list(filter(None, contents))
        self._number += 1
        self._packed = _ARRAY.pack(_ARRAY_16, len(contents)) + b"".join(contents)

    def _refused(self, record: _Waiting) -> None:
        """A record that can't be put into bytes counts as not written."""
        self.unacked -= 1
        self._bytes -= _OVERHEAD
        self.statistics.failed_records += 1
        _, recipient, _, then = record
        if then is not None:
            self._carry_out(then, False)
        if recipient is not None:
            self._carry_out(recipient.committed, [b""])

    def _applied(self, reply: int | list[Any], started: float) -> None:
        batch, self._batch = self._batch, []
        self.unacked -= len(batch)
        self._bytes -= self._batch_bytes + _OVERHEAD * len(batch)
        self._calling = False
        self._delay = _RETRY_FIRST
        duplicates, *failures = reply if isinstance(reply, list) else [reply]
        self.statistics.batches += 1
        self.statistics.records += len(batch)
        self.statistics.duplicates += max(duplicates, 0)
        self._carry_out(self.observed, self.clock.seconds() - started, len(batch))
        failed = self._report(failures) if failures else frozenset[int]()
        if self._waiting:
            # The next call is on its way before the answers of this one are written.
            self._flush()
        self._answer(batch, failed)
        if self.full and self.unacked <= self.max_unacked // 2 and self._bytes <= self.max_bytes // 2:
            self.full = False
            self._carry_out(self.drained)

    def _answer(self, batch: list[_Waiting], failed: frozenset[int]) -> None:
        answers: defaultdict[Recipient, list[bytes]] = defaultdict(list)
        for index, (_, recipient, answer, then) in enumerate(batch):
            written = index not in failed
            if recipient is not None:
                if not written:
                    answer = None
                elif callable(answer):
                    answer = self._carry_out(answer)
                answers[recipient].append(answer or b"")
            if then is not None:
                self._carry_out(then, written)
        for recipient, waiting in answers.items():
            self._carry_out(recipient.committed, waiting)

    def _carry_out(self, callback: Callable[..., Any], *arguments: Any) -> Any:
        """Call what belongs to others: its failure is its own."""
        try:
            return callback(*arguments)
        except Exception:
            self.log.failure("what follows a commit failed")
            return None

    def _report(self, failures: Sequence[Any]) -> frozenset[int]:
        indices = frozenset(failures[::2])
        self.statistics.failed_records += len(indices)
        reason = failures[1]
        if isinstance(reason, bytes):
            reason = explain(reason.decode("utf-8", "replace"))
        self._unreported += len(indices)
        now = self.clock.seconds()
        if now >= self._report_at:
            # A user without a permission, say, would otherwise fill the log with one line per batch.
            self._report_at = now + REPORT_EVERY
            self.log.error(
                "{count} records could not be written to Redis and stay unanswered: {reason}",
                count=self._unreported,
                reason=reason,
            )
            self._unreported = 0
        return indices

    def _failed(self, failure: Failure) -> None:
        """Keep the batch: it is repeated when the connection is ready, or after a while when it still is."""
        self._calling = False
        self.statistics.retries += 1
        if not isinstance(failure.value, txredisapi.ResponseError):
            return
        if "NOSCRIPT" in failure.getErrorMessage():
            self._calling = True
            loading = self.connection.call("SCRIPT", "LOAD", SCRIPT)
            loading.addCallbacks(self._loaded, self._failed)
            loading.addErrback(self._broken)
            return
        if self._delay == _RETRY_FIRST:
            self.log.error("Redis takes no events: {reason}; trying again", reason=failure.getErrorMessage())
        self._retry()

    def _loaded(self, _: object) -> None:
        self._calling = False
        self._flush()

    def _retry(self) -> None:
        self._scheduled = True
        self.clock.callLater(self._delay, self._flush)
        self._delay = min(self._delay * 2, _RETRY_LONGEST)

    def _broken(self, failure: Failure) -> None:
        self.log.failure("the committer failed; trying again", failure)
        self._calling = False
        if not self._scheduled:
            self._retry()
