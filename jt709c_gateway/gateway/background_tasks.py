"""Runs what a gateway does periodically: command intake, heartbeat, adoption, sweeps."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import txredisapi
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.gateway.adoption import GatewayAdoption
from jt709c_gateway.gateway.commands.consumer import BlockingConnection, IntakeConsumer
from jt709c_gateway.gateway.commands.dispatcher import CommandDispatcher
from jt709c_gateway.gateway.commands.expiry import CommandExpiry
from jt709c_gateway.gateway.commands.identity_queries import ROUND, IdentityPoller
from jt709c_gateway.gateway.commands.recovery import CommandRecovery
from jt709c_gateway.gateway.gateway import Gateway
from jt709c_gateway.gateway.membership import GatewayMembership
from jt709c_gateway.redis.command_store_types import NotOurs
from jt709c_gateway.redis.errors import other_marker
from jt709c_gateway.redis.keys import Keys

_TICK: Final = 0.25
#: Expired commands end within a second of their ttl.
_EXPIRE: Final = 0.25
#: Seconds between looks for commands that other gateways have accepted for our devices.
_ROUTED: Final = 0.2
_RETRY: Final = 2.0
#: Seconds between looks for what other partitions have to get.
_DELIVER: Final = 1.0
#: Partitions beyond which all of these intervals but the next grow, so that together they cost no more.
_AT_FULL_RATE: Final = 32
#: Seconds between comparisons of our claims with those in Redis.
_RECONCILE: Final = 30.0
#: By task: what Redis refused, for the log.
_REFUSED: Final = {
    "_heartbeat": "to note that we live",
    "adopt": "to tell of other gateways",
    "_process_routed": "to tell of commands that others took in for us",
    "_after_reconnect": "what we ask when we come back",
    "expire": "to tell of commands whose ttl has ended",
    "_search": "to tell of lost commands",
    "_reconcile": "to tell what is in our hands",
    "_deliver": "to deliver what is for other partitions",
}


class BackgroundTasks(Service):
    """Runs the periodic tasks; errors are logged and do not end them."""

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        gateway: Gateway,
        dispatcher: CommandDispatcher,
        keys: Keys,
        ttl: float,
        poller: IdentityPoller | None = None,
    ) -> None:
        self._reactor = reactor
        self._gateway = gateway
        self._dispatcher = dispatcher
        self._context = dispatcher.context
        self._keys = keys
        self._ttl = ttl
        self._slower = max(1.0, keys.count / _AT_FULL_RATE)
        self._identity_poller = poller
        self._consumer = IntakeConsumer(reactor, dispatcher, keys, ttl, lambda: self._adoption.has_name)
        self._recovery = CommandRecovery(dispatcher)
        self._expiry = CommandExpiry(reactor, dispatcher.context)
        self._loops: list[task.LoopingCall] = []
        self.membership = GatewayMembership(
            reactor, self._context.store, gateway.committer.boot, ttl, superseded=self._on_superseded
        )
        self._adoption = GatewayAdoption(dispatcher, self.membership, self._recovery)
        #: Called when a later run owns our name, after this run has stopped its work.
        self.superseded: Callable[[], None] = lambda: None
        #: Called with the marker of our partition, when the fleet was divided in another way meanwhile.
        self.divided: Callable[[bytes], None] = lambda marker: None

    def startService(self) -> None:
        """Start the tasks that need no Redis."""
        super().startService()  # type: ignore[no-untyped-call]
        self._run_every(_TICK * self._slower, self._tick)

    def start(self, connection: BlockingConnection) -> None:
        """Start the tasks that need Redis; `connection` is reserved for the blocking wait for commands."""
        self._run_every(self._ttl / 3, self._heartbeat)
        self._run_every(self._ttl / 2, self._adoption.adopt)
        self._run_every(_EXPIRE * self._slower, self._expiry.expire)
        self._run_every(_ROUTED * self._slower, self._process_routed)
        self._run_every(_RETRY * self._slower, self._retry)
        self._run_every(_RETRY * self._slower, self._search)
        self._run_every(_RETRY * self._slower, self._name_contested)
        self._run_every(_RECONCILE, self._reconcile)
        if self._identity_poller is not None:
            # Together, all partitions query as many devices a second as one would.
            self._run_every(ROUND * self._keys.count, self._identity_poller.poll)
        if self._context.routing is not None:
            self._run_every(_DELIVER * self._slower, self._deliver)
        self._consumer.start(connection)

    def on_redis_ready(self) -> None:
        """Run the tasks that have waited for Redis, without waiting for their next round."""
        self._dispatcher.resume()
        self._run_once(self._after_reconnect)

    @property
    def is_drained(self) -> bool:
        """Whether no command is being accepted or written, or awaits its answer."""
        return not (self._consumer.busy or self._dispatcher.busy_count)

    def stop_intake(self) -> None:
        """Accept no more commands and start none."""
        self._adoption.leaving = True
        self._context.sending = False
        self._consumer.stop_consuming()

    async def deregister(self) -> None:
        """Put late commands back and deregister this gateway, so that others adopt at once what it leaves."""
        try:
            if self.membership.is_leased():
                await self._context.store.put_back()
            await self.membership.deregister()
        except txredisapi.RedisError as error:
            self.log.debug(
                "could not announce the shutdown to the other gateways: {reason}", reason=str(error)
            )

    def stopService(self) -> None:
        """Stop all tasks."""
        super().stopService()  # type: ignore[no-untyped-call]
        self.stop_intake()
        self.membership.stop()
        self._context.rejection_log.log_suppressed(now=True)
        self._consumer.stop()
        for loop in self._loops:
            if loop.running:
                loop.stop()
        self._loops.clear()

    def _run_every(self, interval: float, job: Callable[[], Awaitable[Any]]) -> None:
        loop = task.LoopingCall(self._run_once, job)
        loop.clock = self._reactor
        self._loops.append(loop)
        loop.start(interval, now=True)

    def _run_once(self, job: Callable[[], Any]) -> "defer.Deferred[Any]":
        """Run a task once; an error is logged."""
        done: defer.Deferred[Any] = defer.Deferred.fromCoroutine(job())
        return done.addErrback(self._failed, job)

    def _failed(self, failure: Any, job: Callable[[], Any]) -> None:
        if failure.check(NotOurs):
            # A later round determines which claims are still ours.
            self.log.debug("{job} came too late", job=job.__name__)
        elif (marker := other_marker(failure.value)) is not None:
            self.divided(marker)
        elif failure.check(txredisapi.RedisError):
            self._context.refusals.report(_REFUSED.get(job.__name__, job.__name__), failure.value)
        else:
            self.log.failure("{job} failed", failure, job=job.__name__)

    async def _tick(self) -> None:
        self._dispatcher.tick()

    async def _retry(self) -> None:
        self._dispatcher.retry()

    async def _name_contested(self) -> None:
        """Log devices that alternate between a peer here and one at another gateway."""
        takeovers, committer = self._gateway.lifecycle.takeovers, self._context.committer
        # Those of other partitions are in other stores.
        ours = takeovers.take_elsewhere(lambda device: self._gateway.committer.of(device) is committer)
        for device, here in ours.items():
            try:
                found = await self._context.store.session_peer(device)
            except txredisapi.RedisError:
                found = None
            there = "another gateway" if found is None else f"{found[1]} at gateway {found[0]}"
            takeovers.warn(device, there, here)

    async def _after_reconnect(self) -> None:
        """Renew the lease, adopt and reconcile, after Redis was away."""
        self.membership.steady_since = self._reactor.seconds()
        await self._heartbeat()
        await self._adoption.adopt()
        await self._reconcile()

    async def _heartbeat(self) -> None:
        if not self.membership.is_registered or (self._adoption.leaving and not self.membership.is_leased()):
            return
        if await self.membership.renew() and self._adoption.has_name:
            await self._recovery.reconcile()
            await self._recovery.reassert_sessions()
            self._dispatcher.retry()

    async def _deliver(self) -> None:
        if self._context.routing is not None and self._adoption.owns_commands:
            await self._context.routing.deliver_abandoned(self._context.now())

    async def _reconcile(self) -> None:
        if self._adoption.owns_commands:
            await self._recovery.reconcile()

    async def _search(self) -> None:
        if self._adoption.owns_commands:
            await self._expiry.search()

    def _on_superseded(self) -> None:
        """Stop sending commands and answers: a later run owns our name."""
        self.stop_intake()
        self._gateway.draining = True
        self._gateway.close_connections("superseded")
        self.superseded()

    async def _process_routed(self) -> None:
        """Check devices that other gateways have named: a command was accepted, or the device has moved."""
        if not self._adoption.owns_commands:
            return
        devices = await self._context.store.routed()
        if devices:
            await self._recovery.check_sessions(set(devices))
            for device in set(devices):
                self._dispatcher.dispatch(device)
            await self._context.store.ack_routed(len(devices))
