"""Gateways in this process, on clocks that the test moves, over a real server whose replies the test passes
on."""

import itertools
from datetime import UTC, datetime
from typing import Any

import txredisapi
from twisted.internet import defer, task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.record import Limits
from jt709c_gateway.daemon import connect
from jt709c_gateway.gateway.background_tasks import BackgroundTasks
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.identity_queries import IdentityPoller
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.maintenance import Maintenance
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.redis.keys import Keys
from tests.support import RedisClient, RedisError, key_prefix, shared_server
from tests.support.acl import GATEWAY, denials, log_in, password_of, rules_of
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.committer import FakeLink

#: The Unix time at second 0 of the test's clock.
START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC).timestamp()
GATEWAY_TTL = 15.0
_boots = itertools.count(1)
_profiles = load_profiles()


class Wire:
    """A connection to Redis. Requests wait here until the test passes them on or has them fail."""

    def __init__(self, client: RedisClient) -> None:
        self.client = client
        self.connected = True
        self.pending: list[tuple[tuple[Any, ...], defer.Deferred[Any]]] = []
        self.calls: list[tuple[Any, ...]] = []

    def call(self, *arguments: Any) -> "defer.Deferred[Any]":
        if not self.connected:
            return defer.fail(txredisapi.ConnectionError("not connected"))
        reply: defer.Deferred[Any] = defer.Deferred()
        self.calls.append(arguments)
        self.pending.append((arguments, reply))
        return reply

    def pipeline(self, commands: list[tuple[Any, ...]]) -> "defer.Deferred[list[Any]]":
        """Queue commands, the first of which may block; the others then wait behind it."""
        reply = self.call(*commands[0])
        return reply.addCallback(lambda first: [first, *map(self._execute, commands[1:])])

    def _execute(self, arguments: tuple[Any, ...]) -> Any:
        if arguments[0] == "BLMOVE":
            arguments = ("LMOVE", *arguments[1:-1])
        try:
            return self.client.call(*arguments)
        except RedisError as error:
            return txredisapi.ResponseError(str(error))

    def step(self) -> bool:
        """Pass on the oldest request; False when there is none, or it still blocks."""
        if not self.pending:
            return False
        arguments, reply = self.pending[0]
        result = None if reply.called else self._execute(arguments)
        if result is None and arguments[0] == "BLMOVE" and not reply.called:
            return False
        self.pending.pop(0)
        if reply.called:
            return True
        if isinstance(result, Exception):
            reply.errback(result)
        else:
            reply.callback(result)
        return True

    def lose(self, executed: int = 0) -> None:
        """Lose the connection after the server has executed `executed` requests, whose replies are lost."""
        self.connected = False
        pending, self.pending = self.pending, []
        for index, (arguments, _) in enumerate(pending):
            if index < executed:
                self._execute(arguments)
        for _, reply in pending:
            if not reply.called:
                reply.errback(txredisapi.ConnectionError("lost"))


