"""Crashes of the gateway and of Redis: a command has an outcome and opens a lock at most once."""

import json
import os
import random
import signal
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.support import wait_until
from tests.support.commands import CommandClient, FakeLock, check_edges, new_device, new_id
from tests.support.daemon import Daemon
from tests.support.partitioned import store


class CrashCase(SynchronousTestCase):
    """A server of its own, a lock, and gateways that each test starts."""

    def setUp(self) -> None:
        self.server = store("--appendonly", "yes", "--appendfsync", "always").start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)
        self.device = self.lock.device

    def gateway(self, name: str, *options: str) -> Daemon:
        """Start a daemon of that name."""
        daemon = Daemon("--gateway", name, *options, redis=self.server.url, udp=False).start()
        self.addCleanup(daemon.discard)
        return daemon

    def assert_once(self, count: int = 1) -> None:
        """Check that the lock received exactly so many commands."""
        self.lock.beat()
        self.assertEqual(len(self.lock.commands), count, self.lock.commands)

    def open_with(self, command: str) -> None:
        """Let the lock execute one unlock command to its end."""
        self.lock.say_yes(self.lock.next_unlock())
        self.lock.open()
        self.client.wait(command, "confirmed")


class KilledGatewayTests(CrashCase):
    """The daemon is killed, and started again."""

    def test_killed_after_writing(self) -> None:
        """Killed between writing and the answer: uncertain after the restart, and never written again."""
        daemon = self.gateway("gw1")
        self.lock.connect(daemon)
        command = self.client.unlock(self.device)
        self.lock.next_unlock()
        self.client.wait(command, "sent")
        for _ in range(3):
            daemon.kill()
            daemon.start()
            self.lock.connect(daemon)
            record = self.client.wait(command, "uncertain")
            self.assertIn("gateway died after writing", record["reason"])
            self.assert_once()
        self.assertEqual(self.client.states(command), ["queued", "sent", "uncertain"])
        self.client.wait_for_none_under_way()

    def test_next_command_after_crash(self) -> None:
        """Commands behind one that a crash left uncertain are executed."""
        daemon = self.gateway("gw1")
        self.lock.connect(daemon)
        command = self.client.unlock(self.device)
        behind = self.client.unlock(self.device)
        self.lock.next_unlock()
        wait_until(lambda: self.client.state(behind))
        daemon.kill()
        daemon.start()
        self.lock.connect(daemon)
        self.open_with(behind)
        self.assertIn(self.client.state(command), ("uncertain", "confirmed"))
        self.assert_once(2)

    def test_left_in_intake(self) -> None:
        """An entry that a crash left in the gateway's own list is executed after a restart."""
        daemon = self.gateway("gw1")
        daemon.kill()
        command = new_id()
        fields = {"device": self.device, "command": "unlock", "params": {"password": "888888"}}
        self.client.redis.call(
            "RPUSH",
            self.client.key("commands", "intake", "gw1"),
            json.dumps({"id": command, **fields}),
            json.dumps(fields),
        )
        daemon.start()
        self.client.wait(command, "waiting")
        self.lock.connect(daemon)
        self.open_with(command)
        # The one without an id as well, both once.
        self.lock.say_yes(self.lock.next_unlock())
        self.assert_once(2)
        self.assertEqual(self.client.redis.call("LLEN", self.client.key("commands", "intake", "gw1")), 0)

    def claimed(self, gateway: str) -> str:
        """Let a stopped gateway claim a command without writing it; return its id."""
        helper = self.gateway("helper")
        command = self.client.unlock(self.device)
        self.client.wait(command, "waiting")
        helper.stop()
        payload = self.client.redis.call("LPOP", self.client.key("commands", "waiting", self.device))
        self.client.redis.call("HSET", self.client.key("commands", "underway", gateway), command, payload)
        self.client.redis.call("SADD", self.client.key("gateways"), gateway)
        return command

    def test_claimed_and_not_written(self) -> None:
        """A claimed command of which no byte was written is executed after a restart."""
        command = self.claimed("gw1")
        daemon = self.gateway("gw1")
        self.lock.connect(daemon)
        self.open_with(command)
        self.assert_once()
        check_edges(self.client.states(command))

    def test_killed_at_any_moment(self) -> None:
        """Killed again and again, at any moment: each command is written at most once and has an outcome."""
        dice = random.Random(709)
        daemon = self.gateway("gw1", "--confirm-timeout", "1")
        locks = [FakeLock(new_device()) for _ in range(6)]
        commands: dict[str, FakeLock] = {}
        end = time.monotonic() + 10
        for round_ in range(8):
            for lock in locks:
                lock.connect(daemon)
                # Some commands are pushed before the locks connect, some after.
                count = dice.randrange(3)
                for _ in range(count):
                    commands[self.client.unlock(lock.device, timeout=1, ttl=30)] = lock
            moment = time.monotonic() + dice.random() * 0.12
            while time.monotonic() < moment:
                for lock in locks:
                    self.play(lock, dice)
            daemon.kill()
            for lock in locks:
                self.play(lock, dice)
            daemon.start()
            if time.monotonic() > end and round_ > 5:
                break
        for lock in locks:
            lock.connect(daemon)

        def settled() -> bool:
            for lock in locks:
                self.play(lock, dice)
            return not any(
                self.client.state(one) in ("", "queued", "waiting", "sent", "acknowledged")
                for one in commands
            )

        wait_until(settled, message="some commands have not ended")
        for command, lock in commands.items():
            attempts = int(self.client.record(command)["attempts"])
            self.assertLessEqual(attempts, 1, command)
            # A crash may have come between the record of a step and its event.
            check_edges(self.client.states(command), complete=False)
            self.addCleanup(lock.close)
        for lock in locks:
            mine = [command for command in commands if commands[command] is lock]
            serials = [raw.split(b",")[2] for raw in lock.commands]
            recorded = [f"{int(self.client.record(one)['serial'] or -1):03d}".encode() for one in mine]
            self.assertEqual(len(serials), len(set(serials)), "a serial was written twice")
            self.assertTrue(set(serials) <= set(recorded), "bytes without a record")
        self.client.wait_for_none_under_way()

    def play(self, lock: FakeLock, dice: random.Random) -> None:
        """Read the frames of a lock and answer some of them."""
        for serial in lock.unlocks():
            if dice.random() < 0.7:
                lock.try_to(lock.say_yes, serial)
            if dice.random() < 0.5:
                lock.try_to(lock.move)


