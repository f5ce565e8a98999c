"""A fleet of real gateways is moved to four partitions, and back: each command is carried out once."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ValkeyServer, wait_until
from tests.support.cli import Running, run
from tests.support.commands import CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.partitioned import over

#: Seconds after which a killed gateway counts as dead.
_TTL = "3"


def _named(**locks: FakeLock) -> Any:
    return locks.items()


class MovedFleetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ValkeyServer("--appendonly", "yes", "--appendfsync", "always").start()
        self.addCleanup(self.server.discard)
        self.locks = [FakeLock(new_device()) for _ in range(6)]
        for lock in self.locks:
            self.addCleanup(lock.close)

    def gateway(self, partitions: int) -> Daemon:
        options = ("--gateway", "gw1", "--partitions", str(partitions), "--gateway-ttl", _TTL)
        daemon = Daemon(*options, redis=self.server.url, udp=False).start()
        self.addCleanup(daemon.discard)
        return daemon

    def client(self, partitions: int) -> CommandClient:
        """A client of so many partitions, which pushes to the wrong ones."""
        client = CommandClient(self.server)
        if partitions > 1:
            client.redis.close()
            client.redis = over(self.server.client, partitions)()  # type: ignore[assignment]
        self.addCleanup(client.close)
        return client

    def repartition(self, before: int, after: int, *kills: str) -> None:
        """Move all; the process is killed when each of these steps begins."""
        options = ("repartition", "--redis", self.server.url, "--from", str(before), "--to", str(after))
        for step in kills:
            with Running(*options) as running:
                while not running.notice().startswith(step):
                    self.assertIsNone(running.process.poll())
                running.process.kill()
                running.wait()
        ended = run(*options)
        self.assertEqual(ended.returncode, 0, ended.stderr)

    def refused(self, before: int, after: int) -> str:
        """The error of a move that can't begin."""
        ended = run("repartition", "--redis", self.server.url, "--from", str(before), "--to", str(after))
        self.assertEqual(ended.returncode, 2)
        return ended.stderr

    def assert_opened_once(self, lock: FakeLock, times: int = 1) -> None:
        lock.beat()
        unlocks = [one for one in lock.commands if b"ELOCK,1,1" in one]
        self.assertEqual(len(unlocks), times, lock.commands)

    def test_commands(self) -> None:
        """Waiting, sent, acknowledged and not yet taken ones, a killed gateway, and killed moves."""
        waits, writes, confirms, behind, pushed, idle = self.locks
        daemon, client = self.gateway(1), self.client(1)
        for lock in self.locks:
            lock.connect(daemon)
        waits.close()
        wait_until(lambda: not client.redis.call("EXISTS", client.key("session", waits.device)))
        commands = {name: client.unlock(lock.device, ttl=3600) for name, lock in _named(waits=waits)}
        client.wait(commands["waits"], "waiting")
        for name, lock in _named(writes=writes, confirms=confirms, behind=behind):
            commands[name] = client.unlock(lock.device, ttl=3600)
            serial = lock.next_unlock()
            client.wait(commands[name], "sent")
            if name == "confirms":
                lock.say_yes(serial)
                client.wait(commands[name], "acknowledged")
        commands["second"] = client.unlock(behind.device, ttl=3600)
        client.wait(commands["second"], "queued", "waiting")
        self.assertIn("gateways run: gw1; stop them all", self.refused(1, 4))
        daemon.kill()
        commands["pushed"] = client.unlock(pushed.device, ttl=3600)
        wait_until(lambda: not client.redis.call("EXISTS", client.key("gateway", "gw1")))
        history = client.redis.call("XRANGE", client.key("history", confirms.device), "-", "+")
        self.repartition(1, 4, "comparing keys", "deleting the old keys")

        daemon, client = self.gateway(4), self.client(4)
        moved = client.redis.call("XRANGE", client.key("history", confirms.device), "-", "+")
        self.assertEqual(moved[: len(history)], history)
        for lock in self.locks:
            lock.connect(daemon)
        self.finish(client, commands)
        self.assertEqual(daemon.stop(), 0)
        self.repartition(4, 1)
        daemon, client = self.gateway(1), self.client(1)
        for lock in self.locks:
            lock.connect(daemon)
        for name in ("waits", "confirms", "second", "pushed"):
            self.assertEqual(client.state(commands[name]), "confirmed", name)
        for lock in (waits, writes, confirms, pushed):
            self.assert_opened_once(lock)
        self.assert_opened_once(behind, 2)
        self.assert_opened_once(idle, 0)

    def finish(self, client: CommandClient, commands: dict[str, str]) -> None:
        """All locks carry out what they get after the move."""
        waits, writes, confirms, behind, pushed, idle = self.locks
        # That was written before, and its outcome is not known: it is never written again.
        for name in ("writes", "behind"):
            record = client.wait(commands[name], "uncertain")
            self.assertIn("gateway died after writing", record["reason"])
        for name, lock in _named(waits=waits, second=behind, pushed=pushed):
            lock.say_yes(lock.next_unlock())
            lock.open()
            client.wait(commands[name], "confirmed")
        confirms.open()
        client.wait(commands["confirms"], "confirmed")
        for lock in (waits, writes, confirms, pushed):
            self.assert_opened_once(lock)
        self.assert_opened_once(behind, 2)
        self.assert_opened_once(idle, 0)
        client.wait_for_none_under_way()
