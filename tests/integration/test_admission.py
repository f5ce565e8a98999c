"""Admission with the real daemon, a file or a Redis set, and locks over real sockets."""

import json
import re
import socket
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import (
    ROOT,
    RedisClient,
    ValkeyServer,
    key_prefix,
    shared_server,
    temporary_path,
    wait_until,
)
from tests.support.daemon import Daemon, Lock
from tests.support.reporter import report, stream_events

KNOWN, OTHER, STRANGER = "794308010679", "794308010680", "794308010999"
ACL = ROOT / "etc" / "redis-acl.conf"
#: Seconds between two reviews of the set, plus some for their effect.
REVIEW = 12


class Case(SynchronousTestCase):
    def start(self, *options: str, redis: str | None = None) -> Daemon:
        self.prefix = key_prefix()
        daemon = Daemon("--prefix", self.prefix, *options, redis=redis or shared_server().url)
        self.addCleanup(daemon.discard)
        return daemon.start()

    def client(self) -> RedisClient:
        client = shared_server().client(timeout=60)
        self.addCleanup(client.close)
        return client

    def turned_away(self, daemon: Daemon, device: str = STRANGER) -> None:
        with daemon.lock() as lock:
            lock.send(report(1, device))
            self.assertTrue(lock.closed_within())
            self.assertEqual(lock.taken(), [])

    def dropped(self, daemon: Daemon, reason: str = "not_admitted") -> float:
        return daemon.metrics().get(f'jt709c_dropped_total{{reason="{reason}"}}', 0.0)

    def sessions(self, client: RedisClient) -> list[dict[str, Any]]:
        return [one for one in stream_events(client, self.prefix) if one["kind"] == "session"]

    def malformed(self, client: RedisClient) -> list[dict[bytes, bytes]]:
        entries = client.call("XRANGE", f"{self.prefix}:malformed", "-", "+")
        return [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in entries]


class FileTests(Case):
    def test_file(self) -> None:
        """Only locks in the file are admitted, over TCP and UDP; a new version counts within seconds."""
        path = Path(temporary_path(self))
        path.write_text(f"# the fleet\n0{KNOWN}\n")
        daemon, client = self.start("--devices", str(path)), self.client()
        lock = daemon.lock()
        lock.ask(report(1))
        self.turned_away(daemon)
        with daemon.datagrams() as datagrams:
            datagrams.send(report(2, STRANGER))
            datagrams.send(report(2, STRANGER))
            wait_until(lambda: self.dropped(daemon) == 3)
            datagrams.settimeout(0.2)
            self.assertRaises(TimeoutError, datagrams.recv, 100)
        self.assertEqual({one["device"] for one in stream_events(client, self.prefix)}, {KNOWN})
        (kept,) = self.malformed(client)
        self.assertEqual(
            (kept[b"reason"], kept[b"raw"]), (b"not_admitted", report(1, STRANGER).hex().encode())
        )
        self.assertEqual(len(re.findall("not admitted", daemon.log())), 1)
        self.assertEqual(client.call("KEYS", f"{self.prefix}:*:{STRANGER}"), [])

        path.write_text("no id\n")
        wait_until(lambda: "line 1: 'no id'" in daemon.log())
        lock.ask(report(2))
        path.write_text(f"{STRANGER}\n")
        self.assertTrue(lock.closed_within())
        with daemon.lock() as admitted:
            admitted.ask(report(1, STRANGER))
        wait_until(lambda: daemon.metrics()["jt709c_sessions"] == 0)
        ends = [one for one in self.sessions(client) if one["device"] == KNOWN]
        self.assertEqual([one["data"]["reason"] for one in ends], ["connected", "not_admitted"])
        self.assertNotIn("Traceback", daemon.log())


