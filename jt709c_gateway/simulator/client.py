"""Virtual locks on the network: one TCP connection or one UDP socket for each."""

from collections.abc import Sequence
from math import inf
from random import random
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.base import DelayedCall

from jt709c_gateway.simulator.connections import Link, Target, TcpLink, UdpLink
from jt709c_gateway.simulator.lock import VirtualLock

#: Seconds for a connection to close in good order.
CLOSE_TIMEOUT: Final = 5.0
_FIRST_RETRY: Final = 0.5
_LAST_RETRY: Final = 30.0


class LockClient:
    """Drives one lock: gives it time and bytes, and carries its frames over a link that comes back."""

    def __init__(self, reactor: Any, lock: VirtualLock, target: Target) -> None:
        self.lock = lock
        self._reactor = reactor
        self._link: Link = (UdpLink if target.transport == "udp" else TcpLink)(self, reactor, target)
        #: A link is there or being made.
        self._open = False
        self._tick_call: DelayedCall | None = None
        self._retry_call: DelayedCall | None = None
        self._abort_call: DelayedCall | None = None
        self._failures = 0
        self._stopped: defer.Deferred[None] | None = None

    def start(self) -> None:
        """Switch the lock on and connect."""
        self.lock.start(self._reactor.seconds())
        self._look()

    def drain(self) -> None:
        """Have the lock make no more reports and only get rid of those it has."""
        self.lock.drain(self._reactor.seconds())
        self._look()

    def stop(self) -> "defer.Deferred[None]":
        """Switch it off. Fires when the link is closed, soon after `CLOSE_TIMEOUT` at the latest."""
        if self._stopped is None:
            self._stopped = defer.Deferred()
            _cancel(self._tick_call)
            _cancel(self._retry_call)
            if self._open:
                self._hang_up()
            else:
                self._stopped.callback(None)
        return self._stopped

    # What the link calls.

    def link_up(self) -> None:
        """The link is there."""
        self.lock.counters.up += 1
        self.lock.counters.connects += 1
        self._send(self.lock.connected(self._reactor.seconds()))

    def received(self, data: bytes, *, datagram: bool = False) -> None:
        """Bytes from the gateway."""
        # Only who answers is worth coming back to at once: some accept a connection just to close it.
        self._failures = 0
        self._send(self.lock.receive(data, self._reactor.seconds(), datagram=datagram))

    def link_down(self) -> None:
        """The link that was there is gone."""
        self.lock.counters.up -= 1
        self.lock.counters.disconnects += 1
        self.lock.disconnected(self._reactor.seconds())
        self._gone()

    def link_failed(self) -> None:
        """An attempt came to nothing."""
        self.lock.counters.connect_failures += 1
        self._gone()

    def link_refused(self) -> None:
        """Nobody listens: reports wait for their answers all the same and are sent again."""
        self.lock.counters.connect_failures += 1

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
        """After anything that may have put the lock to sleep, woken it or made it due earlier."""
        if self._stopped is not None:
            return
        if not self.lock.awake:
            if self._open:
                self._hang_up()
        elif not self._open and not _pending(self._retry_call):
            self._open = True
            self._link.open()
        due = self.lock.next_due
        # A call that comes too early does no harm, and moving it after each answer would cost much.
        if not _pending(self._tick_call) or (self._tick_call and self._tick_call.getTime() > due):
            _cancel(self._tick_call)
            self._tick_call = None
            if due != inf:
                delay = max(0.0, due - self._reactor.seconds())
                self._tick_call = self._reactor.callLater(delay, self._tick)


def _retry_delay(failures: int) -> float:
    """Seconds before the next attempt after so many failures in a row, different for each lock of a fleet."""
    return min(_FIRST_RETRY * 1.5 ** min(failures, 50), _LAST_RETRY) * (0.5 + random())


def _pending(call: DelayedCall | None) -> bool:
    return call is not None and bool(call.active())


def _cancel(call: DelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


class Fleet:
    """Many locks in one process. `counters` of the locks are taken from the first: they share one object."""

    def __init__(
        self, reactor: Any, locks: Sequence[VirtualLock], target: Target, *, ramp: float = 500.0
    ) -> None:
        """`ramp` is how many locks are switched on in a second, so that no backlog overflows."""
        if not locks:
            raise ValueError("a fleet has at least one lock")
        self.locks = locks
        self.counters = locks[0].counters
        self._reactor = reactor
        self._ramp = ramp
        self._clients = [LockClient(reactor, lock, target) for lock in locks]
        self._started = 0
        self._began = 0.0
        self._next: DelayedCall | None = None

    @property
    def unanswered(self) -> int:
        """Reports that the gateway hasn't answered yet, sent or not."""
        return sum(lock.unanswered for lock in self.locks)

    def start(self) -> None:
        """Switch the locks on, one after the other."""
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
        """From now on the locks make no reports and only get rid of those they have."""
        self._stop_starting()
        for client in self._clients[: self._started]:
            client.drain()

    def stop(self) -> "defer.Deferred[None]":
        """Switch all locks off; fires when the last connection is closed."""
        self._stop_starting()
        stopped = defer.gatherResults([client.stop() for client in self._clients[: self._started]])
        return stopped.addCallback(lambda _: None)

    def _stop_starting(self) -> None:
        _cancel(self._next)


def device_ids(first: str, count: int, digits: int = 12) -> list[str]:
    """Ids of `count` locks, counting up from `first`; ValueError where they outgrow so many digits."""
    if not (first.isascii() and first.isdigit() and len(first) <= digits):
        raise ValueError(f"the first id has 1 to {digits} digits, unlike {first!r}")
    if int(first) + count > 10**digits:
        raise ValueError(f"the ids would have more than {digits} digits")
    return [str(int(first) + number) for number in range(count)]
