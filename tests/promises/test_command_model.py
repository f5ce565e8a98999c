"""Random sequences of gateways, locks and Redis, with invariants that always hold."""

import itertools
import random

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.commands.record import Limits
from tests.support import key_prefix, shared_server
from tests.support.command_bench import GATEWAY_TTL, START, Node
from tests.support.commands import (
    UNLOCKED,
    CommandClient,
    FakeLock,
    check_edges,
    lock_event,
    new_device,
    new_id,
)
from tests.support.committer import FakeLink


class Unit:
    """A lock with random behaviour. It records what is written to it, over any connection."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.body = FakeLock(new_device())
        self.links: list[tuple[Node, FakeLink]] = []
        self.seen: list[int] = []
        self.written: list[bytes] = []

    def connect(self, node: Node, hang_up: bool = True) -> None:
        """Connect to a gateway; without `hang_up` an earlier gateway may not notice that the lock has
        gone."""
        if hang_up:
            self.hang_up()
        link = node.link(peer=f"192.0.2.1:{len(self.links)}")
        self.links.append((node, link))
        self.seen.append(0)
        self.say(self.report())

    def hang_up(self) -> None:
        """Close its connection, if there is one."""
        if self.links:
            node, link = self.links[-1]
            if not link.closed and node in self.world.alive:
                link.closed.append("hung up")
                link.connection.closed("closed")

    def report(self, items: bytes = b"", status: int = 2) -> bytes:
        return self.body.location(items, status, START + self.world.now)

    def say(self, *frames: bytes) -> None:
        """Send frames over its connection."""
        node, link = self.links[-1]
        if node in self.world.alive and node not in self.world.frozen:
            node.feed(link, *frames)

    def collect(self) -> list[bytes]:
        """Return the commands written since the last call."""
        found = []
        for index, (_, link) in enumerate(self.links):
            new, self.seen[index] = link.sent[self.seen[index] :], len(link.sent)
            found += [data for data in new if data[:1] == b"(" or data[1:2] == b"\x82"]
        self.written += found
        return found

    def live(self, dice: random.Random, reliable: bool = False) -> None:
        """Answer or execute the commands that have arrived."""
        for data in self.collect():
            if data[:1] != b"(":
                serial = data[11:13]
                if reliable or dice.random() < 0.7:
                    self.say(self.body.frame(0x0201, serial + self.report()[13:-2]))
                continue
            head, _, rest = data[1:-1].decode().partition(",ELOCK,")
            number = rest[0]
            mood = 0 if reliable else dice.random()
            if mood < 0.5:
                self.say(f"({head},ELOCK,{number},1)".encode())
            elif mood < 0.6:
                self.say(f"({head},ELOCK,{number},0)".encode())
            elif mood < 0.7:
                self.say(f"({head},ELOCK,{number},strange)".encode())
            if reliable or dice.random() < 0.6:
                self.say(self.report(lock_event(), UNLOCKED))
                self.say(self.report())


class World:
    """Two gateways, three locks, one Redis; `dice` chooses each step."""

    def __init__(self, client: CommandClient, seed: int, trouble: bool) -> None:
        self.dice = random.Random(seed)
        self.client = client
        self.now = 0.0
        self.trouble = trouble
        self.names = ("gw1", "gw2")
        self.alive: list[Node] = []
        self.frozen: list[Node] = []
        self.heard: dict[str, float] = {}
        for name in self.names:
            self.boot(name)
        self.units = [Unit(self) for _ in range(3)]
        #: Command id -> its passwords; none for a command that opens nothing.
        self.commands: dict[str, list[bytes]] = {}
        self.passwords = 0

    def boot(self, name: str) -> None:
        """Start a gateway of this name."""
        limits = Limits(confirm_timeout=5.0)
        node = Node(self.client.redis, self.client.prefix, name, now=self.now, limits=limits)
        node.start()
        self.alive.append(node)

    def crash(self, node: Node) -> None:
        """Kill a gateway; its last requests may have reached Redis."""
        self.alive.remove(node)
        if node in self.frozen:
            self.frozen.remove(node)
        for wire in (node.wire, node.blocking):
            for arguments, _ in wire.pending[: self.dice.randrange(4)]:
                wire._execute(arguments)
            wire.pending.clear()
            wire.connected = False

    def command(self) -> None:
        """Push a command."""
        dice, unit = self.dice, self.dice.choice(self.units)
        known = list(self.commands)
        kind = dice.random()
        if known and kind < 0.1:
            self.client.command(unit.body.device, "cancel", {"id": dice.choice(known)})
        elif known and kind < 0.15:
            # After a crash this may be taken in before the first one of that id.
            again = dice.choice(known)
            self.client.unlock(unit.body.device, self.password(again), id=again)
        elif kind < 0.2:
            self.client.command(unit.body.device, "clear_lockout")
        elif kind < 0.3:
            self.commands[self.client.command(unit.body.device, "locate", timeout=2, ttl=40)] = []
        else:
            command = new_id()
            ttl = dice.choice((3, 40))
            self.client.unlock(unit.body.device, self.password(command), timeout=3, ttl=ttl, id=command)

    def password(self, command: str) -> str:
        """Return a password that identifies the bytes written for this command."""
        self.passwords += 1
        password = f"{self.passwords:06d}"
        self.commands.setdefault(command, []).append(b"," + password.encode() + b")")
        return password

    def pass_time(self, seconds: float) -> None:
        """Advance the time of everything that has a clock."""
        self.now += seconds
        for node in self.alive:
            if node not in self.frozen:
                node.clock.advance(self.now - node.clock.seconds())
                if node.wire.connected:
                    self.heard[node.name] = self.now
        for name in self.names:
            # The server's clock is not the test's.
            if self.now - self.heard.get(name, self.now) > GATEWAY_TTL:
                self.client.redis.call("DEL", self.client.key("gateway", name))

    def act(self) -> None:
        """Do one random step."""
        dice = self.dice
        running = [node for node in self.alive if node not in self.frozen]
        what = dice.random()
        if what < 0.75 and running:
            dice.choice(running).step()
        elif what < 0.80:
            self.command()
        elif what < 0.87:
            self.pass_time(dice.choice((0.05, 0.3, 1.0, 2.0)))
        elif what < 0.93:
            unit = dice.choice(self.units)
            if unit.links:
                unit.live(dice)
        elif what < 0.955 and running:
            dice.choice(self.units).connect(dice.choice(running), hang_up=dice.random() < 0.7)
        elif what < 0.965:
            dice.choice(self.units).hang_up()
        elif self.trouble:
            self.make_trouble()

    def make_trouble(self) -> None:
        """Inject a fault, or mend one."""
        dice = self.dice
        what = dice.randrange(4)
        if what == 0 and self.alive:
            node = dice.choice(self.alive)
            if node.wire.connected:
                node.wire.lose(dice.randrange(3))
                node.blocking.lose(dice.randrange(2))
            else:
                node.connected()
        elif what == 1 and len(self.alive) < len(self.names):
            self.reboot()
        elif what == 2 and self.alive:
            self.crash(dice.choice(self.alive))
        elif self.frozen:
            self.frozen.pop()
        elif self.alive and dice.random() < 0.3:
            self.frozen.append(dice.choice(self.alive))

    def reboot(self) -> None:
        """Restart crashed gateways, which find that their earlier run is over."""
        for name in self.names:
            if name not in [node.name for node in self.alive]:
                self.client.redis.call("DEL", self.client.key("gateway", name))
                self.boot(name)

    def calm_down(self) -> None:
        """Mend everything, let every lock connect and follow its commands, and advance the time."""
        self.frozen.clear()
        self.reboot()
        for node in self.alive:
            if not node.wire.connected:
                node.connected()
        for _ in range(20):
            self.round()
        for unit in self.units:
            unit.connect(self.dice.choice(self.alive))
        for _ in range(800):
            self.round()
            if self.done():
                break
        for _ in range(40):
            self.round()

    def round(self) -> None:
        """Do everything that is due within a quarter of a second."""
        self.pass_time(0.25)
        for node in self.alive:
            node.run()
        for unit in self.units:
            if unit.links:
                unit.live(self.dice, reliable=True)

    def done(self) -> bool:
        return all(self.client.state(command) in ENDED for command in self.commands)


class ModelTests(SynchronousTestCase):
    """Many short runs of a small world, each from its seed."""

    def live(self, seed: int, trouble: bool, steps: int) -> World:
        client = CommandClient(shared_server(), key_prefix())
        self.addCleanup(client.close)
        world = World(client, seed, trouble)
        for _ in range(steps):
            world.act()
        world.calm_down()
        self.check(world, seed)
        return world

    def check(self, world: World, seed: int) -> None:
        written = [data for unit in world.units for data in unit.written]
        for command, marks in world.commands.items():
            record = world.client.record(command)
            where = f"seed {seed}: {command} {record}"
            self.assertIn(record.get("state"), ENDED, where)
            count = sum(mark in data for mark in marks for data in written)
            self.assertLessEqual(count, 1, where)
            if count:
                # Written bytes are never reported as not written.
                self.assertNotIn(record["state"], ("expired", "cancelled", "failed", "invalid"), where)
        self.assertEqual(world.client.under_way(), [], f"seed {seed}")
        for node in world.alive:
            self.assertEqual(node.dispatcher.context.claims.tokens, {}, f"seed {seed}")
            self.assertTrue(
                all(one.session is not None for one in node.dispatcher.executors.values()), f"seed {seed}"
            )
        self.assertEqual(self.flushLoggedErrors(), [], f"seed {seed}")

    def test_without_trouble(self) -> None:
        """Locks come, go, answer and refuse at random: each command ends, by allowed steps."""
        for seed in range(10):
            world = self.live(seed, trouble=False, steps=600)
            for command in world.commands:
                # The gateway publishes the state of a known id again.
                check_edges([state for state, _ in itertools.groupby(world.client.states(command))])

    def test_with_trouble(self) -> None:
        """Gateways crash and freeze, Redis is lost at any request: each command ends, written once at
        most."""
        for seed in range(1000, 1012):
            self.live(seed, trouble=True, steps=900)
