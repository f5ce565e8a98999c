"""What a gateway does all the time: take commands in, say that it lives, adopt the dead's, sweep."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.gateway.commands.consumer import BlockingConnection, IntakeConsumer
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.expiry import CommandExpiry
from jt709c_gateway.gateway.commands.identity_queries import ROUND, IdentityPoller
from jt709c_gateway.gateway.commands.recovery import CommandRecovery
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.membership import GatewayMembership, is_dead_here
from jt709c_gateway.redis.command_store_types import NotOurs
from jt709c_gateway.redis.keys import Keys

_SWEEP: Final = 2.0
_TICK: Final = 0.25
#: An outcome is to be there within a second of the ttl.
_EXPIRE: Final = 0.25
#: Seconds after which another gateway's word that a command has come for a lock of ours is heard.
_ROUTED: Final = 0.2
_RETRY: Final = 2.0
#: Seconds after which it is looked again whether what is in our hands is what we have in mind.
_RECONCILE: Final = 30.0
#: What is asked of Redis by each loop, in words.
_DUTIES: Final = {
    "_stay_alive": "to note that we live",
    "_adopt": "to tell of other gateways",
    "_heed": "to tell of commands that others took in for us",
    "_woken": "what we ask when we come back",
    "expire": "to tell of commands whose ttl has ended",
    "_search": "to tell of lost commands",
    "_reconcile": "to tell what is in our hands",
}


class BackgroundTasks(Service):
    """Runs the loops; each outlives whatever is thrown inside it."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        dispatcher: CommandDispatcher,
        keys: Keys,
        ttl: float,
        asking: IdentityPoller | None = None,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._keys = keys
        self._ttl = ttl
        self._identity_poller = asking
        self._consumer = IntakeConsumer(reactor, dispatcher, keys, ttl, lambda: self._entered)
        self._recovery = CommandRecovery(dispatcher)
        self._expiry = CommandExpiry(reactor, dispatcher)
        self._loops: list[task.LoopingCall] = []
        self.membership = GatewayMembership(
            reactor, dispatcher.store, gateway.committer.boot, ttl, superseded=self._give_way
        )
        #: Whether this run has its name, and what earlier ones have left behind is adopted.
        self._entered = False
        self._adopting = False
        #: Set while stopping: commands are left to the other gateways.
        self.leaving = False
        #: Called when a later run has our name, after all that this one does has been stopped.
        self.superseded: Callable[[], None] = lambda: None
        dispatcher.sending = False
        dispatcher.leased = self.membership.is_leased
        dispatcher.renew = self._renew

    def startService(self) -> None:
        """Start what needs no Redis."""
        super().startService()  # type: ignore[no-untyped-call]
        self._every(_SWEEP, self._sweep)
        self._every(_TICK, self._tick)
        gate = self._gateway.gate
        if gate.admission.review_every is not None:
            self._every(gate.admission.review_every, gate.review)

    def begin(self, connection: BlockingConnection) -> None:
        """Redis's address is known: start what needs it. `connection` is for waiting for commands."""
        self._every(self._ttl / 3, self._stay_alive)
        self._every(self._ttl / 2, self._adopt)
        self._every(_EXPIRE, self._expiry.expire)
        self._every(_ROUTED, self._heed)
        self._every(_RETRY, self._retry)
        self._every(_RETRY, self._search)
        self._every(_RECONCILE, self._reconcile)
        if self._identity_poller is not None:
            self._every(ROUND, self._identity_poller.poll)
        self._consumer.start(connection)

    def wake(self) -> None:
        """Redis has (again) become usable: don't wait for the next round."""
        self._gateway.gate.admission.wake()
        self._dispatcher.resume()
        self._carry_out(self._woken)

    @property
    def settled(self) -> bool:
        """Whether no command is being taken in, or written, or awaits its answer."""
        return not (self._consumer.busy or self._dispatcher.busy_count)

    def stop_taking(self) -> None:
        """Take no more commands, and begin none."""
        self.leaving = True
        self._dispatcher.sending = False
        self._consumer.stop_consuming()

    async def leave(self) -> None:
        """Tell the other gateways that this one is gone, and leave them the commands that came too late."""
        try:
            if self.membership.is_leased():
                await self._dispatcher.store.put_back()
            await self.membership.leave()
        except txredisapi.RedisError as error:
            self.log.debug("could not say goodbye to the other gateways: {reason}", reason=str(error))

    def stopService(self) -> None:
        """Stop all loops."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.stop_taking()
        self.membership.stop()
        self._dispatcher.rejection_log.sum_up(now=True)
        self._consumer.stop()
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
        if failure.check(NotOurs):
            # A later round finds out what of ours is ours still.
            self.log.debug("{duty} came too late", duty=duty.__name__)
        elif failure.check(txredisapi.RedisError):
            self._dispatcher.refusals.report(_DUTIES.get(duty.__name__, duty.__name__), failure.value)
        else:
            self.log.failure("{duty} failed", failure, duty=duty.__name__)

    async def _sweep(self) -> None:
        self._gateway.presence.sweep()

    async def _tick(self) -> None:
        self._dispatcher.tick()

    async def _retry(self) -> None:
        self._dispatcher.retry()

    async def _woken(self) -> None:
        """What only can be done with Redis, and has to be done after it was away."""
        self.membership.steady_since = self._reactor.seconds()
        await self._stay_alive()
        await self._adopt()
        await self._reconcile()

    async def _renew(self) -> None:
        await self.membership.renew()

    async def _stay_alive(self) -> None:
        if not self.membership.has_begun or (self.leaving and not self.membership.is_leased()):
            return
        if await self.membership.renew() and self._entered:
            await self._recovery.reconcile()
            await self._recovery.reassert_sessions()
            self._dispatcher.retry()

    async def _reconcile(self) -> None:
        if self._entered and self.membership.is_leased():
            await self._recovery.reconcile()

    async def _search(self) -> None:
        if self._entered and self.membership.is_leased():
            await self._expiry.search()

    def _give_way(self) -> None:
        """A later run has our name: no byte more, of commands or of answers."""
        self.stop_taking()
        self._gateway.draining = True
        for conversation in list(self._gateway.conversations):
            conversation.link.close("superseded")
        self.superseded()

    async def _adopt(self) -> None:
        if self.leaving or self._adopting:
            return
        self._adopting = True
        try:
            if not self._entered:
                await self._enter()
            elif self.membership.is_leased():
                await self._adopt_one(self._gateway.name)
            await self._adopt_others()
        finally:
            self._adopting = False

    async def _adopt_others(self) -> None:
        for name in await self._dispatcher.store.gateways():
            if name == self._gateway.name:
                continue
            said = await self._dispatcher.store.liveness(name)
            # After an outage everybody looks dead until they have had time to speak up.
            if said is None and self.membership.is_steady:
                await self._recovery.end_sessions(name)
                await self._adopt_one(name)
            elif said is not None and is_dead_here(said):
                await self._recovery.end_sessions(name, gone=True)
                await self._adopt_one(name, said)

    async def _heed(self) -> None:
        """Look after the locks that others have named: a command has come in, or the lock is with them."""
        if not self._entered or not self.membership.is_leased():
            return
        devices = await self._dispatcher.store.routed()
        if devices:
            await self._recovery.check_sessions(set(devices))
            for device in set(devices):
                self._dispatcher.dispatch(device)
            await self._dispatcher.store.ack_routed(len(devices))

    async def _adopt_one(self, name: str, said: bytes = b"") -> None:
        """Adopt what a gateway has left behind whose sessions have ended: after that it is forgotten."""
        count = await self._recovery.adopt(name, said)
        if count:
            self.log.warn("adopted {count} commands of gateway {name}", count=count, name=name)

    async def _enter(self) -> None:
        """Take our name, from an earlier run that may be alive still, and what that has left behind."""
        await self.membership.renew()
        await self._recovery.end_sessions(self._gateway.name, gone=True)
        await self._adopt_one(self._gateway.name)
        self._entered = True
        self._dispatcher.sending = not self.leaving
        self._dispatcher.resume()
