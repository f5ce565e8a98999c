"""The client for asyncio, on redis-py."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, Final, Self

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from jt709c_gateway.client.async_reader import AsyncReader, consume_several
from jt709c_gateway.client.connection import (
    AWAY,
    BLOCK,
    BLOCK_SEVERAL,
    CLAIM_AFTER,
    CONNECTION,
    RETRY,
    cluster_options,
    consumer_name,
    log,
    log_gap,
    several,
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
from jt709c_gateway.client.partitions import Part, Parts
from jt709c_gateway.client.stream_position import Gap
from jt709c_gateway.commands.signing import SigningKey
from jt709c_gateway.redis.keys import DEFAULT_PREFIX


async def _find(parts: Parts) -> list[Part]:
    """Return the partitions; the first time, ask how many there are."""
    if not parts.known:
        found = None
        if parts.marker is not None:
            try:
                found = await parts.connections[0].get(parts.marker)
            except redis.exceptions.NoPermissionError:
                # A user for a single partition.
                found = None
            except AWAY:
                if parts.count is None:
                    raise
        parts.name_all(found)
    return parts.known


class AsyncCommands:
    """Gives commands and waits for their outcomes."""

    def __init__(self, parts: Parts, key: SigningKey | None) -> None:
        self._parts = parts
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
        batch: str | None = None,
        conditions: Mapping[str, Any] | None = None,
    ) -> SentCommand:
        """Push a command. Give the same `command_id` again after an error: it is never carried out twice.

        `conditions` are `only_within` and the others of docs/commands.rst; ValueError for a wrong one.
        """
        sent, fields = new_command(
            *(device, command, params),
            command_id=command_id,
            ttl=ttl,
            timeout=timeout,
            issued_by=issued_by,
            batch=batch,
            conditions=conditions,
        )
        await _find(self._parts)
        part = self._parts.of(device)
        await part.connection.rpush(part.keys.commands, encode_command(fields, self._key, time.time()))
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
                record = await self._record(sent.id, sent.device)
                outcome = outcome_from_record(record)
                if outcome is not None:
                    return outcome
                if left <= 0:
                    raise OutcomePending(sent.id, record.get("state"))
                part = self._parts.of_reply(sent.id)
                reply = await part.connection.blpop(
                    [part.keys.reply(sent.id)], timeout=max(0.1, min(left, BLOCK))
                )
                outcome = None if reply is None else outcome_from_reply(reply[1])
                if outcome is not None:
                    return outcome
            except AWAY:
                if left <= 0:
                    raise
                await asyncio.sleep(RETRY)

    async def outcome(self, command_id: str, device: str | None = None) -> Outcome | None:
        """The outcome of a command as it is known now; None while it has not ended.

        Of several partitions, that of `device` is asked first, if it is given.
        """
        return outcome_from_record(await self._record(command_id, device))

    async def _record(self, command_id: str, device: str | None) -> Mapping[str, str]:
        """Return the record of a command, empty if there is none, from the first partition that has one.

        One that has ended is preferred: a command for an IMEI moves to the partition of its lock.
        """
        found: Mapping[str, str] = {}
        away: Exception | None = None
        await _find(self._parts)
        for part in self._parts.with_command(device):
            try:
                record: Mapping[str, str] = await part.connection.hgetall(part.keys.command(command_id))
            except AWAY as error:
                away = error
                continue
            if outcome_from_record(record) is not None:
                return record
            found = found or record
        if away is not None and not found:
            raise away
        return found


class AsyncEvents:
    """Follows the streams of events."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

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
        partitions: Collection[int] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Yield each event at least once; Redis may go away meanwhile.

        An event is acknowledged after the loop has come back for the next one. One whose processing raised,
        or left the loop, comes again when this consumer starts again, and at the latest after `claim_after`
        seconds at another. `start` is where a new group begins: 0, the oldest event, or $, the next.
        It goes on forever, or, without `follow`, until there is nothing new.

        Of several partitions all streams are read at once, or those of the `partitions` with these numbers.
        The events of one lock stay in order.
        """
        name, wanted = consumer or consumer_name(), frozenset(kinds)
        while True:
            try:
                await _find(self._parts)
                chosen = self._parts.chosen(partitions)
                if len(chosen) > 1:
                    readers = [
                        AsyncReader(one, group, name, count, follow=follow, block=BLOCK_SEVERAL)
                        for one in chosen
                    ]
                    arriving = consume_several(readers, start, claim_after, wanted, on_gap)
                    async with aclosing(arriving) as events:
                        async for event in events:
                            yield event
                    return
                reader = AsyncReader(chosen[0], group, name, count, follow=follow, block=BLOCK)
                await reader.join(start)
                async with aclosing(reader.batches(claim_after, wanted, on_gap)) as batches:
                    async for batch in batches:
                        async with aclosing(reader.deliver(batch)) as events:
                            async for event in events:
                                yield event
                return
            except AWAY as error:
                log.warning("Redis is away, trying again: %s", error)
                await asyncio.sleep(RETRY)


_NO_RETRIES: Final[Mapping[str, Any]] = {"retry": Retry(NoBackoff(), 0)}


def _connection(url: str, options: Mapping[str, Any]) -> Any:
    """Make the connection for one URL."""
    given = {**CONNECTION, **_NO_RETRIES, **options}
    cluster = cluster_options(url)
    if cluster is None:
        return redis.asyncio.Redis.from_url(url, **given)
    nodes = [ClusterNode(host, port) for host, port in cluster.pop("nodes")]
    return redis.asyncio.RedisCluster(startup_nodes=nodes, **{**cluster, **given})


class AsyncClient:
    """Commands and events of the gateways behind a Redis.

    `url` is that of a server, `redis+cluster://…` with some nodes of a Redis Cluster, or several servers with
    blanks between them. How many partitions there are is found out unless `partitions` says it; it is needed
    where partition 0 may be away at the start.

    `key` signs every command. `options` go to redis-py, such as `ssl_ca_certs`; a connection of your own,
    made with `decode_responses=True` and without retries, takes the place of the URL: a Redis, a
    RedisCluster, or a list with one for each server.
    """

    def __init__(
        self,
        url: str = "redis://127.0.0.1:6379",
        *,
        prefix: str = DEFAULT_PREFIX,
        partitions: int | None = None,
        key: SigningKey | None = None,
        connection: Any = None,
        **options: Any,
    ) -> None:
        self._connections: list[Any] = (
            [_connection(one, options) for one in url.split()]
            if connection is None
            else list(several(connection))
        )
        is_cluster = isinstance(self._connections[0], redis.asyncio.RedisCluster)
        parts = Parts(prefix, self._connections, is_cluster, partitions)
        self.commands = AsyncCommands(parts, key)
        self.events = AsyncEvents(parts)

    async def close(self) -> None:
        """Close the connections."""
        for one in self._connections:
            await one.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
