"""Several partitions on other things than a plain Redis Cluster: plain servers, Sentinel, TLS, and users."""

import json
import subprocess
from typing import Any

from twisted.internet import threads
from twisted.trial.unittest import SynchronousTestCase, TestCase

from jt709c_gateway.redis.partitions import Partitions
from tests.support import LOOPBACK, RedisClient, ValkeyServer, wait_until
from tests.support.acl import ACL_FILE, COMMANDER, GATEWAY, READER, denials, log_in, password_of
from tests.support.certificates import Authority, TlsFront
from tests.support.commands import FakeLock
from tests.support.daemon import Daemon
from tests.support.failover import FailOver, cut_replication
from tests.support.partitioned import PartitionedClient, PartitionedCluster, device_in
from tests.support.redis_groups import SentinelGroup
from tests.support.reporter import published, report

COUNT = 4
LAYOUT = Partitions("jt709c", COUNT)
LAYOUT_SHARDED = Partitions("jt709c", COUNT, sharded=True)
_OPTIONS = ("--partitions", str(COUNT), "--gateway", "gw1", "--gateway-ttl", "3", "--redis-timeout", "2")


def unlock(command: str, device: str, **more: Any) -> str:
    """Return an entry with an unlock command."""
    fields = {"id": command, "device": device, "command": "unlock", "params": {"password": "483920"}}
    return json.dumps(fields | more)


class ServersCase(SynchronousTestCase):
    """`servers` have each every so-many-th partition."""

    servers: list[Any]

    def daemon(self, redis: str, *options: str, ready: bool = True) -> Daemon:
        """Start a gateway."""
        daemon = Daemon(*_OPTIONS, *options, redis=redis)
        self.addCleanup(daemon.discard)
        return daemon.start(ready=ready)

    def redis(self) -> PartitionedClient:
        """Return a client that reaches each partition at its server."""

        def connect(number: int, timeout: float) -> RedisClient:
            found: RedisClient = self.servers[number % len(self.servers)].client(timeout)
            return found

        client = PartitionedClient(LAYOUT, connect)
        self.addCleanup(client.close)
        return client

    def lock_in(self, number: int, daemon: Daemon) -> FakeLock:
        """Return a lock of a partition that has reported."""
        lock = FakeLock(device_in(LAYOUT, number)).connect(daemon)
        self.addCleanup(lock.close)
        return lock

    def open_each(self, daemon: Daemon, numbers: range | list[int] = range(COUNT)) -> None:
        """A lock of each partition gets an unlock command that was pushed elsewhere, and opens."""
        redis = self.redis()
        for number in numbers:
            lock = self.lock_in(number, daemon)
            target = numbers[(list(numbers).index(number) + 1) % len(numbers)]
            entry = unlock(f"c-{number}", lock.device, reply_to=f"r-{number}")
            redis.at(target, "RPUSH", LAYOUT.keys[target].commands, entry)
            lock.say_yes(lock.next_unlock())
            lock.open()
            reply = LAYOUT.number(f"r-{number}")
            if reply in numbers:
                found = redis.at(reply, "BLPOP", LAYOUT.keys[reply].reply(f"r-{number}"), 30)
                self.assertEqual(json.loads(found[1])["state"], "confirmed")
            lock.close()