class SeveralGatewaysTests(CrashCase):
    """One gateway dies, is frozen, or loses the lock, and another goes on."""

    def test_adopted(self) -> None:
        """Another gateway adopts the commands of a dead one: written is uncertain, unwritten is executed."""
        first = self.gateway("gw1", "--gateway-ttl", "1")
        self.lock.connect(first)
        written = self.client.unlock(self.device)
        self.lock.next_unlock()
        self.client.wait(written, "sent")
        unwritten = self.client.unlock(self.device)
        self.client.wait(unwritten, "queued")
        # Pretend that it died elsewhere: the others notice only its silence.
        self.client.redis.call(
            "RPUSH", self.client.key("commands", "intake", "gw1"), '{"id": "third", "device": "1"}'
        )
        first.pause()
        second = self.gateway("gw2", "--gateway-ttl", "1")
        self.client.wait(written, "uncertain")
        self.client.wait("third", "invalid")
        first.kill()
        self.lock.connect(second)
        self.open_with(unwritten)
        self.assert_once(2)
        for command in (written, unwritten):
            check_edges(self.client.states(command))

    def test_frozen_gateway_comes_back(self) -> None:
        """A gateway that was considered dead writes no command that another has adopted."""
        first = self.gateway("gw1", "--gateway-ttl", "1")
        self.lock.connect(first)
        self.lock.beat()
        first.pause()
        second = self.gateway("gw2", "--gateway-ttl", "1")
        command = self.client.unlock(self.device)
        self.client.wait(command, "queued", "waiting")
        gone = self.client.key("gateway", "gw1")
        wait_until(lambda: not self.client.redis.call("EXISTS", gone))
        again = FakeLock(self.device).connect(second)
        self.addCleanup(again.close)
        again.next_unlock()
        self.client.wait(command, "sent")
        first.resume()
        wait_until(lambda: self.client.redis.call("EXISTS", gone))
        # The lock has a newer session: reports over the older connection are dropped, and nothing is written
        # to it.
        self.lock.send(self.lock.frame(0x0002))
        assert self.lock.connection is not None
        self.assertTrue(self.lock.connection.closed_within())
        self.assertEqual(self.lock.unlocks(), [])
        again.beat()
        self.assertEqual(len(again.commands), 1)

    def test_command_finds_the_lock(self) -> None:
        """The lock's gateway sends a command, whichever gateway takes it in, and it is confirmed."""
        first, second = self.gateway("gw1"), self.gateway("gw2")
        locks = [FakeLock(new_device()).connect(daemon) for daemon in (first, second) * 4]
        for lock in locks:
            self.addCleanup(lock.close)
        commands = [self.client.unlock(lock.device) for lock in locks]
        for lock, command in zip(locks, commands, strict=True):
            lock.say_yes(lock.next_unlock())
            lock.open()
            self.client.wait(command, "confirmed")
            lock.beat()
            self.assertEqual(len(lock.commands), 1)
            self.assertEqual(
                sorted(set(self.client.states(command)) - {"acknowledged"}), ["confirmed", "queued", "sent"]
            )

    def test_moves_to_another_gateway(self) -> None:
        """A lock that moves during a command gets it again at the new gateway, if that is harmless."""
        first, second = self.gateway("gw1"), self.gateway("gw2")
        self.lock.connect(first)
        command = self.client.command(self.device, "locate")
        self.lock.next_command()
        old, self.lock.connection = self.lock.connection, None
        self.addCleanup(old.close)
        self.lock.connect(second)
        old.close()
        self.lock.next_command()
        self.client.wait(command, "sent")


