"""Plays a capture: schedules its steps and assigns them to connections."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from attrs import define, field
from twisted.internet import defer, task

from jt709c_gateway.cli.replay.ack_tracker import AckTracker, Counts
from jt709c_gateway.cli.replay.connection import ReplayConnection
from jt709c_gateway.cli.replay.steps import Chunk, Step
from jt709c_gateway.simulator.connections import Target

#: Maximum queued chunks of all connections; above it, reading of the file pauses.
_QUEUED: Final = 2000
#: Maximum unanswered frames per connection at speed max.
_WINDOW: Final = 16
#: Seconds between checks for overdue answers.
_LOOK_EVERY: Final = 0.5
#: Steps between yields to the reactor.
_TURN: Final = 50
#: Seconds to close connections at the end.
_CLOSING: Final = 5.0


@define(frozen=True)
class Pace:
    """How to replay: `speed` times faster than captured; None is as fast as the gateway answers.

    `transport` is what to use (`tcp`, `udp`), None for what each connection was captured over. `connections`
    are open at a time at most: beyond it the one that has been quiet for longest is closed, once it is idle.
    An answer that has not come `grace` seconds after its frame was sent is waited for no longer.
    """

    speed: float | None = 1.0
    transport: str | None = None
    connections: int = 500
    grace: float = 10.0


@define(eq=False)
class Player:
    """Plays steps to the gateway at `host` and `port`; `counts` has the results."""

    reactor: Any
    host: str
    port: int
    pace: Pace
    counts: Counts = field(factory=Counts)
    #: Seconds by which the last step was sent later than it was due.
    late: float = 0.0
    #: The reactor's time at which the next step is due.
    due: float = 0.0
    #: Steps taken from the capture.
    steps: int = 0
    #: Connections by captured name, the longest idle one first.
    _channels: "OrderedDict[str, ReplayConnection]" = field(factory=OrderedDict, init=False, repr=False)
    _queued: int = field(default=0, init=False)
    _waiter: "defer.Deferred[None] | None" = field(default=None, init=False, repr=False)
    _began: float | None = field(default=None, init=False)
    _base: float = field(default=0.0, init=False)

    @property
    def open(self) -> int:
        """The number of open connections."""
        return sum(channel.up for channel in self._channels.values())

    async def play(self, steps: Iterable[Step]) -> None:
        """Play all steps and wait for the last answers; raises errors of `steps`."""
        looking = task.LoopingCall(self._look)
        looking.clock = self.reactor
        # Its function does not raise.
        looking.start(_LOOK_EVERY, now=False)
        try:
            for step in steps:
                await self._until_due(step)
                await self._take(step)
            for channel in list(self._channels.values()):
                channel.end()
            # Every wait for an answer has a limit, so this loop ends.
            while self._channels:
                await self._change()
        finally:
            looking.stop()
            await self._hang_up()

    async def _until_due(self, step: Step) -> None:
        self.steps += 1
        if self.pace.speed is not None and step.at is not None:
            now = self.reactor.seconds()
            if self._began is None:
                self._began, self._base = now, step.at
            wait = self._began + (step.at - self._base) / self.pace.speed - now
            self.late = max(0.0, -wait)
            if wait > 0:
                self.due = now + wait
                await task.deferLater(self.reactor, wait, lambda: None)
                return
        if self.steps % _TURN == 0:
            await task.deferLater(self.reactor, 0, lambda: None)

    async def _take(self, step: Step) -> None:
        while self._queued >= _QUEUED:
            await self._change()
        channel = self._channels.get(step.connection)
        if isinstance(step, Chunk):
            if channel is None or channel.ended:
                channel = await self._new(step)
            self._channels.move_to_end(step.connection)
            channel.push(step)
        elif channel is not None:
            channel.end()
            # At speed max, an earlier connection of a lock is not overtaken by a later one.
            while self.pace.speed is None and step.connection in self._channels:
                await self._change()

    async def _new(self, step: Chunk) -> ReplayConnection:
        # An ended connection of the same name closes first.
        while step.connection in self._channels:
            await self._change()
        while len(self._channels) >= self.pace.connections:
            quiet = next((one for one in self._channels.values() if one.idle and not one.ended), None)
            if quiet is None or any(one.ended for one in self._channels.values()):
                await self._change()
            else:
                quiet.end()
        transport = self.pace.transport or step.transport or "tcp"
        channel = ReplayConnection(
            step.connection,
            self.reactor,
            Target(transport, self.host, self.port),
            AckTracker(self.counts),
            _WINDOW if self.pace.speed is None else None,
            self._changed,
        )
        self._channels[step.connection] = channel
        channel.open()
        return channel

    def _changed(self, channel: ReplayConnection) -> None:
        """Wake the loop after a change."""
        self._queued += channel.queued - channel.noted
        channel.noted = channel.queued
        if channel.gone and channel.ended:
            self._channels.pop(channel.name, None)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            # Not called from within a connection, which may be in the middle of an operation.
            self.reactor.callLater(0, waiter.callback, None)

    def _change(self) -> "defer.Deferred[None]":
        """Return a Deferred that fires after a change."""
        waiter: defer.Deferred[None] = defer.Deferred()
        self._waiter = waiter
        return waiter

    def _look(self) -> None:
        before = self.reactor.seconds() - self.pace.grace
        for channel in list(self._channels.values()):
            channel.expire(before)

    async def _hang_up(self) -> None:
        """Close open connections, with a timeout."""
        for again in (False, True):
            for channel in list(self._channels.values()):
                channel.ended = True
                channel.abort(at_once=again)
            deadline = self.reactor.seconds() + _CLOSING
            while self._channels and self.reactor.seconds() < deadline:
                await task.deferLater(self.reactor, 0.02, lambda: None)
