"""Commands out of the list that all gateways share into this one's own, where they are dealt with."""

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

#: Entries taken at a time: so many round trips go on side by side when Redis is far away.
MAX_TAKEN: Final = 32
#: Seconds that BLMOVE waits for a command before it is asked again, at most.
_WAIT: Final = 5.0
_PAUSE: Final = 0.1
#: Seconds until it is tried again when the server can't take anything in.
_RETRY: Final = 2.0
#: Failures after which an entry that can't be dealt with is set aside.
_ATTEMPTS: Final = 3


def _is_of_redis(error: Exception) -> bool:
    """Whether an error is the server's, or of the way there, or ours, whatever the entry is."""
    return isinstance(error, txredisapi.ConnectionError | NotOurs) or is_state_of_server(error)


class BlockingConnection(Protocol):
    """A connection of its own, for a command that waits."""

    def pipeline(self, commands: Sequence[Sequence[Any]]) -> Any:
        """Send commands in one write; a Deferred of their replies, errors as exception instances."""

    @property
    def connected(self) -> bool:
        """Whether it can be used now."""


class IntakeConsumer:
    """Takes commands in while it is `allowed` to, until it is told to stop. It outlives what goes wrong.

    `ttl` is in seconds: others adopt what we had taken when they haven't heard of us for so long. A BLMOVE
    that went on waiting then, as it may when our host has died, would move a command to where nobody looks.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, dispatcher: CommandDispatcher, keys: Keys, ttl: float, allowed: Callable[[], bool]
    ) -> None:
        self._reactor = reactor
        self._dispatcher = dispatcher
        self._allowed = allowed
        self._intake = Intake(dispatcher)
        move = (keys.commands, keys.intake(dispatcher.gateway.name), "LEFT", "RIGHT")
        self._wait = min(_WAIT, ttl / 2)
        # What is behind BLMOVE is carried out as soon as that has found something.
        self._moves = [("BLMOVE", *move, self._wait), *[("LMOVE", *move)] * (MAX_TAKEN - 1)]
        self._lists = " into ".join(move[:2])
        self._connection: BlockingConnection | None = None
        self._running: defer.Deferred[None] | None = None
        #: What may be broken off when we stop; None while commands are dealt with.
        self._resting: defer.Deferred[Any] | None = None
        self._stopping = False
        self._put_back_at = 0.0
        self._refused: Counter[bytes] = Counter()

    def begin(self, connection: BlockingConnection) -> None:
        """Take commands over this connection, which is for nothing else."""
        self._connection = connection
        self._running = defer.Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    @property
    def busy(self) -> bool:
        """Whether commands that have been taken are being dealt with."""
        return self._running is not None and not self._running.called and self._resting is None

    def wind_up(self) -> None:
        """Take no more; what has been taken is dealt with still."""
        self._stopping = True
        if self._resting is not None:
            self._resting.cancel()

    def stop(self) -> None:
        """Stop at once."""
        self.wind_up()
        if self._running is not None:
            self._running.cancel()
            self._running = None

    @staticmethod
    def _ended(failure: Failure) -> None:
        failure.trap(defer.CancelledError)  # type: ignore[no-untyped-call]

    async def _run(self) -> None:
        while not self._stopping:
            connection = self._connection
            if connection is None or not connection.connected or not self._allowed():
                await self._pause()
                continue
            try:
                await self._round(connection)
            except defer.CancelledError:
                raise
            except Exception as error:
                if not isinstance(error, txredisapi.RedisError):
                    self.log.failure("taking commands in failed")
                await self._recover(error, isinstance(error, txredisapi.ResponseError))

    async def _round(self, connection: BlockingConnection) -> None:
        """Take what is there, up to MAX_TAKEN, and deal with it."""
        # Now and then all the same: a BLMOVE whose connection has died may have moved one yet.
        if self._reactor.seconds() >= self._put_back_at:
            await self._dispatcher.store.put_back()
            self._put_back_at = self._reactor.seconds() + self._wait
            if self._stopping:
                return
        replies = await self._rest(connection.pipeline(self._moves))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        failures = await self._intake.take([entry for entry in replies if entry is not None])
        self._refused = Counter({entry: self._refused[entry] for entry, _ in failures})
        for failed in failures:
            await self._not_taken(failed)
        if failures:
            errors = [failed.error for failed in failures]
            error = next(filter(is_state_of_server, errors), errors[0])
            await self._recover(error, is_state_of_server(error))

    async def _recover(self, error: Exception, of_all: bool) -> None:
        """What was taken is in our own list still, unless it had been dealt with: it goes back soon.

        Where Redis gives out nothing, or takes nothing in, the error is `of_all`, and no entry's own.
        """
        self._put_back_at = 0.0
        if of_all:
            # The entries stay where they are until the server can.
            self._dispatcher.gateway.counters.intake_errors += 1
            self._dispatcher.refusals.report(f"to give out commands from {self._lists}", error)
            await self._pause(_RETRY)
        else:
            await self._pause()

    async def _not_taken(self, failed: Failed) -> None:
        """An entry that fails again and again must not keep the others from being taken."""
        entry, error = failed
        if _is_of_redis(error):
            return
        if isinstance(error, txredisapi.ResponseError):
            # A key of another type, say, which somebody may mend.
            self._dispatcher.refusals.report("to take a command in", error)
        else:
            self.log.failure("a command could not be taken in", Failure(error))  # type: ignore[no-untyped-call]
        self._refused[entry] += 1
        if self._refused[entry] < _ATTEMPTS:
            return
        try:
            await self._intake.set_aside(entry, f"could not be taken in: {type(error).__name__}")
        except txredisapi.RedisError as again:
            self._dispatcher.refusals.report("to set a command aside that can't be taken in", again)
        else:
            del self._refused[entry]

    async def _rest(self, resting: "defer.Deferred[Any]") -> Any:
        """Wait for what may be broken off when we stop."""
        self._resting = resting
        try:
            return await resting
        finally:
            self._resting = None

    async def _pause(self, seconds: float = _PAUSE) -> None:
        await self._rest(task.deferLater(self._reactor, seconds, lambda: None))