class PlainServersTests(ServersCase):
    """Two plain servers."""

    def setUp(self) -> None:
        self.servers = [
            ValkeyServer("--appendonly", "yes", "--appendfsync", "always").start() for _ in range(2)
        ]
        for one in self.servers:
            self.addCleanup(one.discard)
        self.url = " ".join(one.url for one in self.servers)

    def test_divided(self) -> None:
        """Even partitions are on the first server, odd ones on the second."""
        daemon = self.daemon(self.url)
        self.open_each(daemon)
        for number, server in enumerate(self.servers):
            with server.client() as client:
                markers = [client.call("EXISTS", keys.partitions) for keys in LAYOUT]
                self.assertEqual(markers, [1 - number, number] * 2)
                self.assertEqual(client.call("KEYS", "jt709c:[^{]*"), [])

    def test_one_is_down(self) -> None:
        """One of them is down: the partitions of the other go on, then everything does."""
        daemon = self.daemon(self.url)
        lost = self.lock_in(1, daemon)
        self.servers[1].kill()
        lost.send(lost.location())
        self.open_each(daemon, [0, 2])
        away = json.loads(daemon.get("/readyz")[1])["partitions_away"]
        self.assertEqual(away, [1, 3])
        self.assertEqual(lost.connection.answers_within(0.2), [])
        self.servers[1].start()
        lost.connection.answers()
        wait_until(lambda: not json.loads(daemon.get("/readyz")[1])["partitions_away"])
        self.open_each(daemon, [1, 3])

    def test_fsync(self) -> None:
        """With `--durability fsync` each partition answers what its server has synced."""
        daemon = self.daemon(self.url, "--durability", "fsync", "--durability-timeout", "0.5")
        self.open_each(daemon)
        with self.servers[1].client() as client:
            client.call("CONFIG", "SET", "appendfsync", "no")
        with daemon.lock() as synced, daemon.lock() as unsynced:
            synced.ask(report(1, device_in(LAYOUT, 0, 3)))
            unsynced.send(report(1, device_in(LAYOUT, 1, 3)))
            self.assertEqual(unsynced.answers_within(1.5), [])
            synced.ask(report(2, device_in(LAYOUT, 0, 3)))
            with self.servers[1].client() as client:
                client.call("CONFIG", "SET", "appendfsync", "always")
            unsynced.answers()

    def test_another_number(self) -> None:
        """A gateway with another number of partitions ends, and says what to do in one line."""
        self.daemon(self.url).stop()
        for count in ("1", "8"):
            redis = self.url if count != "1" else self.servers[0].url
            daemon = Daemon("--partitions", count, redis=redis)
            self.addCleanup(daemon.discard)
            daemon.start(ready=False)
            self.assertNotEqual(daemon.wait(), 0)
            said = [line for line in daemon.log().splitlines() if line.startswith("jt709c-gateway: ")]
            self.assertEqual(len(said), 1, daemon.log())
            self.assertIn("jt709c repartition", said[0])
            self.assertNotIn("Traceback", daemon.log())


class SentinelTests(ServersCase):
    """A primary with its replica and sentinels, which has all partitions."""

    def test_primary_dies(self) -> None:
        """The primary dies: all partitions go on at its replica."""
        group = SentinelGroup()
        self.addCleanup(group.discard)
        self.servers = [group.primary]
        daemon = self.daemon(group.url)
        self.open_each(daemon)
        group.replicated()
        old = group.primary
        old.kill()
        wait_until(lambda: daemon.get("/readyz")[0] == 503)
        daemon.wait_ready()
        self.assertIsNot(group.primary, old)
        locks = [self.lock_in(number, daemon) for number in range(COUNT)]
        for lock in locks:
            lock.report()

    def test_replicas(self) -> None:
        """With `--durability replicas:1` nothing is answered that no replica has."""
        servers = FailOver(self)
        self.servers = [servers.primary]
        daemon = self.daemon(
            servers.sentinel.url, "--durability", "replicas:1", "--durability-timeout", "0.3"
        )
        locks = [self.lock_in(number, daemon) for number in range(COUNT)]
        cut_replication(servers.primary)
        for lock in locks:
            lock.send(lock.location())
        self.assertEqual([lock.connection.answers_within(0.3) for lock in locks], [[]] * COUNT)
        cut_replication(servers.primary, cut=False)
        for lock in locks:
            lock.connection.answers()


