"""Connects virtual locks to a gateway, each over its own TCP connection or UDP socket."""

from collections.abc import Callable, Sequence
from math import inf
from random import random
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.base import DelayedCall

from jt709c_gateway.simulator.connections import Link, Target, TcpLink, UdpLink
from jt709c_gateway.simulator.lock import VirtualLock

#: Seconds for a graceful close of a connection.
CLOSE_TIMEOUT: Final = 5.0
#: Problems of connections (`Counters.problems`), beside the reasons of failed attempts.
CLOSED_UNANSWERED: Final = "closed by the gateway before it answered"
DATAGRAM_REJECTED: Final = "datagram rejected"
_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 30.0


class LockClient:
    """Drives one lock: passes time and bytes to it, sends its frames, and reconnects."""

    def __init__(
        self, reactor: Any, lock: VirtualLock, target: Target, on_problem: Callable[[str], None]
    ) -> None:
        self.lock = lock
        self._on_problem = on_problem
        self._reactor = reactor
        self._link: Link = (UdpLink if target.transport == "udp" else TcpLink)(self, reactor, target)
        #: Whether a link is open or being opened.
        self._open = False
        self._tick_call: DelayedCall | None = None
        self._retry_call: DelayedCall | None = None
        self._abort_call: DelayedCall | None = None
        self._failures = 0
        #: Whether the gateway has sent anything over the current link.
        self._answered = False
        self._stopped: defer.Deferred[None] | None = None

    def start(self) -> None:
        """Switch the lock on and connect it."""
        self.lock.start(self._reactor.seconds())
        self._look()

    def drain(self) -> None:
        """Let the lock only deliver the reports that it has."""
        self.lock.drain(self._reactor.seconds())
        self._look()

    def stop(self) -> "defer.Deferred[None]":
        """Switch the lock off; fires when the link is closed, at the latest after `CLOSE_TIMEOUT`."""
        if self._stopped is None:
            self._stopped = defer.Deferred()
            _cancel(self._tick_call)
            _cancel(self._retry_call)
            if self._open:
                self._hang_up()
            else:
                self._stopped.callback(None)
        return self._stopped

    # Called by the link.

    def link_up(self) -> None:
        """Handle an open link."""
        self.lock.counters.up += 1
        self.lock.counters.connects += 1
        self._answered = False
        self._send(self.lock.connected(self._reactor.seconds()))

    def received(self, data: bytes, *, datagram: bool = False) -> None:
        """Process bytes of the gateway."""
        # Only after an answer is the next attempt immediate: some peers accept and close at once.
        self._failures = 0
        self._answered = True
        self._send(self.lock.receive(data, self._reactor.seconds(), datagram=datagram))

    def link_down(self) -> None:
        """Handle a lost link."""
        self.lock.counters.up -= 1
        self.lock.counters.disconnects += 1
        if self._abort_call is None and not self._answered:
            self._on_problem(CLOSED_UNANSWERED)
        self.lock.disconnected(self._reactor.seconds())
        self._gone()

    def link_failed(self, reason: str) -> None:
        """Handle a failed attempt to connect."""
        self.lock.counters.connect_failures += 1
        if self._stopped is None:
            self._on_problem(reason)
        self._gone()

    def link_refused(self) -> None:
        """Count a rejected datagram; the reports are resent without an answer."""
        self.lock.counters.connect_failures += 1
        self._on_problem(DATAGRAM_REJECTED)

    def _gone(self) -> None:
        self._open = False
        _cancel(self._abort_call)
        self._abort_call = None
        if self._stopped is not None:
            self._stopped.callback(None)
        elif self.lock.awake:
            self._retry_call = self._reactor.callLater(_retry_delay(self._failures), self._look)
            self._failures += 1

    def _hang_up(self) -> None:
        if self._abort_call is None:
            self._abort_call = self._reactor.callLater(CLOSE_TIMEOUT, self._link.abort)
            self._link.close()

    def _send(self, frames: list[bytes]) -> None:
        if frames:
            self._link.write(frames)
        self._look()

    def _tick(self) -> None:
        self._send(self.lock.tick(self._reactor.seconds()))

    def _look(self) -> None:
        """Connect or disconnect as the lock sleeps or wakes, and schedule the next tick."""
        if self._stopped is not None:
            return
        if not self.lock.awake:
            if self._open:
                self._hang_up()
        elif not self._open and not _pending(self._retry_call):
            self._open = True
            self._link.open()
        due = self.lock.next_due
        # An early call is harmless; rescheduling after each answer would be expensive.
        if not _pending(self._tick_call) or (self._tick_call and self._tick_call.getTime() > due):
            _cancel(self._tick_call)
            self._tick_call = None
            if due != inf:
                delay = max(0.0, due - self._reactor.seconds())
                self._tick_call = self._reactor.callLater(delay, self._tick)


