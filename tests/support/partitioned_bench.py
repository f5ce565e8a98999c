"""A gateway with several partitions in this process, on a clock that the test moves, over a real server."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

from attrs import define
from twisted.internet import task
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.commands.record import Limits
from jt709c_gateway.daemon import connect
from jt709c_gateway.gateway.background_tasks import BackgroundTasks
from jt709c_gateway.gateway.commands.authorization import CommandAuthorizer
from jt709c_gateway.gateway.commands.context import CommandContext
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.identity_queries import IdentityPoller
from jt709c_gateway.gateway.commands.partition_routing import PartitionRouting
from jt709c_gateway.gateway.event_ids import EventIds
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.imei_index import ImeiIndex
from jt709c_gateway.redis import scripts
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.commit_router import CommitRouter
from jt709c_gateway.redis.committer import Committer
from jt709c_gateway.redis.partitioned_queries import PartitionedQueries
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.transfers import TransferStore
from tests.support import RedisClient, key_prefix, shared_server
from tests.support.acl import GATEWAY, denials, log_in, password_of, rules_of
from tests.support.command_bench import GATEWAY_TTL, START, Wire
from tests.support.commands import PASSWORD, UNLOCKED, CommandClient, FakeLock, lock_event
from tests.support.committer import FakeLink
from tests.support.partitioned import PartitionedClient, device_in

COUNT = 4
_boots = itertools.count(1)
_profiles = load_profiles()


def unlock(device: str, **fields: object) -> str:
    """Return an entry of the intake list."""
    return json.dumps({"device": device, "command": "unlock", "params": {"password": PASSWORD}, **fields})


@define(eq=False)
class Part:
    """One partition of a gateway."""

    wire: Wire
    blocking: Wire
    committer: Committer
    store: CommandStore
    context: Any = None
    dispatcher: Any = None
    poller: Any = None
    background_tasks: Any = None

    def lose(self, executed: int = 0) -> None:
        """Lose its connections, after so many further requests were executed, whose replies are lost."""
        self.wire.lose(executed)
        self.blocking.lose()

    def reconnect(self) -> None:
        """Its connections can be used again."""
        self.wire.connected = self.blocking.connected = True
        self.committer.resume()
        self.background_tasks.on_redis_ready()


class PartitionedNode:
    """A gateway built from parts that the test drives; all partitions are on the server of `client`."""

    def __init__(
        self,
        client: RedisClient,
        layout: Partitions,
        name: str = "gw1",
        now: float = 0.0,
        authorizer: CommandAuthorizer | None = None,
    ) -> None:
        authorizer = authorizer or CommandAuthorizer()
        self.name, self.layout = name, layout
        self.clock = task.Clock()
        self.clock.rightNow = now
        boot = f"boot{next(_boots)}"
        self.parts = []
        for keys in layout:
            wire = Wire(client)
            committer = Committer(self.clock, wire, keys, name, boot)
            self.parts.append(Part(wire, Wire(client), committer, CommandStore(wire, keys, name)))
        router = CommitRouter(layout, [one.committer for one in self.parts])
        ids = EventIds(name, lambda: START + self.clock.seconds())
        self.gateway = Gateway(name, self.clock, router, ids, wall=self.wall)
        queries = PartitionedQueries(layout, [one.store for one in self.parts], self.clock)
        for number, one in enumerate(self.parts):
            transfers = TransferStore(one.wire, layout.keys[number], name)
            callers = [other.wire for other in self.parts]
            routing = PartitionRouting(
                layout, number, queries, callers, transfers, self.clock, authorizer.seal
            )
            one.context = CommandContext(
                self.gateway,
                one.committer,
                one.store,
                _profiles,
                Limits(),
                authorizer=authorizer,
                routing=routing,
            )
            one.dispatcher = CommandDispatcher(one.context)
            one.poller = IdentityPoller(one.dispatcher, frozenset())
            one.background_tasks = BackgroundTasks(
                self.clock, self.gateway, one.dispatcher, layout.keys[number], GATEWAY_TTL, one.poller
            )
        self.imeis = ImeiIndex(layout, [one.context for one in self.parts], 1000)
        connect(self.gateway, self.parts, self.imeis)

    def wall(self) -> datetime:
        """The time of its wall clock."""
        return datetime.fromtimestamp(START + self.clock.seconds(), UTC)

    def start(self) -> "PartitionedNode":
        """Start the background tasks."""
        for one in self.parts:
            one.background_tasks.startService()
            one.background_tasks.start(one.blocking)
            one.reconnect()
        self.pass_time(0.2, tick=0.1)
        return self

    def step(self) -> bool:
        """Do one thing that is due; False when nothing is."""
        self.clock.advance(0)
        return any(wire.step() for one in self.parts for wire in (one.wire, one.blocking))

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

    def come(self, lock: FakeLock) -> FakeLink:
        """A lock connects and reports."""
        link = FakeLink("tcp", "192.0.2.7:50112")
        link.connection = self.gateway.open(link)
        self.report(lock, link)
        self.run()
        return link

    def report(self, lock: FakeLock, link: FakeLink) -> None:
        """A lock reports over its connection."""
        self.feed(link, lock.location(at=START + self.clock.seconds()))

    def open(self, lock: FakeLock, link: FakeLink, command: bytes) -> None:
        """A lock accepts an unlock command, opens, and reports that it is closed again."""
        serial = int(command.split(b",")[2])
        now = START + self.clock.seconds()
        self.feed(
            link,
            f"({lock.device},1,{serial:03d},ELOCK,1,1)".encode(),
            lock.location(lock_event(), UNLOCKED, now),
            lock.location(at=now),
        )

    def feed(self, link: FakeLink, *frames: bytes) -> None:
        """Feed frames over a connection, in one chunk."""
        link.connection.received(FakeLock("0").framer().feed(b"".join(frames)))


class PartitionedCase(SynchronousTestCase):
    """A gateway with four partitions and a lock in each, which comes when the test lets it."""

    def setUp(self) -> None:
        self.layout = Partitions(key_prefix(), COUNT)
        self.client = CommandClient(_Server(self.layout), self.layout.prefix)
        self.addCleanup(self.client.close)
        self.redis: RedisClient = shared_server().client()
        self.addCleanup(self.redis.close)
        for script in scripts.SCRIPTS:
            self.redis.call("SCRIPT", "LOAD", script.form_for(self.layout.keys[0]).source)
        user = f"gateway-of-{self.layout.prefix}"
        self.redis.call("ACL", "SETUSER", user, *rules_of(GATEWAY, self.layout.prefix))
        self.guarded = log_in(shared_server().client(), user, password_of(GATEWAY))
        self.addCleanup(self.guarded.close)
        self.addCleanup(lambda: self.assertEqual(denials(self.redis, user), []))
        self.locks = [FakeLock(device_in(self.layout, number)) for number in range(COUNT)]
        self.node = PartitionedNode(self.guarded, self.layout, authorizer=self.authorizer()).start()

    def authorizer(self) -> CommandAuthorizer:
        """Return what checks signed commands."""
        return CommandAuthorizer()

    def until_pending(self, number: int, word: str) -> None:
        """Go on until a command or script is to be called in a partition."""
        wire = self.node.parts[number].wire
        for _ in range(5000):
            if any(word in arguments[:2] for arguments, _ in wire.pending):
                return
            if not self.node.step():
                self.node.clock.advance(0.02)
        raise AssertionError(f"{word} is never called")

    def push(self, number: int, entry: str) -> None:
        """Push an entry to the list of a partition."""
        self.redis.call("RPUSH", self.layout.keys[number].commands, entry)

    def unlocks(self, link: FakeLink) -> list[bytes]:
        """Return the commands that were written over a connection."""
        return [data for data in link.sent if data.startswith(b"(")]

    def waiting(self, device: str) -> int:
        """Return how many commands wait for a device in its partition."""
        found: int = self.redis.call("LLEN", self.layout.keys_of(device).waiting(device))
        return found

    def transfers(self, number: int) -> int:
        """Return how much a partition has for others."""
        found: int = self.redis.call("LLEN", self.layout.keys[number].transfers)
        return found


class _Server:
    """The shared server, for the fleet of a test."""

    def __init__(self, layout: Partitions) -> None:
        self._layout = layout

    def client(self) -> PartitionedClient:
        return PartitionedClient(self._layout, lambda _, limit: shared_server().client(limit))
