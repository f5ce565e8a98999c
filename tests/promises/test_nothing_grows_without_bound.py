"""Promise 4: nothing grows without bound."""

import random
import selectors
import socket
import threading
import time
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from tests.support import LOOPBACK, ValkeyServer, key_prefix, wait_until
from tests.support.daemon import Daemon
from tests.support.partitioned import PARTITIONS, shared_store
from tests.support.reporter import report
from tests.vectors import binary, location, part

MEGABYTE = 1 << 20
#: Allowed growth of the daemon in bytes. Its allocator keeps some; nothing piles up.
GROWTH = 60 * MEGABYTE
#: Seconds of bombardment.
DURATION = 3.0


def noise(seed: int) -> bytes:
    return random.Random(seed).randbytes(65536)


#: Inputs of a hostile or broken peer, each repeated forever.
BOMBS = {
    "noise": noise(1),
    "noise with flags": bytes(0x7E if byte < 16 else byte for byte in noise(2)),
    "flag without an end": b"\x7e" + b"\x02\x00" * 32767,
    "flags": b"\x7e" * 65536,
    "bracket without an end": b"(7" + b"9" * 65534,
    "brackets": b"(1" * 32768,
    "length beyond all": b"\x24\x79\x43\x08\x01\x06\x00\x00\xff\xff" + b"\x00" * 65000,
    "dollars": b"\x24\x79\x43\x08\x01\x06\x00\x00\x04\x00" * 6000,
    "parts of no message": b"".join(part(0x0704, bytes(1000), n * 7, 60, 1) for n in range(60)),
    "check": (binary(0x0200, location())[:-2] + b"\x00\x7e") * 800,
}


