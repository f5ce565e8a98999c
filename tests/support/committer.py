"""Redis for tests of committer and gateway: a connection that answers on request, and the script."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from attrs import define
from twisted.internet import defer, task

from jt709c_gateway.gateway.admission import Admission
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.policy import Policy
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.redis.batch import Answer, Batch, Recipient, Then
from jt709c_gateway.redis.commit_records import CommitRecord
from jt709c_gateway.redis.committer import Committer, Limits
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import COMMIT
from tests.support import RedisClient

#: The current time unless a test sets another; the reports in `tests.vectors` are a few minutes older.
NOW = datetime(2025, 11, 18, 11, 30, tzinfo=UTC)


class FakeRedis:
    """A connection to Redis whose replies the test gives."""

    def __init__(self) -> None:
        self.connected = True
        #: Commands sent alone or first in a pipeline, with those behind each.
        self.calls: list[tuple[Any, ...]] = []
        self.behind: list[list[tuple[Any, ...]]] = []
        self.pending: list[defer.Deferred[Any]] = []

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        self.calls.append(arguments)
        self.behind.append([])
        self.pending.append(defer.Deferred())
        return self.pending[-1]

    def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> "defer.Deferred[list[Any]]":
        pending = self.call(*commands[0])
        self.behind[-1] = list(commands[1:])
        return pending

    def reply(self, value: Any = 0) -> None:
        """Answer the oldest call; a pipeline with a list of all its replies."""
        self.pending.pop(0).callback(value)

    def fail(self, error: Exception) -> None:
        """Fail the oldest call."""
        self.pending.pop(0).errback(error)

    def number(self, index: int = -1) -> int:
        """Return the number of a batch."""
        return int(self.calls[index][6])

    def batch(self, index: int = -1) -> list[Any]:
        """Return the contents of the records in a batch."""
        return msgspec.msgpack.decode(self.calls[index][8])


def make_committer(clock: task.Clock, redis: FakeRedis, **options: Any) -> Committer:
    """Return a committer that only the test drives."""
    return Committer(clock, redis, Keys("t"), "gw1", "boot1", **{"now": lambda: NOW.timestamp(), **options})


class FakeLink:
    """A transport for the gateway that records its calls."""

    def __init__(self, transport_name: str = "tcp", peer: str = "192.0.2.7:50112") -> None:
        self.transport_name = transport_name
        self.peer = peer
        self.sent: list[bytes] = []
        self.closed: list[str] = []
        self.reading = True
        self.reasons_to_hurry = 0
        self.connection: Any = None

    def send(self, data: bytes) -> bool:
        if self.closed:
            return False
        self.sent.append(data)
        return True

    def close(self, reason: str) -> None:
        if not self.closed:
            self.closed.append(reason)
            self.connection.closed(reason)

    def hasten(self, urgent: bool) -> None:
        self.reasons_to_hurry += 1 if urgent else -1

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True


class Fleet:
    """A gateway on a test clock, over a Redis that answers on request."""

    def __init__(
        self,
        policy: Policy | None = None,
        name: str = "gw1",
        admission: Admission | None = None,
        **committing: Any,
    ) -> None:
        self.clock = task.Clock()
        self.redis = FakeRedis()
        self.committer = make_committer(self.clock, self.redis, **committing)
        self.wall = NOW
        ids = EventIds(name, lambda: self.wall.timestamp())
        self.gateway = Gateway(
            name,
            self.clock,
            self.committer,
            ids,
            policy or Policy(),
            admission or Admission(),
            wall=lambda: self.wall,
        )
        self.committer.drained = self.gateway.resume_paused
        self.committed: list[Any] = []

    def link(self, transport_name: str = "tcp", peer: str = "192.0.2.7:50112") -> FakeLink:
        """Return a new peer."""
        link = FakeLink(transport_name, peer)
        link.connection = self.gateway.open(link)
        return link

    def feed(self, link: FakeLink, *frames: bytes) -> None:
        """Feed frames over a connection, in one chunk, without a commit."""
        framer = Framer()
        data = b"".join(frames)
        link.connection.received(
            framer.feed_datagram(data) if link.transport_name == "udp" else framer.feed(data)
        )

    def commit(self) -> list[Any]:
        """Accept everything that waits for Redis and return the contents of the records."""
        found: list[Any] = []
        self.clock.advance(0)
        while self.redis.pending:
            found += self.redis.batch()
            self.redis.reply(0)
            self.clock.advance(0)
        self.committed += found
        return found

    def hear(self, link: FakeLink, *frames: bytes) -> list[dict[str, Any]]:
        """Feed and commit frames and return their events."""
        self.feed(link, *frames)
        return events_in(self.commit())


def events_in(contents: list[Any]) -> list[dict[str, Any]]:
    """Return the events in the contents of records."""
    return [json.loads(text) for content in contents if content[0] for text in texts_in(content)]


def texts_in(content: Any) -> list[str]:
    """Return the events in one record, as JSON."""
    return [content[4]] if isinstance(content[4], str) else [text for _, text, *_ in content[4]]


@define
class Record:
    """A record that a gateway has submitted."""

    record: CommitRecord
    recipient: Recipient | None = None
    answer: Answer = None
    then: Then | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """Its values, as the script gets them."""
        return tuple(msgspec.to_builtins(self.record))


class _Sink:
    """Accepts records and ignores them."""

    full = False
    unacked = 0

    def __init__(self, boot: str) -> None:
        self.boot = boot
        self.records: list[Record] = []

    def of(self, device: str) -> "_Sink":
        return self

    def submit(self, *arguments: Any, **more: Any) -> None:
        self.records.append(Record(*arguments, **more))


class Teller:
    """Turns frames into the contents of records, as a gateway does; `wall` is the time of its clock."""

    def __init__(self, gateway: str = "gw1", peer: str = "192.0.2.7:50112") -> None:
        self.sink: Any = _Sink(f"boot-{gateway}")
        self.wall = NOW
        ids = EventIds(gateway, lambda: self.wall.timestamp())
        self.gateway = Gateway(gateway, task.Clock(), self.sink, ids, wall=lambda: self.wall)
        self.link = FakeLink(peer=peer)
        self.link.connection = self.gateway.open(self.link)

    def contents(self, *frames: bytes) -> list[tuple[Any, ...]]:
        """Return all records of the frames, including the start of the session."""
        self.link.connection.received(Framer().feed(b"".join(frames)))
        found = []
        while self.sink.records:
            record = self.sink.records.pop(0)
            found.append(record.content)
            if record.recipient is not None:
                record.recipient.committed([b""])
        return found

    def reports(self, *frames: bytes) -> list[tuple[Any, ...]]:
        """Return the records of the frames themselves."""
        return [content for content in self.contents(*frames) if not content[0] or content[5] is not None]

    def leaves(self) -> list[tuple[Any, ...]]:
        """Return the records of its connection's end."""
        self.link.connection.closed("closed")
        found = [record.content for record in self.sink.records]
        self.sink.records.clear()
        return found


