"""Moves commands from the shared list to this gateway's own list, and has them processed there."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import txredisapi
from twisted.internet import defer, task
from twisted.logger import Logger
from twisted.python.failure import Failure

from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.intake import Failed, Intake
from jt709c_gateway.redis.command_store_types import NotOurs
from jt709c_gateway.redis.errors import is_state_of_server
from jt709c_gateway.redis.keys import Keys

#: Entries moved at a time: they are processed concurrently, which hides the latency of a distant Redis.
MAX_TAKEN: Final = 32
#: Longest wait of one BLMOVE, in seconds.
_WAIT: Final = 5.0
_PAUSE: Final = 0.1
#: Seconds before the next attempt when the server can't store anything.
_RETRY: Final = 2.0
#: Failures after which an entry is quarantined.
_ATTEMPTS: Final = 3
#: Seconds for which entries that Redis refuses are tried again: a key of another type may soon be repaired.
#: Where one batch after the other has refused entries, it counts once, so that they do not keep the others.
_PATIENCE: Final = 5.0


def _is_redis_failure(error: Exception) -> bool:
    """Whether an error concerns Redis, the connection or this gateway, and not the entry."""
    return isinstance(error, txredisapi.ConnectionError | NotOurs) or is_state_of_server(error)


def _is_refused(failed: Failed) -> bool:
    """Whether Redis refuses this one entry, for example since a key of its device is of another type."""
    return isinstance(failed.error, txredisapi.ResponseError) and not _is_redis_failure(failed.error)


class BlockingConnection(Protocol):
    """A connection of its own for blocking Redis commands."""

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> Any:
        """Send Redis commands in one write; a Deferred of their replies, errors as exception instances."""

    @property
    def connected(self) -> bool:
        """Whether the connection can be used now."""


class IntakeConsumer:
    """Consumes the intake list while `allowed`, until it is stopped; errors are logged and do not end it.

    After `ttl` seconds without a heartbeat other gateways adopt our list. BLMOVE waits for less than that:
    on a dead host's connection, a longer one could still move a command to the abandoned list.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, dispatcher: CommandDispatcher, keys: Keys, ttl: float, allowed: Callable[[], bool]
    ) -> None:
        self._reactor = reactor
        self._context = dispatcher.context
        self._allowed = allowed
        self._intake = Intake(dispatcher)
        move = (keys.commands, keys.intake(dispatcher.context.gateway.name), "LEFT", "RIGHT")
        self._wait = min(_WAIT, ttl / 2)
        # Redis executes the LMOVEs as soon as BLMOVE has found an entry.
        self._moves = [("BLMOVE", *move, self._wait), *[("LMOVE", *move)] * (MAX_TAKEN - 1)]
        self._lists = " into ".join(move[:2])
        self._connection: BlockingConnection | None = None
        self._running: defer.Deferred[None] | None = None
        #: The wait that `stop` may cancel; None while entries are processed.
        self._interruptible_wait: defer.Deferred[Any] | None = None
        self._stopping = False
        self._put_back_at = 0.0
        self._failures: Counter[bytes] = Counter()
        #: Since when Redis refuses an entry of each batch, on the reactor's clock; None when it does not.
        self._failing_since: float | None = None

    def start(self, connection: BlockingConnection) -> None:
        """Consume over this connection, which must not be used otherwise."""
        self._connection = connection
        self._running = defer.Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._on_cancelled)

    @property
    def busy(self) -> bool:
        """Whether entries are being processed."""
        return self._running is not None and not self._running.called and self._interruptible_wait is None

    def stop_consuming(self) -> None:
        """Start no more batches; the current one is completed."""
        self._stopping = True
        if self._interruptible_wait is not None:
            self._interruptible_wait.cancel()

    def stop(self) -> None:
        """Stop at once, also within a batch."""
        self.stop_consuming()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    @staticmethod
    def _on_cancelled(failure: Failure) -> None:
        failure.trap(defer.CancelledError)  # type: ignore[no-untyped-call]

    async def _run(self) -> None:
        while not self._stopping:
            connection = self._connection
            if connection is None or not connection.connected or not self._allowed():
                await self._pause()
                continue
            try:
                await self._consume_batch(connection)
            except defer.CancelledError:
                raise
            except Exception as error:
                if not isinstance(error, txredisapi.RedisError):
                    self.log.failure("intake of commands failed")
                await self._recover(error, isinstance(error, txredisapi.ResponseError))

    async def _consume_batch(self, connection: BlockingConnection) -> None:
        """Move up to MAX_TAKEN entries and process them."""
        # Regularly, since a BLMOVE may move an entry after its connection has died.
        if self._reactor.seconds() >= self._put_back_at:
            await self._context.store.put_back()
            self._put_back_at = self._reactor.seconds() + self._wait
            if self._stopping:
                return
        replies = await self._interruptible(connection.pipeline(self._moves))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        failures = await self._intake.process([entry for entry in replies if entry is not None])
        self._failures = Counter({entry: self._failures[entry] for entry, _ in failures})
        if not any(map(_is_refused, failures)):
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = self._reactor.seconds()
        for failed in failures:
            await self._on_entry_failed(failed)
        if failures:
            errors = [failed.error for failed in failures]
            error = next(filter(is_state_of_server, errors), errors[0])
            await self._recover(error, is_state_of_server(error))

    async def _recover(self, error: Exception, of_all: bool) -> None:
        """Have unprocessed entries put back soon, and wait before the next batch.

        `of_all` says that Redis can't move or store any entry: the error does not concern a single one.
        """
        self._put_back_at = 0.0
        if of_all:
            # The entries stay in their list until the server can store again.
            self._context.gateway.counters.intake_errors += 1
            self._context.refusals.report(f"to give out commands from {self._lists}", error)
            await self._pause(_RETRY)
        else:
            await self._pause()

    async def _on_entry_failed(self, failed: Failed) -> None:
        """Count an entry's failures, and quarantine it when it has had its attempts and its time."""
        entry, error = failed
        if _is_redis_failure(error):
            return
        if isinstance(error, txredisapi.ResponseError):
            # For example a key of another type, which an operator may repair.
            self._context.refusals.report("to take a command in", error)
        else:
            self.log.failure("intake of a command failed", Failure(error))  # type: ignore[no-untyped-call]
        if not self._is_hopeless(failed):
            return
        try:
            await self._intake.quarantine(entry, f"could not be taken in: {type(error).__name__}")
        except txredisapi.RedisError as again:
            self._context.refusals.report("to quarantine a command", again)
        else:
            del self._failures[entry]

    def _is_hopeless(self, failed: Failed) -> bool:
        """Count one more failure of an entry; whether it is to be tried no longer."""
        self._failures[failed.entry] += 1
        since = self._failing_since
        patient = _is_refused(failed) and since is not None and self._reactor.seconds() - since < _PATIENCE
        return self._failures[failed.entry] >= _ATTEMPTS and not patient

    async def _interruptible(self, waiting: "defer.Deferred[Any]") -> Any:
        """Wait for a Deferred that `stop` may cancel."""
        self._interruptible_wait = waiting
        try:
            return await waiting
        finally:
            self._interruptible_wait = None

    async def _pause(self, seconds: float = _PAUSE) -> None:
        await self._interruptible(task.deferLater(self._reactor, seconds, lambda: None))
