"""The supervisor process of ``--workers N``: binds the ports and runs the workers, serves no locks."""

from collections.abc import Sequence
from typing import Any, Final

from attrs import evolve
from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.internet import defer
from twisted.logger import Logger

from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.config.settings import Settings
from jt709c_gateway.configured_parts import partition_layout
from jt709c_gateway.redis.address import EmbeddedAddress, RedisAddress, parse_redis_addresses
from jt709c_gateway.redis.embedded.server import EmbeddedServer
from jt709c_gateway.startup import (
    cannot_listen,
    embedded_server,
    redis_connector,
    start_embedded,
    stop_for,
    tcp_descriptions,
)
from jt709c_gateway.transport.backlog import warn_of_limit
from jt709c_gateway.transport.listeners import ListenError, TcpService, address_text
from jt709c_gateway.transport.shared_ports import SharedPort
from jt709c_gateway.web.service import WebService
from jt709c_gateway.workers.metrics import WorkersCollector
from jt709c_gateway.workers.worker import Worker

#: Seconds beyond --shutdown-timeout that a worker has to end.
_GRACE: Final = 5.0


class Supervisor(MultiService):
    """Binds the ports, starts the embedded Redis if configured, and keeps the workers running."""

    log = Logger()

    def __init__(self, reactor: Any, settings: Settings, profiles: ProfileRegistry) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._settings = settings
        self._profiles = profiles
        self._stopping = False
        self._embedded: EmbeddedServer | None = None
        self.ports: list[SharedPort] = []
        if not settings.no_tcp:
            self.ports += [SharedPort.tcp(description) for description in settings.listen]
        if not settings.no_udp:
            self.ports += [SharedPort.udp(one.port, one.interface) for one in settings.udp]
        self.workers = [
            Worker(
                reactor,
                number,
                f"{settings.gateway}-{number}",
                self.ports,
                self._failed,
                settings.shutdown_timeout + _GRACE,
            )
            for number in range(1, settings.workers + 1)
        ]
        self.registry = CollectorRegistry()
        self.registry.register(WorkersCollector(self.workers))
        self._web: WebService | None = None
        self._web_port: TcpService | None = None
        if settings.http:
            self._web = WebService(reactor, settings, partition_layout(settings), profiles)
            self._web.setServiceParent(self)  # type: ignore[no-untyped-call]
            self._web_port = self._web.port(self.registry, self.readiness, self.refresh)
            self._web_port.setServiceParent(self)  # type: ignore[no-untyped-call]

    def refresh(self) -> "defer.Deferred[Any]":
        """Query the status of every worker; return a Deferred that fires after all answers or timeouts."""
        asked = [defer.Deferred.fromCoroutine(worker.ask()) for worker in self.workers]
        # The caller may have disconnected, which cancels the queries.
        return defer.DeferredList(asked, consumeErrors=True)

    def readiness(self) -> dict[str, Any]:
        """Return whether locks can be served, and the status of each worker, as of the last `refresh`."""
        states = {
            worker.name: {"ready": False} if worker.report is None else worker.report.readiness
            for worker in self.workers
        }
        return {"ready": any(state["ready"] for state in states.values()), "workers": states}

    def privilegedStartService(self) -> None:
        """Bind every port before privileges are dropped; StartError when one can't be bound."""
        addresses = []
        try:
            for port in self.ports:
                port.bind(range(1, len(self.workers) + 1))
                addresses.append(port.address)
            super().privilegedStartService()  # type: ignore[no-untyped-call]
        except ListenError as error:
            raise cannot_listen(error) from None
        for address in addresses:
            self.log.info("listening for locks on {address}", address=address_text(address))
        warn_of_limit(tcp_descriptions(self._settings))
        if self._web is not None:
            self._web.log_url()
            self._web.warn_of_plain_text()

    def startService(self) -> None:
        """Start the embedded Redis and the workers; StartError for obvious obstacles."""
        super().startService()  # type: ignore[no-untyped-call]
        found = parse_redis_addresses(self._settings.redis)
        addresses = [one for one in found if isinstance(one, RedisAddress)]
        if addresses:
            self._use(addresses)
            self._start_workers(self._settings)
        for one in found:
            if isinstance(one, EmbeddedAddress):
                self._embedded = embedded_server(self._reactor, self._settings, one)
                start_embedded(self._reactor, self._embedded, self._embedded_started)

    def _embedded_started(self, address: RedisAddress) -> None:
        self._use([address])
        redis = f"redis://{address.host}:{address.port}"
        # A configured password is for another server.
        own = evolve(self._settings, redis=redis, redis_password=address.password, redis_password_file=None)
        self._start_workers(own)

    def _use(self, addresses: Sequence[RedisAddress]) -> None:
        embedded = self._embedded is not None
        connectors = [
            redis_connector(self._reactor, self._settings, one, embedded=embedded) for one in addresses
        ]
        if self._web is not None:
            self._web.use(connectors)

    def _start_workers(self, settings: Settings) -> None:
        if self._stopping:
            return
        for worker in self.workers:
            # The supervisor serves the page; workers don't need its users.
            worker.start(evolve(settings, http=None, web_users=None), self._profiles)

    def reread(self) -> None:
        """Reread changed files now, here and in each worker."""
        if self._web is not None:
            self._web.reread()
        for worker in self.workers:
            worker.reread()

    def _failed(self, reason: str) -> None:
        if not self._stopping:
            self._stopping = True
            stop_for(self._reactor, reason)

    async def _stop(self) -> None:
        # New connections are refused as soon as the workers have stopped listening.
        for port in self.ports:
            port.close_all()
        await defer.DeferredList([worker.stop() for worker in self.workers])
        await defer.maybeDeferred(super().stopService)
        if self._embedded is not None:
            await self._embedded.stopService()

    def stopService(self) -> "defer.Deferred[None]":
        """Stop the workers gracefully, then the embedded server."""
        self._stopping = True
        return defer.Deferred.fromCoroutine(self._stop())
