"""The other side of `soak.py`: virtual locks of every dialect, and peers that speak none.

It reads commands on standard input and answers with lines of JSON: `look` returns the counts since the last
`look`, `drain` the same once every report has been answered or can't be. Anything else ends it.
"""

import argparse
import itertools
import json
import random
from typing import Any

from common import LOOPBACK, allow_connections, positive, run
from twisted.internet import defer, protocol, reactor, stdio, task
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.protocols.basic import LineOnlyReceiver

from jt709c_gateway.simulator.client import Fleet, device_ids
from jt709c_gateway.simulator.connections import Target
from jt709c_gateway.simulator.counters import Counters, Latencies
from jt709c_gateway.simulator.lock import VirtualLock
from jt709c_gateway.simulator.options import DIALECTS, FIRST_IDS, JT701, JT709, LockOptions

#: Seconds awake and asleep: at each waking a lock connects anew, with what it has recorded meanwhile.
_NAPS = (9.0, 1.5)
#: One in so many locks of the plain dialect sends datagrams instead.
_UDP_EVERY = 5
#: Garbage peers at a time, and seconds between two new ones.
_STRANGERS = 8
_STRANGER_EVERY = 0.25
_DRAIN_CHECK = 0.1
_DRAIN = 20.0
_running: Any = reactor


def make_locks(count: int, interval: float, sublocks: int) -> tuple[list[VirtualLock], list[VirtualLock]]:
    """The locks over TCP, the dialects in turn, and those over UDP."""
    counters = Counters()
    ids = {dialect: iter(device_ids(FIRST_IDS[dialect], count)) for dialect in DIALECTS}
    stream, datagrams = [], []
    for number, dialect in enumerate(itertools.islice(itertools.cycle(DIALECTS), count)):
        by_udp = dialect == JT709 and number // len(DIALECTS) % _UDP_EVERY == 0
        options = LockOptions(
            dialect=dialect,
            interval=interval,
            heartbeat=5.0,
            resend_after=10.0,
            sleep=None if by_udp else _NAPS,
            card_every=7,
            relock=3.0,
            sublocks=sublocks if dialect == JT701 else 0,
            ask_time=30.0,
            memory=500,
            seed=number,
        )
        (datagrams if by_udp else stream).append(VirtualLock(next(ids[dialect]), options, counters))
    return stream, datagrams


class _Stranger(protocol.Protocol):
    """Sends what is no frame, or half of one, and waits to be thrown out, or leaves by itself."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def connectionMade(self) -> None:
        transport: Any = self.transport
        kind = self._dice.randrange(4)
        noise = self._dice.randbytes(self._dice.randrange(1, 400))
        if kind == 0:
            transport.write(noise)
        elif kind == 1:
            # Begins like a frame, with a length that never comes.
            transport.write(b"\x7e\x02\x00\x03\xff" + noise)
        elif kind == 2:
            transport.write(b"".join(b"\x7e" + noise[at : at + 20] + b"\x7e" for at in range(0, 400, 20)))
        else:
            transport.write(b"(" + noise)
            _running.callLater(self._dice.random(), transport.abortConnection)


class Strangers:
    """So many at a time, and new ones as the old go."""

    def __init__(self, port: int) -> None:
        self._endpoint = TCP4ClientEndpoint(_running, LOOPBACK, port, timeout=5)
        self._dice = random.Random(709)
        self._there: list[Any] = []
        self.came = 0

    def come(self) -> None:
        """One more, if there is room."""
        self._there = [one for one in self._there if one.transport.connected]
        if len(self._there) < _STRANGERS:
            stranger = _Stranger(self._dice)
            connecting = connectProtocol(self._endpoint, stranger)
            connecting.addCallbacks(lambda _: self._there.append(stranger), lambda _: None)
            self.came += 1


class Soak(LineOnlyReceiver):
    """Executes the commands of standard input."""

    delimiter = b"\n"

    def __init__(self, fleets: list[Fleet], strangers: Strangers) -> None:
        self._fleets, self._strangers = fleets, strangers
        self._counters = fleets[0].counters

    def lineReceived(self, line: bytes) -> None:
        """One thing to do."""
        if line == b"look":
            self._tell()
        elif line == b"drain":
            defer.Deferred.fromCoroutine(self._drain()).addErrback(lambda failure: failure.printTraceback())
        else:
            self.connectionLost()

    def connectionLost(self, reason: Any = None) -> None:
        """Nobody is there any more who would tell."""
        if _running.running:
            _running.stop()

    async def _drain(self) -> None:
        for fleet in self._fleets:
            fleet.drain()
        limit = _running.seconds() + _DRAIN
        while self._unanswered() and _running.seconds() < limit:
            await task.deferLater(_running, _DRAIN_CHECK)
        self._tell()

    def _unanswered(self) -> int:
        return sum(fleet.unanswered for fleet in self._fleets)

    def _tell(self) -> None:
        counters = self._counters
        latencies, counters.latencies = counters.latencies, Latencies()
        names = ("sent", "answered", "resent", "lost", "up", "connects", "commands", "unlocked", "unreadable")
        said: dict[str, Any] = {name: getattr(counters, name) for name in names}
        for percent in (50, 99):
            seconds = latencies.percentile(percent)
            said[f"p{percent}_ms"] = None if seconds is None else round(seconds * 1000, 3)
        said |= {"unanswered": self._unanswered(), "strangers": self._strangers.came}
        self.sendLine(json.dumps(said).encode())


def main() -> None:
    """Run until a command ends it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--port", type=positive, required=True, help="TCP and UDP port of the gateway")
    parser.add_argument("--locks", type=positive, required=True, help="how many")
    parser.add_argument("--interval", type=float, required=True, help="seconds between two reports of a lock")
    parser.add_argument("--sublocks", type=positive, required=True, help="behind each jt701 master")
    options = parser.parse_args()
    allow_connections(options.locks)
    stream, datagrams = make_locks(options.locks, options.interval, options.sublocks)
    fleets = [Fleet(_running, stream, Target("tcp", LOOPBACK, options.port))]
    if datagrams:
        fleets.append(Fleet(_running, datagrams, Target("udp", LOOPBACK, options.port)))
    strangers = Strangers(options.port)
    stdio.StandardIO(Soak(fleets, strangers))
    _running.callWhenRunning(lambda: [fleet.start() for fleet in fleets])
    task.LoopingCall(strangers.come).start(_STRANGER_EVERY)
    _running.run()


if __name__ == "__main__":
    run(main)