class StoppedGatewayTests(CrashCase):
    """The daemon is stopped by a signal."""

    def test_sigterm(self) -> None:
        """SIGTERM waits for the answer to the current command and starts no other."""
        daemon = self.gateway("gw1")
        self.lock.connect(daemon)
        command = self.client.unlock(self.device)
        behind = self.client.unlock(self.device)
        serial = self.lock.next_unlock()
        self.client.wait(behind, "queued")
        os.kill(daemon.pid, signal.SIGTERM)
        wait_until(lambda: "Received SIGTERM" in daemon.log())
        self.lock.refuse(serial)
        self.assertEqual(daemon.stop(), 0)
        self.client.wait(command, "rejected")
        self.assertIn(self.client.state(behind), ("queued", "waiting"))
        daemon.start()
        self.lock.connect(daemon)
        self.open_with(behind)
        self.assert_once(2)

    def test_sigterm_without_answer(self) -> None:
        """Without an answer before the shutdown timeout the command is uncertain, and the daemon ends in
        time."""
        daemon = self.gateway("gw1", "--shutdown-timeout", "1")
        self.lock.connect(daemon)
        command = self.client.unlock(self.device)
        self.lock.next_unlock()
        started = time.monotonic()
        self.assertEqual(daemon.stop(), 0)
        self.assertLess(time.monotonic() - started, 5)
        self.client.wait(command, "uncertain")
        self.client.wait_for_none_under_way()


class RedisFailureTests(CrashCase):
    """Redis is killed and frozen."""

    def test_claimed_by_a_lost_reply(self) -> None:
        """A command claimed by a call whose reply was lost is executed when Redis is back."""
        daemon = self.gateway("gw1")
        self.lock.connect(daemon)
        command = self.client.unlock(new_device())
        self.client.wait(command, "waiting")
        device = self.client.record(command)["device"]
        payload = self.client.redis.call("LPOP", self.client.key("commands", "waiting", device))
        self.client.redis.call("HSET", self.client.key("commands", "underway", "gw1"), command, payload)
        self.client.close()
        self.server.restart()
        self.client = CommandClient(self.server)
        wait_until(lambda: self.client.redis.call("LLEN", self.client.key("commands", "waiting", device)))
        self.lock = FakeLock(device).connect(daemon)
        self.addCleanup(self.lock.close)
        self.open_with(command)
        self.assert_once()

    def test_redis_frozen(self) -> None:
        """Redis hangs during a command: the lock's reports in that time count afterwards."""
        daemon = self.gateway("gw1", "--redis-timeout", "1")
        self.lock.connect(daemon)
        command = self.client.unlock(self.device)
        serial = self.lock.next_unlock()
        self.client.wait(command, "sent")
        self.server.pause()
        self.lock.say_yes(serial)
        wait_until(lambda: "no reply from Redis" in daemon.log())
        self.server.resume()
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.assert_once()
        check_edges(self.client.states(command))
        self.open_with(self.client.unlock(self.device))

    def test_redis_killed(self) -> None:
        """Redis dies while commands are sent and waiting: they go on when it is back."""
        daemon = self.gateway("gw1")
        self.lock.connect(daemon)
        command = self.client.unlock(self.device)
        behind = self.client.unlock(self.device)
        serial = self.lock.next_unlock()
        self.client.wait(command, "sent")
        self.client.wait(behind, "queued")
        self.client.close()
        self.server.kill()
        self.lock.say_yes(serial)
        wait_until(lambda: "lost the connection to Redis" in daemon.log())
        self.server.start()
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock.open()
        self.client.wait(command, "confirmed")
        self.open_with(behind)
        self.assert_once(2)
