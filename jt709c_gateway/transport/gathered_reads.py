"""Reads the sockets of locks together: what comes within a few milliseconds is read and committed at once.

To be woken for a frame costs more than to read and decode it, and a call to Redis as much as ten records in
it.
So while frames come often enough, sockets are not looked at for up to `--commit-window`, and then all that
have something are read in one turn. Sockets of locks that are to answer a command are read at once.
"""

import select
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet import error
from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

#: Records that make a call to Redis worth its cost: a pause is no longer than these take to come.
ENOUGH: Final = 12
#: Sockets that are read before the reactor sees to others, such as Redis's: as many as a call has records.
_AT_ONCE: Final = 200
#: Shortest pause in seconds: the reactor's timers have steps of a millisecond.
_SHORTEST: Final = 0.0005
#: The rate of frames is averaged over so many windows.
_AVERAGED: Final = 4


class Committer(Protocol):
    """What is told when sockets are read together: the committer."""

    @property
    def submitted(self) -> int:
        """Number of records that were ever submitted."""

    #: Set while records are submitted that `send_batch` will send.
    batching: bool

    def send_batch(self) -> None:
        """Send what was submitted while `batching`."""


class _NoCommitter:
    """Stands for one where there is none: each socket that was read counts for a record."""

    submitted = 0
    batching = False

    def send_batch(self) -> None:
        """Do nothing."""


@implementer(IReadDescriptor)
class GatheredReads:
    """A set of sockets, in the reactor as one that is readable when any of them is.

    `add`, `remove` and `hasten` take transports of Twisted, which they name as the reactor does.
    """

    log = Logger()

    def __init__(self, reactor: Any, window: float, committer: Committer | None = None) -> None:
        self._reactor = reactor
        #: Longest pause in seconds; 0 for none.
        self._window = window
        self._committer: Committer = committer or _NoCommitter()
        self._epoll: select.epoll | None = None
        #: Transports by descriptor.
        self._sockets: dict[int, Any] = {}
        #: Transports that the reactor reads itself, and whether it does now.
        self._hastened: dict[Any, bool] = {}
        self._watching = False
        self._timer: Any = None
        #: Records a second.
        self._rate = 0.0
        self._read_at = 0.0

    @classmethod
    def where_possible(cls, reactor: Any, window: float, committer: Committer) -> "GatheredReads | None":
        """Return a set; None on a system without epoll, where the reactor reads each socket by itself."""
        return cls(reactor, window, committer) if hasattr(select, "epoll") else None

    # The reactor's view

    def fileno(self) -> int:
        """The descriptor of the set."""
        return -1 if self._epoll is None else self._epoll.fileno()

    def logPrefix(self) -> str:
        """Name it in log lines of the reactor."""
        return "sockets of locks"

    def connectionLost(self, reason: Failure) -> None:
        """Do nothing: the set has no connection of its own."""

    def doRead(self) -> None:
        """Read all sockets that have something, then pause if more is worth waiting for."""
        began = self._reactor.seconds()
        count, more = self._read()
        pause = self._pause(count, began) if self._window else 0.0
        pause -= self._reactor.seconds() - began
        if pause >= _SHORTEST and not more and self._sockets:
            self._watch(False)
            self._timer = self._reactor.callLater(pause, self._resume)
        else:
            self._watch(True)

    def _pause(self, count: int, now: float) -> float:
        """Seconds from now until so many records are there that they are worth reading; 0 if few come."""
        passed, self._read_at = now - self._read_at, now
        self._rate += (count - self._rate * passed) / (passed + _AVERAGED * self._window)
        if not count or self._rate * self._window < 1:
            return 0.0
        return min(self._window, ENOUGH / self._rate)

    def _resume(self) -> None:
        self._timer = None
        self.doRead()

    def _read(self) -> tuple[int, bool]:
        """Read sockets; return the number of records that came of them, and whether more sockets wait."""
        if self._epoll is None:
            return 0, False
        ready = self._epoll.poll(0, _AT_ONCE)
        before = self._committer.submitted
        self._committer.batching = True
        for descriptor, _ in ready:
            transport = self._sockets.get(descriptor)
            if transport is None:
                continue
            try:
                lost = transport.doRead()
            except Exception as raised:
                self.log.failure("reading a socket failed")
                lost = raised
            if lost is not None:
                self._end(transport, lost)
        self._committer.send_batch()
        return self._committer.submitted - before or len(ready), len(ready) == _AT_ONCE

    def _end(self, transport: Any, lost: Exception) -> None:
        """End a connection as the reactor does."""
        self.remove(transport)
        if isinstance(lost, error.ConnectionDone):
            transport.readConnectionLost(Failure(lost))  # type: ignore[no-untyped-call]
        else:
            transport.connectionLost(Failure(lost))  # type: ignore[no-untyped-call]

    def _watch(self, wanted: bool) -> None:
        wanted = wanted and self._epoll is not None
        if wanted == self._watching:
            return
        self._watching = wanted
        if wanted:
            self._reactor.addReader(self)
        else:
            self._reactor.removeReader(self)

    # The transports' view

    def add(self, transport: Any) -> None:
        """Start reading a transport."""
        if transport in self._hastened:
            self._hastened[transport] = True
            self._reactor.addReader(transport)
        elif not self._has(transport):
            if self._epoll is None:
                self._epoll = select.epoll()
            descriptor = transport.fileno()
            self._epoll.register(descriptor, select.EPOLLIN)
            self._sockets[descriptor] = transport
            if self._timer is None:
                self._watch(True)

    def remove(self, transport: Any) -> None:
        """Stop reading a transport."""
        if self._hastened.get(transport):
            self._hastened[transport] = False
            self._reactor.removeReader(transport)
        elif self._has(transport):
            descriptor = transport.fileno()
            del self._sockets[descriptor]
            assert self._epoll is not None
            self._epoll.unregister(descriptor)
            if not self._sockets:
                self._close()

    def _has(self, transport: Any) -> bool:
        return self._sockets.get(transport.fileno()) is transport

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._watch(False)
        assert self._epoll is not None
        self._epoll.close()
        self._epoll = None

    def hasten(self, transport: Any, urgent: bool) -> None:
        """Read a transport as soon as something comes, or with the others again."""
        if urgent == (transport in self._hastened):
            return
        if urgent:
            reads = self._has(transport)
            self.remove(transport)
            self._hastened[transport] = False
        else:
            reads = self._hastened[transport]
            self.remove(transport)
            del self._hastened[transport]
        if reads:
            self.add(transport)


def gather_datagrams(port: Any, reads: GatheredReads) -> None:
    """Have a listening UDP port of Twisted read together with the other sockets."""
    port.stopReading()
    port.startReading = partial(reads.add, port)
    port.stopReading = partial(reads.remove, port)
    port.hasten = partial(reads.hasten, port)
    port.startReading()