class SetTests(Case):
    def test_added_and_taken_out(self) -> None:
        """An added id counts at once; the lock of a removed one is disconnected at the next review."""
        daemon, client = self.start("--admit", "redis"), self.client()
        self.turned_away(daemon, KNOWN)
        client.call("SADD", f"{self.prefix}:allowed", KNOWN, OTHER)
        with daemon.lock() as lock, daemon.lock() as other, daemon.datagrams() as datagrams:
            lock.send(*[report(serial) for serial in range(1, 51)])
            self.assertEqual(len(lock.answers(50)), 50)
            other.ask(report(1, OTHER))
            datagrams.send(report(1, STRANGER))
            client.call("SREM", f"{self.prefix}:allowed", KNOWN)
            self.assertTrue(lock.closed_within(REVIEW))
            other.ask(report(2, OTHER))
            datagrams.settimeout(0.2)
            self.assertRaises(TimeoutError, datagrams.recv, 100)
        self.assertEqual(self.dropped(daemon), 3)
        self.assertEqual(
            {one["device"] for one in stream_events(client, self.prefix)},
            {KNOWN, OTHER},
        )
        self.assertNotIn("Traceback", daemon.log())

    def test_large_set(self) -> None:
        """With 100,000 ids in the set, a lock is admitted as quickly, and the gateway makes no copy."""
        daemon, client = self.start("--admit", "redis"), self.client()
        with daemon.lock() as first:
            client.call("SADD", f"{self.prefix}:allowed", KNOWN)
            first.ask(report(1))
            before = daemon.memory()
            for start in range(0, 100_000, 10_000):
                ids = [str(794400000000 + number) for number in range(start, start + 10_000)]
                client.call("SADD", f"{self.prefix}:allowed", *ids)
            locks: list[Lock] = []
            latencies = []
            for number in range(0, 100_000, 1_000):
                locks.append(daemon.lock())
                asked = time.monotonic()
                locks[-1].ask(report(1, str(794400000000 + number)))
                latencies.append(time.monotonic() - asked)
            self.assertTrue(sorted(latencies)[50] < 0.05, sorted(latencies)[50])
            # A copy of the set would take ten MiB.
            self.assertTrue(daemon.memory() - before < 6 << 20, daemon.memory() - before)
            self.turned_away(daemon, STRANGER)
            for lock in locks:
                lock.close()

    def test_wrong_type(self) -> None:
        """A key of another type is logged in one line; locks wait, and are admitted when it is repaired."""
        daemon, client = self.start("--admit", "redis"), self.client()
        client.call("RPUSH", f"{self.prefix}:allowed", KNOWN)
        with daemon.lock() as lock:
            lock.send(report(1))
            wait_until(lambda: "WRONGTYPE" in daemon.log())
            client.call("DEL", f"{self.prefix}:allowed")
            client.call("SADD", f"{self.prefix}:allowed", KNOWN)
            self.assertEqual(len(lock.answers(1, timeout=REVIEW)), 1)
        self.assertEqual(daemon.log().count("WRONGTYPE"), 1)
        self.assertNotIn("Traceback", daemon.log())

    def test_command(self) -> None:
        """A command for a lock that is not admitted waits, and is sent when it is admitted and connects."""
        daemon, client = self.start("--admit", "redis"), self.client()
        command = {"id": "one", "device": KNOWN, "command": "query", "params": {"what": "firmware"}}
        client.call("RPUSH", f"{self.prefix}:commands", json.dumps(command))

        def state() -> Any:
            return client.call("HGET", f"{self.prefix}:command:one", "state")

        wait_until(lambda: state() == b"waiting")
        self.turned_away(daemon, KNOWN)
        self.assertEqual(state(), b"waiting")
        client.call("SADD", f"{self.prefix}:allowed", KNOWN)
        with daemon.lock() as lock:
            answers = lock.ask(report(1)) + lock.answers(1)
            self.assertTrue(any(b"BASE,1" in one for one in answers), answers)


class OutageTests(SynchronousTestCase):
    def test_redis_away(self) -> None:
        """While Redis is away a new lock waits, unanswered; then it is admitted or rejected."""
        server = ValkeyServer("--appendonly", "yes").start()
        self.addCleanup(server.discard)
        with server.client() as client:
            client.call("SADD", "jt709c:allowed", KNOWN, OTHER)
        daemon = Daemon("--admit", "redis", redis=server.url).start()
        self.addCleanup(daemon.discard)
        with daemon.lock() as here, daemon.lock() as comes, daemon.lock() as stranger:
            here.ask(report(1))
            server.kill()
            wait_until(lambda: daemon.get("/readyz")[0] == 503)
            here.send(report(2))
            comes.send(report(1, OTHER), report(2, OTHER))
            stranger.send(report(1, STRANGER))
            self.assertEqual(comes.answers_within(0.5), [])
            self.assertFalse(stranger.closed_within(0.1))
            server.start()
            self.assertEqual(len(comes.answers(2)), 2)
            self.assertEqual(len(here.answers(1)), 1)
            self.assertTrue(stranger.closed_within())
        self.assertNotIn("Traceback", daemon.log())


class UserTests(SynchronousTestCase):
    """The users of etc/redis-acl.conf."""

    def test_users(self) -> None:
        """The gateway's user has all rights for admission; the operator's may edit the set and nothing
        else."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        with server.client() as client:
            for line in ACL.read_text().splitlines():
                if line.startswith("user "):
                    client.call("ACL", "SETUSER", *line.split()[1:])
        url = f"redis://jt709c-gateway:change-me-gateway@127.0.0.1:{server.port}"
        daemon = Daemon("--admit", "redis", redis=url).start()
        self.addCleanup(daemon.discard)
        with server.client() as operator, daemon.lock() as lock:
            operator.call("AUTH", "jt709c-operator", "change-me-operator")
            for command in (
                ("MULTI",),
                ("DEL", "jt709c:allowed"),
                ("SADD", "jt709c:allowed", KNOWN, OTHER),
                ("EXEC",),
                ("SCARD", "jt709c:allowed"),
                ("XRANGE", "jt709c:malformed", "-", "+"),
            ):
                operator.call(*command)
            lock.ask(report(1))
            operator.call("SREM", "jt709c:allowed", KNOWN)
            for command in (
                ("RPUSH", "jt709c:commands", "x"),
                ("DEL", "jt709c:events"),
                ("DEL", "jt709c:malformed"),
                ("GET", f"jt709c:secret:{KNOWN}"),
            ):
                with self.assertRaisesRegex(Exception, "NOPERM"):
                    operator.call(*command)
        self.assertNotIn("NOPERM", daemon.log())


class DatagramTests(Case):
    def test_stranger_at_a_locks_address(self) -> None:
        """Datagrams of another device at a lock's address neither disturb the lock nor are answered."""
        daemon, client = self.start("--admit", "redis"), self.client()
        client.call("SADD", f"{self.prefix}:allowed", KNOWN)
        with daemon.datagrams() as datagrams:
            for serial in range(1, 21):
                datagrams.send(report(serial, STRANGER))
                datagrams.send(report(serial))
                self.assertEqual(len(datagrams.recv(100)), 20)
            datagrams.settimeout(0.2)
            self.assertRaises(socket.timeout, datagrams.recv, 100)
        self.assertEqual([one["data"]["state"] for one in self.sessions(client)], ["online"])
