"""Load: many locks in one process, in a closed or an open loop.

Closed loop (`--in-flight`): each lock keeps so many frames unanswered and sends the next when an answer
comes. Open loop (`--rate`): so many frames a second in all, whether answers come or not; latency counts from
the moment a frame was due, so a server that stalls is charged for every frame that it made late, and for the
half millisecond that the generator itself may be late.
"""

import argparse
import gc
import json
import select
import socket
import struct
import sys
import time
from collections import deque
from typing import Any

from common import LOOPBACK, BenchmarkError, above_zero, allow_connections, latencies_ms, positive, run
from frames import TAILS, Reports, fresh_devices

_READ = 65536
_RESET = struct.pack("ii", 1, 0)
_DRAIN = 20.0
_AT_A_TIME = 100
#: Seconds that the open loop sleeps at least: to wake for each of many frames would take much of the cores.
_TICK = 0.0005
_LOST = "the server closed a connection"


class Lock:
    """One connection, and what its frames are made of."""

    __slots__ = ("backlog", "check", "flags", "head", "next", "recv", "send", "sent", "socket")

    def __init__(self, wire: bytes, reports: Reports, first: int, connected: socket.socket) -> None:
        self.socket = connected
        self.recv = connected.recv
        self.send = connected.send
        self.head, self.check = reports.head(wire)
        self.next = first
        #: Flags seen of an answer that has not wholly arrived.
        self.flags = 0
        #: When each unanswered frame was sent, or was to be.
        self.sent: deque[float] = deque()
        self.backlog = b""


