"""Pushes the commands of batches one after another, at a bounded rate."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import txredisapi
from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.commands.model import Command
from jt709c_gateway.redis import batches
from jt709c_gateway.web.http import ApiError
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition

#: Commands a second, of all batches that one web service gives.
RATE: Final = 20
#: Batches that may wait or be given at the same time.
MAX_BATCHES: Final = 10
#: Seconds between renewals of a lease, between tries while Redis is away, and after which it gives up.
_RENEW_EVERY: Final = 5.0
_RETRY: Final = 1.0
_PATIENCE: Final = 60.0


@frozen(eq=False)
class _Push:
    partition: WebPartition
    command: Command


@define(eq=False)
class _Batch:
    id: str
    left: deque[_Push]
    renewed_at: float = float("-inf")
    #: When Redis took the last command, or the batch was begun.
    moved_at: float = 0.0


@define(eq=False)
class BatchGiver(Service):
    """Pushes commands in the background; what is not pushed when it stops, or dies, has no record in Redis.

    `wire(command)` serializes a command. A push whose reply is lost is repeated: its id is the same.
    """

    log = Logger()

    reactor: Any
    web: PartitionedWebRedis
    gateway: str
    wire: Callable[[Command], bytes] = field(init=False)
    _batches: dict[str, _Batch] = field(factory=dict, init=False)
    _running: "defer.Deferred[None] | None" = field(default=None, init=False)

    @property
    def is_full(self) -> bool:
        """Whether no other batch can be taken."""
        return len(self._batches) >= MAX_BATCHES

    def has(self, batch_id: str) -> bool:
        """Return whether it gives this batch, or will."""
        return batch_id in self._batches

    def give(self, batch_id: str, commands: list[tuple[WebPartition, Command]]) -> None:
        """Begin to push the commands of a batch."""
        left = deque(_Push(partition, command) for partition, command in commands)
        self._batches[batch_id] = _Batch(batch_id, left)
        if self._running is None:
            self._running = defer.Deferred.fromCoroutine(self._run())
            self._running.addErrback(self._failed)

    async def hold(self, batch_id: str) -> None:
        """Renew the lease of a batch."""
        partition = self._partition(batch_id)
        await batches.renew_lease(partition.redis, partition.keys, batch_id, self.gateway)

    def stopService(self) -> "defer.Deferred[Any]":
        """Stop pushing, and end the leases, so that everybody sees that it has stopped."""
        super().stopService()  # type: ignore[no-untyped-call]
        given, self._batches = list(self._batches), {}
        if self._running is not None:
            self._running.cancel()
        return defer.gatherResults(
            [defer.Deferred.fromCoroutine(self._end(one)) for one in given], consumeErrors=True
        )

    def _partition(self, batch_id: str) -> WebPartition:
        return self.web.partitions[self.web.layout.number(batch_id)]

    async def _run(self) -> None:
        try:
            while self._batches:
                batch = next(iter(self._batches.values()))
                batch.moved_at = self.reactor.seconds()
                await self._give(batch)
                if self._batches.pop(batch.id, None) is not None:
                    await self._end(batch.id)
        finally:
            self._running = None

    async def _give(self, batch: _Batch) -> None:
        while batch.left:
            now = self.reactor.seconds()
            await self._renew(now)
            pushed = await self._push(batch.left[0])
            if pushed:
                batch.left.popleft()
                batch.moved_at = now
            else:
                # Another partition may be there.
                batch.left.rotate(-1)
                if now - batch.moved_at > _PATIENCE:
                    self.log.error(
                        "batch {id}: Redis is away; {left} commands were not given",
                        id=batch.id,
                        left=len(batch.left),
                    )
                    return
            await task.deferLater(self.reactor, 1 / RATE if pushed else _RETRY, lambda: None)

    async def _renew(self, now: float) -> None:
        """Renew the leases that are due, also of batches whose turn has not come."""
        for one in [one for one in self._batches.values() if now - one.renewed_at >= _RENEW_EVERY]:
            one.renewed_at = now
            try:
                await self.hold(one.id)
            except txredisapi.RedisError:
                one.renewed_at = float("-inf")

    async def _push(self, one: _Push) -> bool:
        """Push a command; False when it is to be tried again."""
        try:
            wire = self.wire(one.command)
            await one.partition.redis.call("RPUSH", one.partition.keys.commands, wire)
        except ApiError as error:
            self.log.error("command {id} can't be given: {reason}", id=one.command.id, reason=error.message)
        except txredisapi.RedisError:
            return False
        return True

    async def _end(self, batch_id: str) -> None:
        partition = self._partition(batch_id)
        try:
            await batches.end_lease(partition.redis, partition.keys, batch_id)
        except txredisapi.RedisError:
            # It expires by itself.
            return

    def _failed(self, failure: Any) -> None:
        if not failure.check(defer.CancelledError):
            self.log.failure("giving batches failed", failure)
            self._batches.clear()
