"""What a gateway does all the time: take orders in, say that it lives, adopt the dead's, sweep."""

import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.keys import Keys

from .core import Gateway
from .orders import Orders

_SWEEP: Final = 2.0
_TICK: Final = 0.25
_EXPIRE: Final = 1.0
#: Seconds that BLMOVE waits for an order before it is asked again.
_INTAKE_WAIT: Final = 5
_PAUSE: Final = 0.1


class BlockingConnection(Protocol):
    """A connection of its own, for a command that waits."""

    def call(self, *arguments: Any) -> Any:
        """Send one command; a Deferred of its reply."""

    @property
    def connected(self) -> bool:
        """Whether it can be used now."""


class Duties(Service):
    """Runs the loops; each outlives whatever is thrown inside it."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        orders: Orders,
        keys: Keys,
        ttl: float,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._orders = orders
        self._keys = keys
        self._ttl = ttl
        self._loops: list[task.LoopingCall] = []
        self._intake: defer.Deferred[None] | None = None
        self._connection: BlockingConnection | None = None
        self._identity = json.dumps(
            {"boot": gateway.committer.boot, "host": socket.gethostname(), "pid": os.getpid()}
        ).encode()
        self._owner_checked = False
        #: Set while stopping: orders are left to the other gateways.
        self.leaving = False

    def startService(self) -> None:
        """Start what needs no Redis."""
        super().startService()  # type: ignore[no-untyped-call]
        self._every(_SWEEP, self._sweep)
        self._every(_TICK, self._tick)

    def begin(self, connection: BlockingConnection) -> None:
        """Redis's address is known: start what needs it. `connection` is for waiting for orders."""
        self._connection = connection
        self._every(self._ttl / 3, self._stay_alive)
        self._every(self._ttl / 2, self._adopt)
        self._every(_EXPIRE, self._orders.expire)
        self._intake = defer.Deferred.fromCoroutine(self._take_in())
        self._intake.addErrback(self._stopped)

    def wake(self) -> None:
        """Redis has (again) become usable: don't wait for the next round."""
        self._carry_out(self._adopt)
        self._orders.resume()

    def stop_taking(self) -> None:
        """Take no more orders."""
        self.leaving = True
        if self._intake is not None:
            self._intake.cancel()
            self._intake = None

    async def leave(self) -> None:
        """Tell the other gateways that this one is gone."""
        try:
            await self._orders.store.leave()
        except txredisapi.RedisError as error:
            self.log.debug("could not say goodbye to the other gateways: {reason}", reason=str(error))

    def stopService(self) -> None:
        """Stop all loops."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.stop_taking()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()

    def _every(self, interval: float, duty: Callable[[], Awaitable[Any]]) -> None:
        loop = task.LoopingCall(self._carry_out, duty)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(interval, now=True)

    def _carry_out(self, duty: Callable[[], Any]) -> "defer.Deferred[Any]":
        """One round; its failure is logged, and the next comes."""
        done: defer.Deferred[Any] = defer.Deferred.fromCoroutine(duty())
        return done.addErrback(self._failed, duty)

    def _failed(self, failure: Any, duty: Callable[[], Any]) -> None:
        # Redis being away is said once, by its connection.
        if not isinstance(failure.value, txredisapi.ConnectionError):
            self.log.failure("{duty} failed", failure, duty=duty.__name__)

    @staticmethod
    def _stopped(failure: Any) -> None:
        failure.trap(defer.CancelledError)

    async def _sweep(self) -> None:
        self._gateway.sweep()

    async def _tick(self) -> None:
        self._orders.tick()

    async def _stay_alive(self) -> None:
        if self._owner_checked and not self.leaving:
            await self._orders.store.stay_alive(self._identity, self._ttl)

    async def _adopt(self) -> None:
        if self.leaving:
            return
        if not self._owner_checked:
            await self._take_name()
            return
        for name in await self._orders.store.gateways():
            if name != self._gateway.name:
                await self._adopt_one(name, gone=False)

    async def _adopt_one(self, name: str, gone: bool) -> None:
        count = await self._orders.adopt(name, gone)
        if count:
            self.log.warn("adopted {count} orders of gateway {name}", count=count, name=name)

    async def _take_name(self) -> None:
        """Become the gateway of this name, once nobody else is: an earlier run may have left orders."""
        said = await self._orders.store.liveness(self._gateway.name)
        if said is not None and said != self._identity and not self._is_dead_here(said):
            self.log.warn(
                "another gateway called {name} is alive or died just now; taking no orders until it is gone",
                name=self._gateway.name,
            )
            return
        await self._orders.store.stay_alive(self._identity, self._ttl)
        await self._adopt_one(self._gateway.name, gone=True)
        self._owner_checked = True

    @staticmethod
    def _is_dead_here(said: bytes) -> bool:
        """Whether what calls itself so was a process of this host that is no more."""
        try:
            other = json.loads(said)
            if other["host"] != socket.gethostname():
                return False
            os.kill(int(other["pid"]), 0)
        except ProcessLookupError:
            return True
        except (ValueError, KeyError, TypeError, OSError):
            return False
        # Our own pid, used again after a restart: it is not that one that lives.
        return int(other["pid"]) == os.getpid()

    async def _take_in(self) -> None:
        """Move one order after another into our own list, and deal with each."""
        leftover = True
        while True:
            connection = self._connection
            if connection is None or not connection.connected or not self._owner_checked:
                await task.deferLater(self._reactor, _PAUSE, lambda: None)
                continue
            try:
                if leftover:
                    await self._orders.store.put_back()
                    leftover = False
                entry = await connection.call(
                    "BLMOVE",
                    self._keys.commands,
                    self._keys.intake(self._gateway.name),
                    "LEFT",
                    "RIGHT",
                    _INTAKE_WAIT,
                )
                if entry is not None:
                    await self._orders.take(entry)
            except defer.CancelledError:
                raise
            except Exception as error:
                # What was taken is in our own list still, unless it had been dealt with.
                leftover = True
                if not isinstance(error, txredisapi.ConnectionError):
                    self.log.failure("an order could not be taken in; trying again")
                await task.deferLater(self._reactor, _PAUSE, lambda: None)
