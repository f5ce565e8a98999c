"""Connections to Redis with delayed replies or requests, and a gateway that can be paused."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import txredisapi
from attrs import define, field
from twisted.internet import defer

from jt709c_gateway.redis import scripts
from tests.support import RedisClient
from tests.support.command_bench import Node, Wire
from tests.support.committer import FakeLink

#: Seconds after which a gateway gives up a connection without a reply: two thirds of the ttl.
REPLY_TIMEOUT: Final = 10.0
_UNKNOWN: Final = object()
_RENEW, _ACCEPT = scripts.RENEW.hash, scripts.ACCEPT.hash


@define(eq=False)
class Account:
    """A gateway's user at the server, at a time that the test sets.

    The server's clock is not the test's. So this class records when a liveness key was renewed, and commands
    get the test's time as the time of the server.
    """

    client: RedisClient
    admin: RedisClient
    start: float
    now: float = 0.0
    #: Key of a liveness -> time of its last renewal.
    renewed: dict[str, float] = field(factory=dict)

    def call(self, *arguments: Any) -> Any:
        result = self.client.call(*arguments)
        if arguments[:2] == ("EVALSHA", _RENEW) and result == 1:
            self.renewed[str(arguments[3])] = self.now
        elif arguments[:2] == ("EVALSHA", _ACCEPT) and result != 0:
            prefix, command_id = arguments[3 + 8], arguments[3 + 8 + 4]
            recent, came = f"{prefix}:commands:recent", f"{self.start + self.now:.6f}"
            if self.admin.call("TYPE", recent) == b"zset":
                self.admin.call("ZADD", recent, "XX", came, command_id)
        return result


@define(eq=False)
class Request:
    """Commands that were sent at once; `reply` gets the result of the first, or of all."""

    commands: list[tuple[Any, ...]]
    alone: bool
    reply: defer.Deferred[Any]
    asked: float
    result: Any = _UNKNOWN

    @property
    def is_executed(self) -> bool:
        return self.result is not _UNKNOWN

    def is_of(self, name: str) -> bool:
        """Whether it is this command, or the script with this hash."""
        return name in self.commands[0][:2]


class Line(Wire):
    """A connection on which a request is executed at one time and its reply arrives at another."""

    client: Any
    #: Requests without a reply, executed ones first.
    pending: list[Request]  # type: ignore[assignment]

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        return self._ask([arguments], alone=True)

    def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> "defer.Deferred[list[Any]]":
        return self._ask([*commands], alone=False)

    def _ask(self, commands: list[tuple[Any, ...]], alone: bool) -> "defer.Deferred[Any]":
        if not self.connected:
            return defer.fail(txredisapi.ConnectionError("not connected"))
        request = Request(commands, alone, defer.Deferred(), self.client.now)
        self.pending.append(request)
        return request.reply

    def execute(self, request: Request) -> bool:
        """Have the server execute a request; False while it blocks."""
        first, *rest = request.commands
        result = self._execute(first)
        if result is None and first[0] == "BLMOVE" and self.client.now - request.asked < float(first[-1]):
            return False
        request.result = result if request.alone else [result, *map(self._execute, rest)]
        return True

    def work(self) -> bool:
        """Execute the next request and keep its reply; False when there is none to execute."""
        request = next((one for one in self.pending if not one.is_executed), None)
        return request is not None and self.execute(request)

    def step(self) -> bool:
        """Deliver the oldest reply; False when there is none."""
        if not self.pending or not (self.pending[0].is_executed or self.execute(self.pending[0])):
            return False
        request = self.pending.pop(0)
        if request.reply.called:
            # It was cancelled.
            return True
        if isinstance(request.result, Exception):
            request.reply.errback(request.result)
        else:
            request.reply.callback(request.result)
        return True

    def lose(self, executed: int = 0) -> None:
        self.lost()

    def lost(self) -> list[Request]:
        """Lose the connection and return the requests that may still be executed."""
        self.connected = False
        pending, self.pending = self.pending, []
        for request in pending:
            if not request.reply.called:
                request.reply.errback(txredisapi.ConnectionError("lost"))
        return [request for request in pending if not request.is_executed]


class Gateway(Node):
    """A gateway that can be paused, cut off from Redis, and superseded."""

    wire_class = Line
    wire: Line
    blocking: Line
    frozen = False
    #: Cut off from Redis: requests may still arrive there, replies don't come back.
    cut = False
    #: A later run has taken its name.
    superseded = False

    def __init__(self, account: Account, prefix: str, name: str, **options: Any) -> None:
        super().__init__(account, prefix, name, now=account.now, **options)  # type: ignore[arg-type]
        self.background_tasks.superseded = self._supersede
        #: Bytes and closes that arrived while it is paused.
        self._inbox: list[Callable[[], None]] = []

    def _supersede(self) -> None:
        self.superseded = True

    @property
    def runs(self) -> bool:
        """Whether it is running, not paused."""
        return not self.frozen

    def step(self) -> bool:
        if self.frozen:
            return False
        self.clock.advance(0)
        return not self.cut and super().step()

    def pass_time(self, seconds: float, tick: float = 0.25) -> None:
        """Do everything that is due. The world advances the time."""
        self.run()

    def follow(self, now: float) -> None:
        """Follow the world's time unless it is paused."""
        if not self.frozen:
            self.clock.advance(now - self.clock.seconds())

    def is_unanswered(self, now: float) -> bool:
        """Whether Redis has not replied for longer than the timeout."""
        return any(one.asked + REPLY_TIMEOUT <= now for one in self.wire.pending)

    def receive(self, link: FakeLink, data: bytes) -> None:
        """Receive bytes from a lock."""
        self._inbox.append(lambda: self.feed(link, data))
        self._read()

    def hang_up(self, link: FakeLink) -> None:
        """Close a lock's connection."""
        self._inbox.append(lambda: link.closed or link.close("closed"))
        self._read()

    def _read(self) -> None:
        while self._inbox and not self.frozen:
            self._inbox.pop(0)()

    def thaw(self, now: float, data_first: bool) -> None:
        """Continue, first with what has arrived, or first with what is due."""
        self.frozen = False
        if data_first:
            # The clock has advanced, and nothing that was due has run yet.
            self.clock.rightNow = now
            if not self.cut and self.wire.pending and self.wire.pending[0].is_executed:
                self.wire.step()
            self._read()
        self.clock.advance(now - self.clock.seconds())
        self._read()
