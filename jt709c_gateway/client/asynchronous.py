"""The client for asyncio, on redis-py."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final, Self

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from jt709c_gateway.client.blocking import (
    AWAY,
    BLOCK,
    CLAIM_AFTER,
    CONNECTION,
    RETRY,
    consumer_name,
    log_gap,
)
from jt709c_gateway.client.messages import (
    TIMEOUT,
    TTL,
    Event,
    Outcome,
    OutcomePending,
    SentCommand,
    encode_command,
    new_command,
    outcome_from_record,
    outcome_from_reply,
)
from jt709c_gateway.client.stream_position import Delivery, Gap, read_entries, trimmed_unread
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.redis.keys import DEFAULT_PREFIX, Keys

_log: Final = logging.getLogger(__name__)


class AsyncCommands:
    """Gives commands and waits for their outcomes."""

    def __init__(self, connection: Any, keys: Keys, key: SigningKey | None) -> None:
        self._redis = connection
        self._keys = keys
        self._key = key

    async def send(
        self,
        device: str,
        command: str,
        params: Mapping[str, Any] | None = None,
        *,
        command_id: str | None = None,
        ttl: float = TTL,
        timeout: float = TIMEOUT,
        issued_by: str | None = None,
    ) -> SentCommand:
        """Push a command. Give the same `command_id` again after an error: it is never carried out twice."""
        sent, fields = new_command(
            *(device, command, params),
            command_id=command_id,
            ttl=ttl,
            timeout=timeout,
            issued_by=issued_by,
        )
        await self._redis.rpush(self._keys.commands, encode_command(fields, self._key, time.time()))
        return sent

    async def wait(self, command: SentCommand | str, timeout: float | None = None) -> Outcome:
        """Wait for the outcome of a command, or of a command's id; raise OutcomePending after `timeout`.

        By default it waits as long as the command can take. Errors of the connection are retried until then.
        """
        sent = SentCommand(command, "", "") if isinstance(command, str) else command
        deadline = time.monotonic() + (sent.patience if timeout is None else timeout)
        while True:
            left = deadline - time.monotonic()
            try:
                outcome = await self.outcome(sent.id)
                if outcome is not None:
                    return outcome
                if left <= 0:
                    raise OutcomePending(
                        sent.id, await self._redis.hget(self._keys.command(sent.id), "state")
                    )
                reply = await self._redis.blpop(
                    [self._keys.reply(sent.id)], timeout=max(0.1, min(left, BLOCK))
                )
                outcome = None if reply is None else outcome_from_reply(reply[1])
                if outcome is not None:
                    return outcome
            except AWAY:
                if left <= 0:
                    raise
                await asyncio.sleep(RETRY)

    async def outcome(self, command_id: str) -> Outcome | None:
        """The outcome of a command as it is known now; None while it has not ended."""
        return outcome_from_record(await self._redis.hgetall(self._keys.command(command_id)))


class AsyncEvents:
    """Follows the stream of events."""

    def __init__(self, connection: Any, keys: Keys) -> None:
        self._redis = connection
        self._stream = keys.events

    async def consume(
        self,
        group: str,
        consumer: str | None = None,
        *,
        kinds: tuple[str, ...] = (),
        on_gap: Callable[[Gap], None] = log_gap,
        count: int = 100,
        claim_after: float = CLAIM_AFTER,
        start: str = "0",
        follow: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """Yield each event at least once; Redis may go away meanwhile.

        An event is acknowledged after the loop has come back for the next one. One whose processing raised,
        or left the loop, comes again when this consumer starts again, and at the latest after `claim_after`
        seconds at another. `start` is where a new group begins: 0, the oldest event, or $, the next.
        It goes on forever, or, without `follow`, until there is nothing new.
        """
        reader = _Reader(self._redis, self._stream, group, consumer or consumer_name(), count, follow)
        wanted = frozenset(kinds)
        while True:
            try:
                await reader.join(start)
                async with aclosing(reader.batches(claim_after, wanted, on_gap)) as batches:
                    async for batch in batches:
                        async with aclosing(reader.deliver(batch)) as events:
                            async for event in events:
                                yield event
                return
            except AWAY as error:
                _log.warning("Redis is away, trying again: %s", error)
                await asyncio.sleep(RETRY)


class _Reader:
    def __init__(
        self, connection: Any, stream: str, group: str, consumer: str, count: int, follow: bool
    ) -> None:
        self._redis = connection
        self._stream = stream
        self._group = group
        self._consumer = consumer
        self._count = count
        self._follow = follow

    async def join(self, start: str) -> None:
        """Make the group, unless it is there."""
        try:
            await self._redis.xgroup_create(self._stream, self._group, id=start, mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def batches(
        self, claim_after: float, kinds: frozenset[str], on_gap: Callable[[Gap], None]
    ) -> AsyncGenerator[list[Delivery], None]:
        """Yield unacknowledged events of this consumer, then new ones and those that other consumers left."""
        after, claimed = "0", time.monotonic()
        while True:
            if after == ">" and time.monotonic() - claimed > claim_after / 2:
                entries, missed = await self._claim(claim_after), 0
                claimed = time.monotonic() if not entries else claimed
            else:
                entries, missed = await self._read(after)
                if after == ">" and not entries and not self._follow:
                    return
                after = entries[-1][0] if after != ">" and entries else ">"
            deliveries, others, lost = read_entries(entries, kinds)
            if missed + lost:
                on_gap(Gap(missed + lost))
            await self.acknowledge(others)
            yield deliveries

    async def _read(self, after: str) -> tuple[list[Any], int]:
        # Sent in one go, so that next to nothing can come between the look and the read.
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xinfo_stream(self._stream)
        pipeline.xinfo_groups(self._stream)
        block = int(BLOCK * 1000) if after == ">" and self._follow else None
        pipeline.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=self._count, block=block
        )
        stream, groups, reply = await pipeline.execute()
        missed = trimmed_unread(stream, groups, self._group) if after == ">" else 0
        return (reply[0][1] if reply else []), missed

    async def _claim(self, claim_after: float) -> list[Any]:
        """Entries of consumers that have not acknowledged them for so long."""
        reply = await self._redis.xautoclaim(
            *(self._stream, self._group, self._consumer, int(claim_after * 1000)), count=self._count
        )
        return [*reply[1], *((entry, None) for entry in (reply[2] if len(reply) > 2 else ()))]

    async def deliver(self, batch: list[Delivery]) -> AsyncGenerator[Event, None]:
        """Yield the events, and acknowledge those that were processed, also when the loop ends early."""
        done: list[str] = []
        try:
            for one in batch:
                yield one.event
                done.append(one.entry)
        except GeneratorExit:
            with suppress(*AWAY):
                await self.acknowledge(done)
            raise
        await self.acknowledge(done)

    async def acknowledge(self, entries: list[str]) -> None:
        """Acknowledge entries."""
        if entries:
            await self._redis.xack(self._stream, self._group, *entries)


class AsyncClient:
    """Commands and events of the gateways behind a Redis.

    `key` signs every command. `options` go to redis-py, such as `ssl_ca_certs`; a connection of your own,
    made with `decode_responses=True` and without retries, takes the place of the URL.
    """

    def __init__(
        self,
        url: str = "redis://127.0.0.1:6379",
        *,
        prefix: str = DEFAULT_PREFIX,
        key: SigningKey | None = None,
        connection: Any = None,
        **options: Any,
    ) -> None:
        keys = Keys(prefix)
        self._redis: Any = connection or redis.asyncio.Redis.from_url(
            url, **{**CONNECTION, "retry": Retry(NoBackoff(), 0), **options}
        )
        self.commands = AsyncCommands(self._redis, keys, key)
        self.events = AsyncEvents(self._redis, keys)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
