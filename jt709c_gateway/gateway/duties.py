"""What a gateway does all the time: take orders in, say that it lives, adopt the dead's, sweep."""

import json
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.keys import Keys

from .asking import ROUND, Asking
from .core import Gateway
from .expiring import Expiring
from .orders import Orders
from .recovery import Recovery
from .taking import BlockingConnection, Taking

_SWEEP: Final = 2.0
_TICK: Final = 0.25
#: An outcome is to be there within a second of the ttl.
_EXPIRE: Final = 0.25
#: Seconds after which another gateway's word that an order has come for a lock of ours is heard.
_ROUTED: Final = 0.2
_RETRY: Final = 2.0
#: This run of a process, whose id another may have had before.
_PROCESS: Final = uuid4().hex
#: What is asked of Redis by each loop, in words.
_DUTIES: Final = {
    "_stay_alive": "to note that we live",
    "_adopt": "to tell of other gateways",
    "_heed": "to tell of orders that others took in for us",
    "_woken": "what we ask when we come back",
    "expire": "to tell of orders whose ttl has ended",
}


def _place() -> str:
    """Where our process id means us and nobody else; containers may share a host's name, but not this."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"{socket.gethostname()}/{uuid4()}"


def _is_dead_here(said: bytes) -> bool:
    """Whether what says so of itself was a process in this very place, and is no more."""
    try:
        other = json.loads(said)
        if other["place"] != _place() or other["process"] == _PROCESS:
            return False
        pid = int(other["pid"])
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (ValueError, KeyError, TypeError, OSError):
        return False
    # Our own pid, used again after a restart: it is not that one that lives.
    return pid == os.getpid()


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
        asking: Asking | None = None,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._orders = orders
        self._keys = keys
        self._ttl = ttl
        self._asking = asking
        self._taking = Taking(reactor, orders, keys, ttl, lambda: self._owner_checked)
        self._recovery = Recovery(orders)
        self._expiring = Expiring(reactor, orders)
        self._loops: list[task.LoopingCall] = []
        self._identity = json.dumps(
            {
                "boot": gateway.committer.boot,
                "place": _place(),
                "pid": os.getpid(),
                "process": _PROCESS,
            }
        ).encode()
        self._owner_checked = False
        self._adopting = False
        #: Until when nobody can take us for dead, and since when Redis has heard us without a gap.
        self._leased_until = 0.0
        self._steady_since = 0.0
        #: Set while stopping: orders are left to the other gateways.
        self.leaving = False
        self._left = False
        orders.sending = False
        orders.leased = self._is_leased
        orders.renew = self._renew

    def startService(self) -> None:
        """Start what needs no Redis."""
        super().startService()  # type: ignore[no-untyped-call]
        self._every(_SWEEP, self._sweep)
        self._every(_TICK, self._tick)
        gate = self._gateway.gate
        if gate.admission.review_every is not None:
            self._every(gate.admission.review_every, gate.review)

    def begin(self, connection: BlockingConnection) -> None:
        """Redis's address is known: start what needs it. `connection` is for waiting for orders."""
        self._every(self._ttl / 3, self._stay_alive)
        self._every(self._ttl / 2, self._adopt)
        self._every(_EXPIRE, self._expiring.expire)
        self._every(_ROUTED, self._heed)
        self._every(_RETRY, self._retry)
        if self._asking is not None:
            self._every(ROUND, self._asking.ask_some)
        self._taking.begin(connection)

    def wake(self) -> None:
        """Redis has (again) become usable: don't wait for the next round."""
        self._gateway.gate.admission.wake()
        self._orders.resume()
        self._carry_out(self._woken)

    @property
    def settled(self) -> bool:
        """Whether no order is being taken in, or written, or awaits its answer."""
        return not (self._taking.busy or self._orders.under_way)

    def stop_taking(self) -> None:
        """Take no more orders, and begin none."""
        self.leaving = True
        self._orders.sending = False
        self._taking.wind_up()

    async def leave(self) -> None:
        """Tell the other gateways that this one is gone, and leave them the orders that came too late."""
        self._left = True
        try:
            await self._orders.store.put_back()
            await self._orders.store.leave()
        except txredisapi.RedisError as error:
            self.log.debug("could not say goodbye to the other gateways: {reason}", reason=str(error))

    def stopService(self) -> None:
        """Stop all loops."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.stop_taking()
        self._left = True
        self._orders.mistakes.sum_up(now=True)
        self._taking.stop()
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
        if failure.check(txredisapi.RedisError):
            self._orders.refusals.say(_DUTIES.get(duty.__name__, duty.__name__), failure.value)
        else:
            self.log.failure("{duty} failed", failure, duty=duty.__name__)

    async def _sweep(self) -> None:
        self._gateway.presence.sweep()

    async def _tick(self) -> None:
        self._orders.tick()

    async def _retry(self) -> None:
        self._orders.retry()

    async def _woken(self) -> None:
        """What only can be done with Redis, and has to be done after it was away."""
        self._steady_since = self._reactor.seconds()
        await self._stay_alive()
        await self._adopt()
        if self._owner_checked:
            await self._recovery.reconcile()

    def _is_leased(self) -> bool:
        return bool(self._reactor.seconds() < self._leased_until)

    async def _renew(self) -> None:
        asked = self._reactor.seconds()
        lapsed = asked >= self._leased_until
        await self._orders.store.stay_alive(self._identity, self._ttl)
        self._leased_until = asked + self._ttl
        if lapsed:
            # We were not heard for a while, and perhaps nobody was: the others get time to speak up too.
            self._steady_since = self._reactor.seconds()

    async def _stay_alive(self) -> None:
        if not self._owner_checked or self._left:
            return
        lapsed = not self._is_leased()
        await self._renew()
        if lapsed:
            await self._recovery.reconcile()
            await self._recovery.affirm_sessions()

    async def _adopt(self) -> None:
        if self.leaving or self._adopting:
            return
        self._adopting = True
        try:
            if not self._owner_checked:
                await self._take_name()
            if self._owner_checked:
                await self._adopt_others()
        finally:
            self._adopting = False

    async def _adopt_others(self) -> None:
        # After an outage everybody looks dead until they have had time to speak up.
        steady = self._reactor.seconds() - self._steady_since >= self._ttl
        for name in await self._orders.store.gateways():
            if name == self._gateway.name:
                continue
            said = await self._orders.store.liveness(name)
            if said is None and steady:
                await self._adopt_one(name, gone=False)
            elif said is not None and _is_dead_here(said):
                await self._adopt_one(name, gone=True)

    async def _heed(self) -> None:
        """Look after the locks that others have named: an order has come in, or the lock is with them."""
        if not self._owner_checked or not self._is_leased():
            return
        devices = await self._orders.store.routed()
        if devices:
            await self._recovery.check_sessions(set(devices))
            for device in set(devices):
                self._orders.serve(device)
            await self._orders.store.heed(len(devices))

    async def _adopt_one(self, name: str, gone: bool) -> None:
        # Sessions first: with its orders settled nobody thinks of that gateway any more.
        await self._recovery.end_sessions(name, gone)
        count = await self._recovery.adopt(name, gone)
        if count:
            self.log.warn("adopted {count} orders of gateway {name}", count=count, name=name)

    async def _take_name(self) -> None:
        """Become the gateway of this name, once nobody else is: an earlier run may have left orders."""
        said = await self._orders.store.liveness(self._gateway.name)
        if said is not None and said != self._identity and not _is_dead_here(said):
            self.log.warn(
                "another gateway called {name} is alive or died just now; taking no orders until it is gone",
                name=self._gateway.name,
            )
            return
        await self._renew()
        await self._adopt_one(self._gateway.name, gone=True)
        self._owner_checked = True
        self._orders.sending = not self.leaving
        self._orders.resume()