class GuardedServersTests(ServersCase):
    """The users of etc/redis-acl.conf, changed for several partitions as its comment says."""

    def guarded(self, *expressions: str) -> None:
        """Start two servers with the users, after these further changes."""
        lines = "".join(
            line for line in ACL_FILE.read_text().splitlines(keepends=True) if line.startswith("user")
        )
        changes = ["s/change-me-/secret-of-/", *expressions]
        arguments = ["sed", *(part for one in changes for part in ("-e", one))]
        users = subprocess.run(arguments, input=lines, capture_output=True, text=True, check=True).stdout
        self.servers = []
        for _ in range(2):
            server = ValkeyServer()
            path = server.directory / "users.acl"
            path.write_text(users)
            server._options = ("--aclfile", str(path))
            self.servers.append(server.start())
            self.addCleanup(server.discard)

    def url_of(self, user: str) -> str:
        """Return the URL of the servers as a user."""
        return " ".join(f"redis://{user}:{password_of(user)}@{LOOPBACK}:{one.port}" for one in self.servers)

    def comment(self, mark: str) -> str:
        """Return a `sed` expression from the file's comment."""
        text = ACL_FILE.read_text().replace("\n# ", " ")
        return next(one for one in text.split("'") if "s/" in one and mark in one)

    def check(self, *options: str) -> None:
        daemon = self.daemon(self.url_of(GATEWAY), *options)
        self.open_each(daemon)
        # Also what happens only in an outage: entries that are stored, outcomes that are delivered later.
        self.servers[1].pause()
        with self.servers[0].client() as client:
            entry = unlock("p", device_in(LAYOUT, 1, 9), ttl=1, reply_to="x")
            client.call("RPUSH", LAYOUT.keys[0].commands, entry)
            wait_until(lambda: client.call("LLEN", LAYOUT.keys[0].transfers))
        self.servers[1].resume()
        redis = self.redis()
        wait_until(lambda: redis.at(1, "HGET", LAYOUT.keys[1].command("p"), "state") == b"expired")
        number = LAYOUT.number("x")
        self.assertTrue(redis.at(number, "BLPOP", LAYOUT.keys[number].reply("x"), 30))
        self.assertEqual(json.loads(daemon.get("/readyz")[1]).get("rights_missing"), None)
        daemon.stop()
        for server in self.servers:
            with server.client() as admin:
                self.assertEqual(denials(admin, GATEWAY), [])

    def test_classic(self) -> None:
        """The gateway is denied nothing; a reader hears all events by one pattern."""
        self.guarded(self.comment("~jt709c"))
        with log_in(self.servers[0].client(), READER, password_of(READER)) as reader:
            reader.call("PSUBSCRIBE", "jt709c:event:*")
            self.check()
            self.assertEqual(reader.read()[1], b"jt709c:event:*")
        with log_in(self.servers[0].client(), COMMANDER, password_of(COMMANDER)) as commander:
            commander.call("RPUSH", LAYOUT.keys[0].commands, "x")

    def test_sharded(self) -> None:
        """The same with sharded pub/sub."""
        self.guarded(self.comment("~jt709c"), self.comment("&jt709c"))
        channel = LAYOUT_SHARDED.keys[0].channel("location", device_in(LAYOUT, 0))
        with log_in(self.servers[0].client(), READER, password_of(READER)) as reader:
            reader.call("SSUBSCRIBE", channel)
            self.check("--pubsub", "sharded")
            kind, heard, event = reader.read()
            self.assertEqual((kind, heard), (b"smessage", channel.encode()))
            self.assertEqual(json.loads(event)["device"], device_in(LAYOUT, 0))


class ShardedClusterTests(SynchronousTestCase):
    """`--pubsub sharded` on a cluster."""

    def test_each_on_its_node(self) -> None:
        """Events are heard on the node of their partition, and cross no other."""
        cluster = PartitionedCluster(replicas=False, sharded=True).start()
        self.addCleanup(cluster.discard)
        daemon = Daemon("--pubsub", "sharded", redis=cluster.url)
        self.addCleanup(daemon.discard)
        daemon.start()
        for number in range(COUNT):
            device = device_in(cluster.layout, number)
            channel = cluster.layout.keys[number].channel("location", device)
            with cluster.node_of(number).client() as client, daemon.lock() as lock:
                client.call("SSUBSCRIBE", channel)
                lock.ask(report(1, device))
                self.assertEqual(json.loads(client.read()[2])["device"], device)


class TlsTests(TestCase):
    """Two servers behind TLS. Blocking calls run in a thread, beside the TLS here."""

    timeout = 90

    async def test_report(self) -> None:
        """Each partition is reached over TLS, and its server's certificate is checked."""
        authority = Authority(self)
        servers = [ValkeyServer().start() for _ in range(2)]
        for one in servers:
            self.addCleanup(one.discard)
        fronts = [TlsFront(self, one.port, authority.issue("localhost")) for one in servers]
        url = " ".join(f"rediss://localhost:{one.tls_port}" for one in fronts)
        daemon = Daemon(*_OPTIONS, "--redis-ca", authority.file, redis=url, udp=False)
        self.addCleanup(daemon.discard)

        def run() -> None:
            daemon.start()
            for number in range(COUNT):
                with daemon.lock() as lock:
                    lock.ask(report(1, device_in(LAYOUT, number)))

        await threads.deferToThread(run)
        found = []
        for number, keys in enumerate(LAYOUT):
            with servers[number % 2].client() as client:
                found.append(len(published(client, keys.prefix)))
        self.assertEqual(found, [1] * COUNT)