def packed(contents: list[tuple[Any, ...]]) -> bytes:
    """Return records as in a batch."""
    return Batch.of(1, [(msgspec.msgpack.encode(one), None, None, None) for one in contents]).packed


class Script:
    """`commit.lua` on a real server, under one prefix."""

    def __init__(self, client: RedisClient, prefix: str, limits: Limits | None = None) -> None:
        self.client = client
        self.keys = Keys(prefix)
        self.limits = limits or Limits()
        self.numbers: dict[tuple[str, str], int] = {}
        client.call("SCRIPT", "LOAD", COMMIT.source)

    def commit(
        self,
        contents: list[tuple[Any, ...]],
        gateway: str = "gw1",
        boot: str = "boot1",
        number: int | None = None,
        sent_at: float | None = None,
    ) -> Any:
        """Run it with one batch, numbered next unless `number` is given, and return its reply."""
        if number is None:
            number = self.numbers.get((gateway, boot), 0) + 1
        self.numbers[gateway, boot] = number
        return self.client.call(
            "EVALSHA",
            COMMIT.hash,
            1,
            self.keys.events,
            self.keys.prefix,
            self.keys.commit_marker(gateway, boot),
            number,
            self.limits.packed(),
            packed(contents),
            *([] if sent_at is None else [f"{sent_at:.3f}"]),
        )

    def stream(self, key: str) -> list[dict[str, str]]:
        """Return the entries of a stream."""
        return [as_dict(fields) for _, fields in self.client.call("XRANGE", key, "-", "+")]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the events in the stream, of one kind or of all."""
        entries = self.stream(self.keys.events)
        return [json.loads(one["event"]) for one in entries if kind in (None, one["kind"])]

    def hash(self, key: str) -> dict[str, str]:
        """Return a hash."""
        return as_dict(self.client.call("HGETALL", key))


def as_dict(flat: list[bytes]) -> dict[str, str]:
    """Convert field, value, … to a dict."""
    texts = [item.decode() for item in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
