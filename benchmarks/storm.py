"""Everybody comes at once: how long until the last lock of a fleet that was cut off has its answer?

All locks connect in the same moment, each sends one report when it is connected, and waits for its answer.
With `--backlog 50` the endpoint asks for as few waiting connections as Twisted does by itself.
"""

import argparse
import select
import socket
import struct
import time
from pathlib import Path
from typing import Any

from common import LOOPBACK, BenchmarkError, above_zero, allow_connections, latencies_ms, positive, run
from common import report as last_line
from frames import TAILS, Reports, fresh_devices
from gateway_process import Daemon

#: Locks behind one source address: fewer than the ports that there are for outgoing connections.
_PER_SOURCE = 10_000
_RESET = struct.pack("ii", 1, 0)


class Storm:
    """So many sockets, connecting at once."""

    def __init__(self, port: int, locks: int) -> None:
        self._poll = select.epoll()
        self._sockets: dict[int, tuple[socket.socket, bytes]] = {}
        self._port = port
        reports = Reports()
        common, check = reports.entries[0]
        for number, wire in enumerate(fresh_devices(locks)):
            head, own = reports.head(wire)
            one = socket.socket()
            one.setblocking(False)
            # A reset at the end: else thousands of ports would be held for a minute after each run.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.bind((f"127.0.1.{1 + number // _PER_SOURCE}", 0))
            self._sockets[one.fileno()] = (one, head + common + TAILS[own ^ check])
        #: Seconds from the beginning: of each connection that is there, and of each answer.
        self.connected: list[float] = []
        self.answered: list[float] = []
        self.refused = 0

    def run(self, limit: float) -> None:
        """From the first SYN to the last answer, or for `limit` seconds."""
        began = time.perf_counter()
        for number, (one, _) in self._sockets.items():
            one.connect_ex((LOOPBACK, self._port))
            self._poll.register(number, select.EPOLLOUT)
        left = len(self._sockets)
        while left and (now := time.perf_counter() - began) < limit:
            for number, events in self._poll.poll(min(1.0, limit - now)):
                left -= self._step(number, events, time.perf_counter() - began)

    def _step(self, number: int, events: int, now: float) -> bool:
        """What has happened to a socket; whether it is done."""
        one, report = self._sockets[number]
        if events & select.EPOLLOUT and not one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.connected.append(now)
            one.send(report)
            self._poll.modify(number, select.EPOLLIN)
            return False
        self._poll.unregister(number)
        try:
            answer = one.recv(4096)
        except OSError:
            answer = b""
        if answer:
            self.answered.append(now)
        else:
            self.refused += 1
        return True

    def close(self) -> None:
        """Let go of all."""
        for one, _ in self._sockets.values():
            one.close()
        self._poll.close()


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """One storm against a fresh gateway."""
    limits = [f"--max-connections-per-address={_PER_SOURCE}"]
    with Daemon(options.data_dir, limits, backlog=options.backlog) as daemon:
        storm = Storm(daemon.port, options.locks)
        try:
            storm.run(options.limit)
        finally:
            storm.close()
        if daemon.redis.published() < len(storm.answered):
            raise BenchmarkError("answered, but not in the stream")
    connected, answered = latencies_ms(storm.connected), latencies_ms(storm.answered)
    return {
        "locks": options.locks,
        "answered": len(storm.answered),
        "refused": storm.refused,
        "connected_ms": connected,
        "answered_ms": answered,
    }, daemon.valkey


def main() -> None:
    """One storm for each round."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--locks", type=positive, default=20_000, help="at once [%(default)s]")
    parser.add_argument("--backlog", type=positive, help="of the endpoint [the gateway's own]")
    parser.add_argument("--rounds", type=positive, default=1, help="storms [%(default)s]")
    parser.add_argument("--limit", type=above_zero, default=120.0, help="seconds it may take [%(default)s]")
    parser.add_argument(
        "--data-dir", type=Path, help="on which disk the gateway's data are [the system's choice]"
    )
    options = parser.parse_args()
    allow_connections(options.locks)
    rounds = []
    for _ in range(options.rounds):
        result, valkey = measure(options)
        rounds.append(result)
        print(
            f"{result['answered']:>6} of {result['locks']} answered"
            f"   connected: p50 {result['connected_ms'].get('p50', 0) / 1000:.2f} s,"
            f" last {result['connected_ms'].get('max', 0) / 1000:.2f} s"
            f"   answered: p50 {result['answered_ms'].get('p50', 0) / 1000:.2f} s,"
            f" last {result['answered_ms'].get('max', 0) / 1000:.2f} s"
        )
        if result["answered"] < result["locks"]:
            raise BenchmarkError(f"{result['locks'] - result['answered']} locks got no answer")
    middle = sorted(rounds, key=lambda one: one["answered_ms"]["max"])[len(rounds) // 2]
    last_line("storm", options, middle, valkey=valkey)


if __name__ == "__main__":
    run(main)
