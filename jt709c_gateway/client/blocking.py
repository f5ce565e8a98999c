"""The blocking client, on redis-py."""

import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

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
#: Seconds: one blocking read; between attempts to reach Redis; after which another's events are taken over.
BLOCK: Final = 5.0
RETRY: Final = 1.0
CLAIM_AFTER: Final = 300.0
AWAY: Final = (redis.ConnectionError, redis.TimeoutError)


#: Options of redis-py. Without retries of its own: they would hide a reply that was lost with its events.
CONNECTION: Final[Mapping[str, Any]] = {
    "decode_responses": True,
    "protocol": 2,
    "socket_timeout": 3 * BLOCK,
}


def log_gap(gap: Gap) -> None:
    """The default for gaps: a warning in the log."""
    _log.warning("%d events were cut off before they were read (--events-max)", gap.count)


def consumer_name() -> str:
    """The default name of a consumer: that of the host, the same after a restart."""
    return socket.gethostname()


class Commands:
    """Gives commands and waits for their outcomes."""

    def __init__(self, connection: Any, keys: Keys, key: SigningKey | None) -> None:
        self._redis = connection
        self._keys = keys
        self._key = key

    def send(
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
        self._redis.rpush(self._keys.commands, encode_command(fields, self._key, time.time()))
        return sent

    def wait(self, command: SentCommand | str, timeout: float | None = None) -> Outcome:
        """Wait for the outcome of a command, or of a command's id; raise OutcomePending after `timeout`.

        By default it waits as long as the command can take. Errors of the connection are retried until then.
        """
        sent = SentCommand(command, "", "") if isinstance(command, str) else command
        deadline = time.monotonic() + (sent.patience if timeout is None else timeout)
        while True:
            left = deadline - time.monotonic()
            try:
                outcome = self.outcome(sent.id)
                if outcome is not None:
                    return outcome
                if left <= 0:
                    raise OutcomePending(sent.id, self._redis.hget(self._keys.command(sent.id), "state"))
                reply = self._redis.blpop([self._keys.reply(sent.id)], timeout=max(0.1, min(left, BLOCK)))
                outcome = None if reply is None else outcome_from_reply(reply[1])
                if outcome is not None:
                    return outcome
            except AWAY:
                if left <= 0:
                    raise
                time.sleep(RETRY)

    def outcome(self, command_id: str) -> Outcome | None:
        """The outcome of a command as it is known now; None while it has not ended."""
        return outcome_from_record(self._redis.hgetall(self._keys.command(command_id)))


class Events:
    """Follows the stream of events."""

    def __init__(self, connection: Any, keys: Keys) -> None:
        self._redis = connection
        self._stream = keys.events

    def consume(
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
    ) -> Iterator[Event]:
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
                reader.join(start)
                for batch in reader.batches(claim_after, wanted, on_gap):
                    yield from reader.deliver(batch)
                return
            except AWAY as error:
                _log.warning("Redis is away, trying again: %s", error)
                time.sleep(RETRY)


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
                on_gap(Gap(missed + lost))
            self.acknowledge(others)
            yield deliveries

    def _read(self, after: str) -> tuple[list[Any], int]:
        # Sent in one go, so that next to nothing can come between the look and the read.
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.xinfo_stream(self._stream)
        pipeline.xinfo_groups(self._stream)
        block = int(BLOCK * 1000) if after == ">" and self._follow else None
        pipeline.xreadgroup(
            self._group, self._consumer, {self._stream: after}, count=self._count, block=block
        )
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


class Client:
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
        self._redis: Any = connection or redis.Redis.from_url(
            url, **{**CONNECTION, "retry": Retry(NoBackoff(), 0), **options}
        )
        self.commands = Commands(self._redis, keys, key)
        self.events = Events(self._redis, keys)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