def _retry_delay(failures: int) -> float:
    """Seconds until the next attempt after a number of failures, randomized over the fleet."""
    return min(_FIRST_RETRY * 1.5 ** min(failures, 50), _LAST_RETRY) * (0.5 + random())


def _pending(call: DelayedCall | None) -> bool:
    return call is not None and bool(call.active())


def _cancel(call: DelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


class Fleet:
    """Many locks in one process, which share one `counters` object."""

    def __init__(
        self,
        reactor: Any,
        locks: Sequence[VirtualLock],
        target: Target,
        *,
        ramp: float = 500.0,
        on_problem: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`ramp` is the number of locks started per second, so that no backlog overflows.

        `on_problem` is called with each description of a problem when it occurs for the first time.
        """
        if not locks:
            raise ValueError("a fleet has at least one lock")
        self.locks = locks
        self.counters = locks[0].counters
        self._reactor = reactor
        self._ramp = ramp
        self._on_problem = on_problem
        self._clients = [LockClient(reactor, lock, target, self._problem) for lock in locks]
        self._started = 0
        self._began = 0.0
        self._next: DelayedCall | None = None

    @property
    def unanswered(self) -> int:
        """The number of reports that the gateway hasn't answered, sent or not."""
        return sum(lock.unanswered for lock in self.locks)

    def _problem(self, description: str) -> None:
        self.counters.problems[description] += 1
        if self.counters.problems[description] == 1:
            self._on_problem(description)

    def start(self) -> None:
        """Start the locks one after the other."""
        self._began = self._reactor.seconds()
        self._start_some()

    def _start_some(self) -> None:
        self._next = None
        allowed = int((self._reactor.seconds() - self._began) * self._ramp) + 1
        for client in self._clients[self._started : allowed]:
            client.start()
        self._started = min(allowed, len(self._clients))
        if self._started < len(self._clients):
            self._next = self._reactor.callLater(max(1 / self._ramp, 0.02), self._start_some)

    def drain(self) -> None:
        """Let the locks only deliver the reports that they have."""
        self._stop_starting()
        for client in self._clients[: self._started]:
            client.drain()

    def stop(self) -> "defer.Deferred[None]":
        """Stop all locks; fires when the last connection is closed."""
        self._stop_starting()
        stopped = defer.gatherResults([client.stop() for client in self._clients[: self._started]])
        return stopped.addCallback(lambda _: None)

    def _stop_starting(self) -> None:
        _cancel(self._next)


def device_ids(first: str, count: int, digits: int = 12) -> list[str]:
    """Generate ids of `count` locks from `first` on; raise ValueError if they exceed `digits`."""
    if not (first.isascii() and first.isdigit() and len(first) <= digits):
        raise ValueError(f"the first id has 1 to {digits} digits, unlike {first!r}")
    if int(first) + count > 10**digits:
        raise ValueError(f"the ids would have more than {digits} digits")
    return [str(int(first) + number) for number in range(count)]