class Node:
    """One gateway, built from parts that the test drives."""

    #: The class of its connections to Redis.
    wire_class: type[Wire] = Wire

    def __init__(
        self, client: RedisClient, prefix: str, name: str = "gw1", now: float = 0.0, **options: Any
    ) -> None:
        self.name = name
        self.clock = task.Clock()
        self.clock.rightNow = now
        self.wire, self.blocking = self.wire_class(client), self.wire_class(client)
        self.keys = Keys(prefix)
        boot = f"boot{next(_boots)}"
        self.committer = Committer(self.clock, self.wire, self.keys, name, boot)
        ids = EventIds(name, lambda: START + self.clock.seconds())
        self.gateway = Gateway(name, self.clock, self.committer, ids, wall=self.wall)
        store = CommandStore(self.wire, self.keys, name)
        limits = options.pop("limits", None) or Limits()
        dialects = frozenset(options.pop("ask", ()))
        ttl = options.pop("ttl", GATEWAY_TTL)
        context = CommandContext(self.gateway, self.committer, store, _profiles, limits, **options)
        self.dispatcher = CommandDispatcher(context)
        asking = IdentityPoller(self.dispatcher, dialects)
        self.background_tasks = BackgroundTasks(
            self.clock, self.gateway, self.dispatcher, self.keys, ttl, asking
        )
        self.poller = asking
        self.maintenance = Maintenance(self.clock, self.gateway)
        connect(self.gateway, [self])

    def wall(self) -> datetime:
        """The time of its wall clock."""
        return datetime.fromtimestamp(START + self.clock.seconds(), UTC)

    def start(self) -> "Node":
        """Start the gateway's background tasks."""
        self.maintenance.startService()
        self.background_tasks.startService()
        self.background_tasks.start(self.blocking)
        self.connected()
        self.pass_time(0.2, tick=0.1)
        return self

    def connected(self) -> None:
        """Report that Redis is ready (again)."""
        self.wire.connected = self.blocking.connected = True
        self.committer.resume()
        self.background_tasks.on_redis_ready()

    def step(self) -> bool:
        """Do one thing that is due; False when nothing is."""
        self.clock.advance(0)
        return self.wire.step() or self.blocking.step()

    def run(self) -> None:
        """Do everything that is due."""
        while self.step():
            pass

    def pass_time(self, seconds: float, tick: float = 0.25) -> None:
        """Let time pass, doing what is due."""
        end = self.clock.seconds() + seconds
        while (left := end - self.clock.seconds()) > 1e-9:
            self.clock.advance(min(tick, left))
            self.run()

    def link(self, transport_name: str = "tcp", peer: str = "192.0.2.7:50112") -> FakeLink:
        """Return a new peer."""
        link = FakeLink(transport_name, peer)
        link.connection = self.gateway.open(link)
        return link

    def feed(self, link: FakeLink, *frames: bytes) -> None:
        """Feed frames over a connection, in one chunk."""
        if not link.closed:
            link.connection.received(Framer().feed(b"".join(frames)))


class BenchTestCase(SynchronousTestCase):
    """One gateway, `node`, and one lock; Redis answers when the test lets it."""

    def setUp(self) -> None:
        self.prefix = key_prefix()
        self.client = CommandClient(shared_server(), self.prefix)
        self.addCleanup(self.client.close)
        # A gateway does this when it connects.
        for script in scripts.SCRIPTS:
            self.client.redis.call("SCRIPT", "LOAD", script.source)
        # Gateways have only the rights of the shipped ACL.
        user = f"gateway-of-{self.prefix}"
        self.client.redis.call("ACL", "SETUSER", user, *rules_of(GATEWAY, self.prefix))
        self.guarded = log_in(shared_server().client(), user, password_of(GATEWAY))
        self.addCleanup(self.guarded.close)
        self.addCleanup(lambda: self.assertEqual(denials(self.client.redis, user), []))
        self.lock = FakeLock(new_device())
        self.device = self.lock.device
        self.node = self.make("gw1").start()

    def make(self, name: str, **options: object) -> Node:
        """Make another gateway."""
        return Node(self.guarded, self.prefix, name, **options)

    def written(self, *links: FakeLink) -> list[bytes]:
        """Return the commands that were written over these connections."""
        return [data for link in links for data in link.sent if data.startswith(b"(")]

    def report(self, node: Node, link: FakeLink, items: bytes = b"", status: int = 2) -> None:
        """Return a location report of now."""
        node.feed(link, self.lock.location(items, status, START + node.clock.seconds()))

    def come(self, node: Node | None = None, transport: str = "tcp") -> FakeLink:
        """The lock connects and reports."""
        node = node or self.node
        link = node.link(transport)
        self.report(node, link)
        return link

    def say(self, node: Node, link: FakeLink, serial: int, *words: str) -> None:
        """Return a sentence of the lock."""
        node.feed(link, f"({self.device},1,{serial:03d},{','.join(words)})".encode())

    def steps_until(self, name: str) -> None:
        """Pass requests on until the next one is this script or command."""
        wanted = {script.name: script.hash for script in scripts.SCRIPTS}.get(name, name)
        for _ in range(1000):
            self.node.clock.advance(0)
            if self.node.wire.pending and wanted in self.node.wire.pending[0][0][:2]:
                return
            assert self.node.step(), f"{name} is never asked for"
        raise AssertionError(name)
