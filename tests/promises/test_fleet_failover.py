"""Sentinel and Redis Cluster: real servers fail over, and gateways follow."""

import json
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, wait_until
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.redis_groups import RedisCluster, SentinelGroup

PREFIX = "{jt709c}"


class FailoverTestCase(SynchronousTestCase):
    """A gateway and a lock; the servers are the subclass's."""

    prefix = "jt709c"
    servers: Any

    def daemon(self, redis: str, name: str = "gw1", ready: bool = True, **options: Any) -> Daemon:
        """Start a gateway on these servers."""
        arguments = ("--gateway", name, "--prefix", self.prefix, "--gateway-ttl", "2", "--redis-timeout", "2")
        daemon = Daemon(*arguments, redis=redis, **options).start(ready=ready)
        self.addCleanup(daemon.discard)
        return daemon

    def lock_at(self, daemon: Daemon) -> FakeLock:
        """Return a lock that has reported to this gateway."""
        lock = FakeLock(new_device()).connect(daemon)
        self.addCleanup(lock.close)
        return lock

    def client(self, server: Any) -> CommandClient:
        """Return a command client of this server."""
        client = CommandClient(server, self.prefix)
        self.addCleanup(client.close)
        return client

    def open_lock(self, client: CommandClient, lock: FakeLock) -> None:
        """Push, write, answer and confirm an unlock command."""
        command = client.unlock(lock.device)
        lock.say_yes(lock.next_unlock())
        lock.open()
        client.wait(command, "confirmed")

    def report_again(self, lock: FakeLock) -> None:
        """Repeat a report until it is answered, over a new connection when the old one is closed."""
        frame = lock.location()

        def answered() -> bool:
            assert lock.connection is not None
            lock.send(frame)
            return any(one.startswith(b"\x7e\x80\x01") for one in lock.connection.answers_within(0.3))

        wait_until(answered, message="the lock gets no answer")


class SentinelTests(FailoverTestCase):
    """A primary, its replica, three sentinels."""

    def setUp(self) -> None:
        self.servers = SentinelGroup()
        self.addCleanup(self.servers.discard)

    def test_primary_dies(self) -> None:
        """The primary is killed: the gateway is not ready until it has found the new one, and goes on
        there."""
        daemon = self.daemon(self.servers.url)
        lock = self.lock_at(daemon)
        old = self.servers.primary
        self.open_lock(self.client(old), lock)
        self.servers.replicated()
        old.kill()
        wait_until(lambda: daemon.get("/readyz")[0] == 503, message="readyz does not go down")
        self.report_again(lock)
        new = self.servers.primary
        self.assertIsNot(new, old)
        daemon.wait_ready()
        client = self.client(new)
        self.open_lock(client, lock)
        self.assertEqual(client.redis.call("HGET", client.key("session", lock.device), "gateway"), b"gw1")
        # The new primary had no scripts.
        self.assertNotIn("NOSCRIPT", daemon.log())


class ClusterTests(FailoverTestCase):
    """Three primaries, and a replica of the one that has the slot."""

    prefix = PREFIX

    def setUp(self) -> None:
        self.servers = RedisCluster(PREFIX)
        self.addCleanup(self.servers.discard)

    def test_everything(self) -> None:
        """Two gateways configured with other nodes: reports, events, commands, moving, adoption, limits."""
        first, second = (self.daemon(self.servers.url(*self.servers.others), name) for name in ("gw1", "gw2"))
        client = self.client(self.servers)
        with self.servers.others[0].client() as listener:
            listener.call("PSUBSCRIBE", f"{PREFIX}:event:*")
            lock, other = self.lock_at(first), self.lock_at(second)
            kinds = [json.loads(listener.read()[3])["kind"] for _ in range(4)]
        self.assertEqual(sorted(kinds), ["location", "location", "session", "session"])
        for one in (lock, other):
            self.open_lock(client, one)
        # Alarms, dynamic passwords, malformed input: everything else that the script writes.
        lock.send(lock.location(alarm_bits=0x80), f"({lock.device},1,001,ELOCK,3,529439)".encode())
        lock.beat()
        assert lock.connection is not None
        lock.connection.send(b"\x7e\x02\x00\x00\x00\x7e")
        wait_until(lambda: client.redis.call("XLEN", client.key("malformed")))
        self.assertEqual([one["data"]["name"] for one in client.events("alarm")], ["low_battery"])
        cancelled = client.unlock(new_device())
        client.wait(cancelled, "waiting")
        client.wait(client.command("1", "cancel", {"id": cancelled}), "done")
        expired = client.unlock(new_device(), ttl=1)
        client.wait(expired, "expired")
        # The lock moves; its old connection is closed.
        old, lock.connection = lock.connection, None
        self.addCleanup(old.close)
        lock.connect(second)
        self.assertTrue(old.closed_within(5))
        self.open_lock(client, lock)
        # Its gateway dies during a command.
        command = client.unlock(lock.device)
        lock.next_unlock()
        client.wait(command, "sent")
        second.kill()
        client.wait(command, "uncertain")
        wait_until(lambda: client.events("session", other.device)[-1]["data"]["state"] == "offline")
        self.assertEqual(client.events("session", other.device)[-1]["data"]["reason"], "gateway died")
        log = first.log() + second.log()
        for word in ("CROSSSLOT", "MOVED", "Traceback", "NOSCRIPT"):
            self.assertNotIn(word, log)

    def test_slot_moves(self) -> None:
        """The slot moves to another primary: the gateway follows, and nothing is lost."""
        daemon = self.daemon(self.servers.url(*self.servers.nodes))
        lock = self.lock_at(daemon)
        old = self.servers.holder
        waiting = self.client(old).unlock(new_device())
        self.client(old).wait(waiting, "waiting")
        to = next(one for one in self.servers.nodes[:3] if one is not old)
        self.servers.migrate(to)
        self.report_again(lock)
        client = self.client(to)
        self.open_lock(client, lock)
        self.assertEqual(client.state(waiting), "waiting")
        self.assertIn("MOVED", daemon.log())
        self.assertNotIn("Traceback", daemon.log())

    def test_node_dies(self) -> None:
        """The node with the slot is killed: its replica takes over, and the gateway finds it."""
        daemon = self.daemon(self.servers.url(*self.servers.nodes))
        lock = self.lock_at(daemon)
        old = self.servers.holder
        old.kill()
        wait_until(lambda: daemon.get("/readyz")[0] == 503, message="readyz does not go down")
        self.report_again(lock)
        self.assertIsNot(self.servers.holder, old)
        daemon.wait_ready()
        self.open_lock(self.client(self.servers), lock)

    def test_plain_address(self) -> None:
        """redis:// works with a node that has the slot; otherwise the error names the node that has it."""
        holder, other = self.servers.holder, self.servers.others[0]
        lock = self.lock_at(self.daemon(holder.url))
        self.open_lock(self.client(holder), lock)
        daemon = self.daemon(other.url, "gw2", ready=False)
        wait_until(lambda: "cannot connect" in daemon.log())
        self.assertIn(
            f"another node of this Redis Cluster has our keys, {LOOPBACK}:{holder.port}; use redis+cluster://",
            daemon.log(),
        )
        self.assertEqual(daemon.get("/readyz")[0], 503)
