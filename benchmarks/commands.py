"""Commands: how many a second go through the queue, and how long one takes to a lock when nothing else is on.

The commands ask for the lock's firmware, which moves nothing. The virtual locks answer at once.
"""

import argparse
import json
import select
import socket
import time
from pathlib import Path
from typing import Any

from blocking_redis import Redis
from common import (
    LOOPBACK,
    BenchmarkError,
    above_zero,
    allow_connections,
    latencies_ms,
    positive,
    report,
    run,
)
from frames import Reports, fresh_devices
from gateway_process import Daemon

_QUEUE = "jt709c:commands"
_DONE = 'jt709c_commands_total{state="done"}'
#: Commands that the gateway lets wait for one lock.
_PER_LOCK = 100
_PUSHED_AT_ONCE = 500
_PATIENCE = 60.0
_PAUSE = 0.01


class Lock:
    """A lock that has reported once and answers every command."""

    def __init__(self, port: int, wire: bytes, reports: Reports) -> None:
        self.device = wire.hex()
        self.socket = socket.create_connection((LOOPBACK, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(reports.frame(wire, 0))
        if not self.socket.recv(4096):
            raise BenchmarkError("the gateway closed a connection")
        self._buffer = b""

    def answer(self) -> int:
        """Read what has come, and answer the commands in it; how many there were."""
        data = self.socket.recv(65536)
        if not data:
            raise BenchmarkError("the gateway closed a connection")
        *commands, self._buffer = (self._buffer + data).split(b")")
        if commands:
            self.socket.sendall(b"".join([command + b",JT709C_20260101_V1.00)" for command in commands]))
        return len(commands)


def _command(lock: Lock) -> str:
    return json.dumps({"device": lock.device, "command": "query", "params": {"what": "firmware"}})


def _wait_done(daemon: Daemon, count: int) -> None:
    end = time.monotonic() + _PATIENCE
    while daemon.metric(_DONE) < count:
        if time.monotonic() > end:
            raise BenchmarkError(f"only {daemon.metric(_DONE):.0f} of {count} commands were done")
        time.sleep(0.005)


def throughput(daemon: Daemon, locks: list[Lock], count: int) -> float:
    """Commands a second, from the first push until the last command's outcome is published."""
    by_fd = {lock.socket.fileno(): lock for lock in locks}
    poll = select.epoll()
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    commands = [_command(locks[index % len(locks)]) for index in range(count)]
    before = int(daemon.metric(_DONE))
    end = time.monotonic() + _PATIENCE
    started = time.perf_counter()
    for first in range(0, count, _PUSHED_AT_ONCE):
        daemon.redis.call("RPUSH", _QUEUE, *commands[first : first + _PUSHED_AT_ONCE])
    answered = 0
    while answered < count:
        for fd, _ in poll.poll(1):
            answered += by_fd[fd].answer()
        if time.monotonic() > end:
            raise BenchmarkError(f"only {answered} of {count} commands came to their locks")
    _wait_done(daemon, before + count)
    poll.close()
    return count / (time.perf_counter() - started)


def latency(redis: Redis, locks: list[Lock], seconds: float) -> list[float]:
    """Seconds from the push until a command's bytes are at its lock, one command at a time."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        lock = locks[len(taken) % len(locks)]
        command = _command(lock)
        started = time.perf_counter()
        redis.send("RPUSH", _QUEUE, command)
        while not lock.answer():
            pass
        taken.append(time.perf_counter() - started)
        redis.reply()
        time.sleep(_PAUSE)
    return taken


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--commands", type=positive, default=2000, help="commands in the queue [%(default)s]")
    parser.add_argument("--locks", type=positive, default=200, help="locks they are for [%(default)s]")
    parser.add_argument("--seconds", type=above_zero, default=4.0, help="of single commands [%(default)s]")
    parser.add_argument(
        "--data-dir", type=Path, help="on which disk the gateway's data are [the system's choice]"
    )
    options = parser.parse_args()
    if options.commands > _PER_LOCK * options.locks:
        parser.error(f"--commands: at most {_PER_LOCK} per lock may wait")
    allow_connections(options.locks)
    with Daemon(options.data_dir, ["--max-connections-per-address", "50000"]) as daemon:
        reports = Reports()
        locks = [Lock(daemon.port, wire, reports) for wire in fresh_devices(options.locks)]
        throughput(daemon, locks, min(options.commands, len(locks)))
        rate = throughput(daemon, locks, options.commands)
        waited = latencies_ms(latency(daemon.redis, locks, options.seconds))
        for lock in locks:
            lock.socket.close()
        valkey = daemon.valkey
    print(f"{rate:,.0f} commands/s, {options.commands} commands over {options.locks} locks")
    print(f"push to lock when idle: p50 {waited['p50']:.2f} ms, p99 {waited['p99']:.2f} ms")
    results: dict[str, Any] = {"commands_per_second": round(rate), "push_to_lock_ms": waited}
    report("commands", options, results, valkey=valkey)


if __name__ == "__main__":
    run(main)