class Generator:
    """A fleet of locks on one port. With `together` a lock sends all frames that are due with one call."""

    def __init__(self, port: int, count: int, together: bool = False, skip: int = 0) -> None:
        self._together = together
        self._reports = Reports()
        self._poll = select.epoll()
        self.locks: list[Lock] = []
        self._by_fd: dict[int, Lock] = {}
        self._full: set[Lock] = set()
        self.sent = self.answered = 0
        self.latest = 0.0
        self.latencies: list[float] = []
        for index, wire in enumerate(fresh_devices(count, skip)):
            if not index:
                self._reports.verify(wire)
            self._connect(port, wire, index)

    def _connect(self, port: int, wire: bytes, index: int) -> None:
        connected = socket.socket()
        # A reset at the end: else thousands of ports would be held for a minute after each run.
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        # Several addresses, since one has not ports enough for the largest fleets.
        connected.bind((f"127.0.0.{1 + index // 4000}", 0))
        connected.connect((LOOPBACK, port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        lock = Lock(wire, self._reports, self._reports.first(index), connected)
        self.locks.append(lock)
        self._by_fd[connected.fileno()] = lock
        self._poll.register(connected.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """Hang up."""
        for lock in self.locks:
            lock.socket.close()
        self._poll.close()

    def reset(self) -> None:
        """Count from here."""
        self.sent = self.answered = 0
        self.latest = 0.0
        self.latencies = []

    def _write(self, lock: Lock, count: int, due: float) -> None:
        """Send a lock's next frames, all due at the same moment: one call for each, as locks do it."""
        entries = self._reports.entries
        head, own, first = lock.head, lock.check, lock.next
        lock.next = last = first + count
        if last > len(entries):
            self._reports.extend()
        frames = [head + common + TAILS[own ^ check] for common, check in entries[first:last]]
        lock.sent.extend([due] * count)
        self.sent += count
        if self._together:
            frames = [b"".join(frames)]
        for frame in frames:
            self._send(lock, frame)

    def _send(self, lock: Lock, data: bytes) -> None:
        if lock.backlog:
            lock.backlog += data
            return
        try:
            written = lock.send(data)
        except BlockingIOError:
            written = 0
        except OSError:
            raise BenchmarkError(_LOST) from None
        if written < len(data):
            lock.backlog = data[written:]
            self._full.add(lock)

    def _write_on(self) -> None:
        """Try again where the network took no more."""
        for lock in list(self._full):
            try:
                lock.backlog = lock.backlog[lock.send(lock.backlog) :]
            except BlockingIOError:
                continue
            except OSError:
                raise BenchmarkError(_LOST) from None
            if not lock.backlog:
                self._full.discard(lock)

    def _read(self, timeout: float) -> list[tuple[Lock, int]]:
        """Whose answers came, and how many. An answer has two flags, and no other byte looks like one."""
        answered = []
        by_fd, clock, record = self._by_fd, time.perf_counter, self.latencies.append
        for fd, _ in self._poll.poll(timeout):
            lock = by_fd[fd]
            try:
                data = lock.recv(_READ)
            except OSError:
                data = b""
            if not data:
                raise BenchmarkError(_LOST)
            flags = lock.flags + data.count(b"\x7e")
            count = flags >> 1
            lock.flags = flags & 1
            if count:
                now = clock()
                sent = lock.sent
                if count > len(sent):
                    raise BenchmarkError("there were more answers than frames")
                if count == 1:
                    record(now - sent.popleft())
                else:
                    for _ in range(count):
                        record(now - sent.popleft())
                answered.append((lock, count))
                self.answered += count
        return answered

    def introduce(self) -> None:
        """One frame of each lock, which opens its session; some at a time, and each answered."""
        for first in range(0, len(self.locks), _AT_A_TIME):
            for lock in self.locks[first : first + _AT_A_TIME]:
                self._write(lock, 1, time.perf_counter())
            self.drain()

    def closed_loop(self, in_flight: int, seconds: float) -> None:
        """Keep so many frames of each lock unanswered for so long; then wait for the last answers."""
        clock, write = time.perf_counter, self._write
        end = clock() + seconds
        for lock in self.locks:
            write(lock, in_flight, clock())
        while (now := clock()) < end:
            if self._full:
                self._write_on()
            for lock, count in self._read(end - now):
                write(lock, count, clock())
        self.drain()

    def open_loop(self, rate: float, seconds: float) -> None:
        """Send frames when they are due, in turn over the locks; then wait for the last answers."""
        clock, write, locks = time.perf_counter, self._write, self.locks
        count, total = len(locks), int(rate * seconds)
        start = clock()
        position = 0
        while position < total:
            now = clock()
            until = min(total, int((now - start) * rate) + 1)
            while position < until:
                due = start + position / rate
                write(locks[position % count], 1, due)
                position += 1
                self.latest = max(self.latest, clock() - due)
            if self._full:
                self._write_on()
            pause = start + position / rate - clock()
            if pause > _TICK:
                select.select([self._poll], (), (), pause)
            elif pause > 0:
                time.sleep(_TICK)
            self._read(0)
        self.drain()

    def drain(self) -> None:
        """Wait until every frame is answered; BenchmarkError when answers are missing in the end."""
        end = time.perf_counter() + _DRAIN
        while self.answered < self.sent and time.perf_counter() < end:
            if self._full:
                self._write_on()
            self._read(0.05)
        if self.answered != self.sent:
            raise BenchmarkError(f"{self.sent - self.answered} of {self.sent} frames were not answered")


def measure(generator: Generator, options: argparse.Namespace) -> dict[str, Any]:
    """One run, from the first frame to the last answer."""
    generator.reset()
    started, used = time.perf_counter(), time.process_time()
    if options.rate:
        generator.open_loop(options.rate, options.seconds)
    else:
        generator.closed_loop(options.in_flight, options.seconds)
    elapsed, used = time.perf_counter() - started, time.process_time() - used
    return {
        "sent": generator.sent,
        "answered": generator.answered,
        "seconds": round(elapsed, 3),
        "frames_per_second": round(generator.answered / elapsed),
        "latency_ms": latencies_ms(generator.latencies),
        "latest_send_ms": round(generator.latest * 1000, 3),
        "generator_cpu": round(used, 3),
    }


def _wait_for_line(wait: bool) -> None:
    """Wait for a line on standard input if `wait`; exit at its end."""
    if wait and not sys.stdin.readline():
        sys.exit(0)


def main() -> None:
    """Connect, warm up, measure, say what came out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--port", type=positive, required=True, help="where the server listens on loopback")
    parser.add_argument("--locks", type=positive, default=1000, help="connections [%(default)s]")
    parser.add_argument(
        "--in-flight", type=positive, default=1, help="frames unanswered per lock [%(default)s]"
    )
    parser.add_argument("--rate", type=above_zero, help="frames a second in all, instead of --in-flight")
    parser.add_argument(
        "--together", action="store_true", help="send the frames that a lock has to send in one call"
    )
    parser.add_argument("--skip", type=int, default=0, help="ids that other generators use [%(default)s]")
    parser.add_argument("--seconds", type=above_zero, default=5.0, help="how long to send [%(default)s]")
    parser.add_argument("--warm-up", type=above_zero, default=0.5, help="seconds before that [%(default)s]")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait for a line on standard input before measuring and before leaving",
    )
    options = parser.parse_args()
    allow_connections(options.locks)
    generator = Generator(options.port, options.locks, options.together, options.skip)
    try:
        generator.introduce()
        generator.closed_loop(1 if options.rate else options.in_flight, options.warm_up)
        gc.collect()
        gc.disable()
        if options.wait:
            print(json.dumps({"connected": len(generator.locks)}), flush=True)
        _wait_for_line(options.wait)
        print(json.dumps(measure(generator, options)), flush=True)
        _wait_for_line(options.wait)
    finally:
        generator.close()


if __name__ == "__main__":
    run(main)
