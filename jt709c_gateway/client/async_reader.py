"""Reads streams of events for the client for asyncio."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any

import redis
import redis.asyncio

from jt709c_gateway.client.connection import AWAY, RETRY, log
from jt709c_gateway.client.messages import Event
from jt709c_gateway.client.partitions import Part
from jt709c_gateway.client.stream_position import Delivery, Gap, read_entries, trimmed_unread


class AsyncReader:
    """Reads the stream of one partition as a consumer of a group."""

    def __init__(
        self, part: Part, group: str, consumer: str, count: int, *, follow: bool, block: float
    ) -> None:
        self.part = part
        self._redis = part.connection
        self._stream = part.keys.events
        self._group = group
        self._consumer = consumer
        self._count = count
        self._follow = follow
        self._block = int(block * 1000)

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
                on_gap(Gap(missed + lost, self._stream))
            await self.acknowledge(others)
            yield deliveries

    async def _read(self, after: str) -> tuple[list[Any], int]:
        block = self._block if after == ">" and self._follow else None
        streams: Any = {self._stream: after}
        stream: Any
        groups: Any
        reply: Any
        if isinstance(self._redis, redis.asyncio.RedisCluster):
            # Its pipelines repeat a read whose reply was lost, and so would hide that from us.
            stream = await self._redis.xinfo_stream(self._stream)
            groups = await self._redis.xinfo_groups(self._stream)
            reply = await self._redis.xreadgroup(
                self._group, self._consumer, streams, count=self._count, block=block
            )
        else:
            # Sent in one go, so that next to nothing can come between the look and the read.
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xinfo_stream(self._stream)
            pipeline.xinfo_groups(self._stream)
            pipeline.xreadgroup(self._group, self._consumer, streams, count=self._count, block=block)
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


class _Pump:
    """Reads one of several streams, one batch at a time; one that is away holds up no other.

    `found` gets gaps, errors, batches, and None at the end.
    """

    def __init__(
        self,
        reader: AsyncReader,
        start: str,
        claim_after: float,
        kinds: frozenset[str],
        found: "asyncio.Queue[Any]",
    ) -> None:
        self.reader = reader
        self._start = start
        self._claim_after = claim_after
        self._kinds = kinds
        self._found = found
        self._ready = asyncio.Event()
        self._again = False
        self._stopped = False

    def go_on(self, *, again: bool = False) -> None:
        """Read the next batch, or with `again` first those that are not acknowledged."""
        self._again = again
        self._ready.set()

    def stop(self) -> None:
        """Read nothing more, also where redis-py has taken the cancellation for something else."""
        self._stopped = True
        self._ready.set()

    async def run(self) -> None:
        """Read until stopped, or without `follow` to the end."""
        try:
            while not self._stopped:
                try:
                    if await self._read():
                        self._found.put_nowait(None)
                        return
                except AWAY as error:
                    log.warning("partition %d is away, trying again: %s", self.reader.part.number, error)
                    await asyncio.sleep(RETRY)
        except Exception as error:
            self._found.put_nowait(error)

    async def _read(self) -> bool:
        """Hand over batches; return whether the stream has ended."""
        await self.reader.join(self._start)
        coming = self.reader.batches(self._claim_after, self._kinds, self._found.put_nowait)
        async with aclosing(coming) as batches:
            async for batch in batches:
                if batch and not self._stopped:
                    self._ready.clear()
                    self._found.put_nowait((self, batch))
                    await self._ready.wait()
                if self._again or self._stopped:
                    self._again = False
                    return False
        return True


async def consume_several(
    readers: Sequence[AsyncReader],
    start: str,
    claim_after: float,
    kinds: frozenset[str],
    on_gap: Callable[[Gap], None],
) -> AsyncGenerator[Event, None]:
    """Yield the events of several streams as they come; those of one stay in order."""
    found: asyncio.Queue[Any] = asyncio.Queue()
    pumps = [_Pump(one, start, claim_after, kinds, found) for one in readers]
    running = len(pumps)
    tasks = [asyncio.create_task(pump.run()) for pump in pumps]
    try:
        while running:
            item = await found.get()
            if item is None:
                running -= 1
            elif isinstance(item, Gap):
                on_gap(item)
            elif isinstance(item, Exception):
                raise item
            else:
                pump, batch = item
                try:
                    async with aclosing(pump.reader.deliver(batch)) as events:
                        async for event in events:
                            yield event
                    pump.go_on()
                except AWAY as error:
                    log.warning("partition %d is away, trying again: %s", pump.reader.part.number, error)
                    pump.go_on(again=True)
    finally:
        for pump, one in zip(pumps, tasks, strict=True):
            pump.stop()
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
