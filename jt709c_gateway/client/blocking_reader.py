"""Reads streams of events for the blocking client."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import redis

from jt709c_gateway.client.connection import AWAY, BLOCK_SEVERAL, RETRY, log
from jt709c_gateway.client.messages import Event
from jt709c_gateway.client.partitions import Part
from jt709c_gateway.client.stream_position import Delivery, Gap, read_entries, trimmed_unread


class Reader:
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

    def join(self, start: str) -> None:
        """Make the group, unless it is there."""
        try:
            self._redis.xgroup_create(self._stream, self._group, id=start, mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def batches(
        self, claim_after: float, kinds: frozenset[str], on_gap: Callable[[Gap], None]
    ) -> Iterator[list[Delivery]]:
        """Yield unacknowledged events of this consumer, then new ones and those that other consumers left."""
        after, claimed = "0", time.monotonic()
        while True:
            if after == ">" and time.monotonic() - claimed > claim_after / 2:
                entries, missed = self._claim(claim_after), 0
                claimed = time.monotonic() if not entries else claimed
            else:
                entries, missed = self._read(after)
                if after == ">" and not entries and not self._follow:
                    return
                after = entries[-1][0] if after != ">" and entries else ">"
            deliveries, others, lost = read_entries(entries, kinds)
            if missed + lost:
                on_gap(Gap(missed + lost, self._stream))
            self.acknowledge(others)
            yield deliveries

    def _read(self, after: str) -> tuple[list[Any], int]:
        block = self._block if after == ">" and self._follow else None
        streams: Any = {self._stream: after}
        stream: Any
        groups: Any
        reply: Any
        if isinstance(self._redis, redis.RedisCluster):
            # Its pipelines repeat a read whose reply was lost, and so would hide that from us.
            stream = self._redis.xinfo_stream(self._stream)
            groups = self._redis.xinfo_groups(self._stream)
            reply = self._redis.xreadgroup(
                self._group, self._consumer, streams, count=self._count, block=block
            )
        else:
            # Sent in one go, so that next to nothing can come between the look and the read.
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xinfo_stream(self._stream)
            pipeline.xinfo_groups(self._stream)
            pipeline.xreadgroup(self._group, self._consumer, streams, count=self._count, block=block)
            stream, groups, reply = pipeline.execute()
        missed = trimmed_unread(stream, groups, self._group) if after == ">" else 0
        return (reply[0][1] if reply else []), missed

    def _claim(self, claim_after: float) -> list[Any]:
        """Entries of consumers that have not acknowledged them for so long."""
        reply = self._redis.xautoclaim(
            *(self._stream, self._group, self._consumer, int(claim_after * 1000)), count=self._count
        )
        return [*reply[1], *((entry, None) for entry in (reply[2] if len(reply) > 2 else ()))]

    def deliver(self, batch: list[Delivery]) -> Iterator[Event]:
        """Yield the events, and acknowledge those that were processed, also when the loop ends early."""
        done: list[str] = []
        try:
            for one in batch:
                yield one.event
                done.append(one.entry)
        except GeneratorExit:
            with suppress(*AWAY):
                self.acknowledge(done)
            raise
        self.acknowledge(done)

    def acknowledge(self, entries: list[str]) -> None:
        """Acknowledge entries."""
        if entries:
            self._redis.xack(self._stream, self._group, *entries)


class _Pump(threading.Thread):
    """Reads one of several streams, one batch at a time; one that is away holds up no other.

    `found` gets gaps, errors, batches, and None at the end.
    """

    def __init__(
        self,
        reader: Reader,
        start: str,
        claim_after: float,
        kinds: frozenset[str],
        found: "queue.SimpleQueue[Any]",
        stopped: threading.Event,
    ) -> None:
        super().__init__(name=f"jt709c partition {reader.part.number}", daemon=True)
        self.reader = reader
        self._start = start
        self._claim_after = claim_after
        self._kinds = kinds
        self._found = found
        self._stopped = stopped
        self._ready = threading.Event()
        self._again = False

    def go_on(self, *, again: bool = False) -> None:
        """Read the next batch, or with `again` first those that are not acknowledged."""
        self._again = again
        self._ready.set()

    def run(self) -> None:
        """Read until stopped, or without `follow` to the end."""
        try:
            while not self._stopped.is_set():
                try:
                    if self._read():
                        self._found.put(None)
                        return
                except AWAY as error:
                    log.warning("partition %d is away, trying again: %s", self.reader.part.number, error)
                    self._stopped.wait(RETRY)
        except Exception as error:
            self._found.put(error)

    def _read(self) -> bool:
        """Hand over batches; return whether the stream has ended."""
        self.reader.join(self._start)
        for batch in self.reader.batches(self._claim_after, self._kinds, self._found.put):
            if batch and not self._stopped.is_set():
                self._ready.clear()
                self._found.put((self, batch))
                self._ready.wait()
            if self._again or self._stopped.is_set():
                self._again = False
                return False
        return True


def consume_several(
    readers: Sequence[Reader],
    start: str,
    claim_after: float,
    kinds: frozenset[str],
    on_gap: Callable[[Gap], None],
) -> Iterator[Event]:
    """Yield the events of several streams as they come; those of one stay in order."""
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stopped = threading.Event()
    pumps = [_Pump(one, start, claim_after, kinds, found, stopped) for one in readers]
    running = len(pumps)
    for pump in pumps:
        pump.start()
    try:
        while running:
            item = found.get()
            if item is None:
                running -= 1
            elif isinstance(item, Gap):
                on_gap(item)
            elif isinstance(item, Exception):
                raise item
            else:
                pump, batch = item
                try:
                    yield from pump.reader.deliver(batch)
                    pump.go_on()
                except AWAY as error:
                    log.warning("partition %d is away, trying again: %s", pump.reader.part.number, error)
                    pump.go_on(again=True)
    finally:
        stopped.set()
        for pump in pumps:
            pump.go_on()
        limit = time.monotonic() + 2 * BLOCK_SEVERAL
        for pump in pumps:
            # One that hangs ends with its connection's timeout.
            pump.join(max(0.0, limit - time.monotonic()))