class Bombardment(threading.Thread):
    """Sends on many connections as fast as possible and reconnects when one is closed."""

    def __init__(self, port: int, bombs: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._bombs = bombs
        self.sent = 0
        self.closed = 0
        self.enough = threading.Event()

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        for bomb in self._bombs:
            self._connect(selector, bomb)
        while not self.enough.is_set():
            for key, _ in selector.select(0.1):
                bomb, position = key.data
                try:
                    count = key.fileobj.send(bomb[position : position + 16384])  # type: ignore[union-attr]
                except BlockingIOError:
                    continue
                except OSError:
                    self._close(selector, key)
                    self.closed += 1
                    self._connect(selector, bomb)
                    continue
                self.sent += count
                selector.modify(key.fileobj, key.events, (bomb, (position + count) % len(bomb)))
        for key in list(selector.get_map().values()):
            self._close(selector, key)

    def _connect(self, selector: selectors.BaseSelector, bomb: bytes) -> None:
        one = socket.create_connection((LOOPBACK, self._port), 10)
        one.setblocking(False)
        selector.register(one, selectors.EVENT_WRITE, (bomb, 0))

    @staticmethod
    def _close(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        selector.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]


class NothingGrowsWithoutBoundTests(SynchronousTestCase):
    def start(self, *options: str) -> Daemon:
        self.prefix = key_prefix()
        daemon = Daemon("--prefix", self.prefix, *options, redis=shared_store(self.prefix).url)
        self.addCleanup(daemon.discard)
        return daemon.start()

    def count(self, name: str) -> int:
        with shared_store(self.prefix).client() as client:
            return client.call("XLEN", f"{self.prefix}:{name}")

    def bombs(self) -> Iterator[bytes]:
        for number in range(60):
            yield list(BOMBS.values())[number % len(BOMBS)]

    def test_bombardment(self) -> None:
        """Sixty peers send anything but frames: memory stays bounded, and locks are served quickly."""
        daemon = self.start("--malformed-max", "1000")
        with daemon.lock() as lock:
            lock.ask(report(1))
            before = daemon.memory()
            bombardment = Bombardment(daemon.tcp_port, list(self.bombs()))
            bombardment.start()
            ends = time.monotonic() + DURATION
            latencies, serial, most = [], 1, 0
            while time.monotonic() < ends:
                serial += 1
                asked = time.monotonic()
                lock.ask(report(serial))
                latencies.append(time.monotonic() - asked)
                most = max(most, daemon.memory())
            bombardment.enough.set()
            bombardment.join(10)
            latencies.sort()
            self.assertTrue(bombardment.sent > 5 * MEGABYTE, bombardment.sent)
            self.assertTrue(bombardment.closed > 0)
            self.assertTrue(most - before < GROWTH, f"{(most - before) / MEGABYTE:.0f} MiB more")
            self.assertLess(latencies[len(latencies) // 2], 1.0)
            self.assertTrue(latencies[-1] < 2.0, latencies[-1])
        log = daemon.log()
        self.assertNotIn("Traceback", log)
        self.assertTrue(len(log) < 20_000, len(log))
        self.assertTrue(self.count("malformed") <= 1100 * max(PARTITIONS, 1))
        wait_until(lambda: daemon.metrics()["jt709c_links"] == 0)

    def test_redis_full(self) -> None:
        """While Redis accepts nothing, reading stops at a limit; afterwards the rest is read from the
        locks."""
        server = ValkeyServer("--maxmemory-policy", "noeviction").start()
        self.addCleanup(server.discard)
        daemon = Daemon("--max-unacked", "200", redis=server.url).start()
        self.addCleanup(daemon.discard)
        with server.client() as client:
            client.call("CONFIG", "SET", "maxmemory", "1mb")
            try:
                locks = [daemon.lock() for _ in range(4)]
                for number, lock in enumerate(locks):
                    frames = [report(serial, f"79430801000{number}") for serial in range(1, 1001)]
                    lock.send(*frames)
                wait_until(lambda: daemon.metrics()["jt709c_pauses_total"] >= 4)
                self.assertTrue(daemon.metrics()["jt709c_unacked"] <= 210)
                with daemon.datagrams() as datagrams:
                    datagrams.send(report(1, "794308010009"))
                    wait_until(lambda: daemon.metrics().get('jt709c_dropped_total{reason="unacked"}'))
            finally:
                client.call("CONFIG", "SET", "maxmemory", "0")
        for lock in locks:
            self.assertEqual(len(lock.answers(1000)), 1000)
            lock.close()
        for word in ("committer failed", "handling data", "post-commit callback"):
            self.assertNotIn(word, daemon.log())

    def test_connections(self) -> None:
        """Connections above the limit are closed at once and counted; a free place is used."""
        daemon = self.start("--max-connections", "5", "--max-connections-per-address", "3")
        locks = [daemon.lock() for _ in range(3)]
        with daemon.lock() as fourth:
            self.assertTrue(fourth.closed_within())
        others = [daemon.lock(source="127.0.0.2") for _ in range(2)]
        with daemon.lock(source="127.0.0.3") as sixth:
            self.assertTrue(sixth.closed_within())
        metrics = daemon.metrics()
        self.assertEqual(metrics['jt709c_dropped_total{reason="max_per_address"}'], 1)
        self.assertEqual(metrics['jt709c_dropped_total{reason="max_connections"}'], 1)
        locks[0].close()
        wait_until(lambda: daemon.metrics()["jt709c_links"] == 4)
        with daemon.lock() as again:
            again.ask(report(1))
        for lock in locks + others:
            lock.close()

    def test_strangers(self) -> None:
        """Unknown ids over TCP and UDP are neither stored nor answered, however many."""
        daemon = self.start("--admit", "redis")
        with shared_store(self.prefix).client() as client:
            client.call("SADD", f"{self.prefix}:allowed", "794308010679")
        count = 20_000
        with daemon.lock() as lock, daemon.datagrams() as datagrams:
            lock.ask(report(1))
            before = daemon.memory()
            for number in range(count):
                datagrams.send(report(1, str(794400000000 + number)))
                if number % 100 == 0:
                    with daemon.lock() as stranger:
                        stranger.send(report(1, str(794500000000 + number)))
                        self.assertTrue(stranger.closed_within())
                    lock.ask(report(number + 2))
            refused = 'jt709c_dropped_total{reason="not_admitted"}'
            wait_until(lambda: daemon.metrics()[refused] > count // 2)
            datagrams.settimeout(0.1)
            self.assertRaises(TimeoutError, datagrams.recv, 100)
            metrics = daemon.metrics()
            self.assertEqual((metrics["jt709c_sessions"], metrics["jt709c_links"]), (1, 1))
            self.assertEqual(metrics["jt709c_answers_total"], 1 + count // 100)
            self.assertTrue(daemon.memory() - before < GROWTH)
        self.assertTrue(len(daemon.log()) < 20_000)
        self.assertTrue(20 <= self.count("malformed") <= 40)
        with shared_store(self.prefix).client() as client:
            self.assertEqual(client.call("ZCARD", f"{self.prefix}:devices"), 1)

    def test_lock_that_never_stops(self) -> None:
        """A lock that sends all the time is throttled to its rate, and each report is answered."""
        daemon = self.start("--max-rate", "100")
        hasty = daemon.lock()
        hasty.send(*[report(serial) for serial in range(1, 1301)])
        started = time.monotonic()
        self.assertEqual(len(hasty.answers(1000)), 1000)
        with daemon.lock() as lock:
            for serial in range(1, 20):
                lock.ask(report(serial, "794308010001"), timeout=1)
        self.assertEqual(len(hasty.answers(300, timeout=20)), 300)
        self.assertTrue(time.monotonic() - started > 300 / 100 - 1)
        self.assertTrue(daemon.metrics()["jt709c_rate_pauses_total"] >= 1)
        self.assertIn("sends more than 100 events a second", daemon.log())
        hasty.close()

    def test_peer_that_never_reads(self) -> None:
        """A lock that never reads its answers is no longer read from; others don't notice."""
        daemon = self.start("--max-rate", "0")
        before = daemon.memory()
        greedy = daemon.lock()
        greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        greedy.socket.settimeout(1.0)
        frames = b"".join(binary(0x0002, serial=serial) for serial in range(1, 2001))
        sent = 0
        with self.assertRaises(TimeoutError):
            while sent < 200 * MEGABYTE:
                sent += greedy.socket.send(frames)
        self.assertTrue(daemon.memory() - before < GROWTH)
        with daemon.lock() as lock:
            lock.ask(report(1, "794308010001"), timeout=5)
        greedy.close()
        self.assertNotIn("Traceback", daemon.log())
