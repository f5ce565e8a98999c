"""The web service: status page and API, of a gateway or of the supervisor of several."""

from collections.abc import Callable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from jt709c_gateway.commands.catalogue import CATALOGUE
from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.gateway.clock_sync import ClockSync
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.transport.backlog import listening_endpoint
from jt709c_gateway.transport.listeners import TcpService
from jt709c_gateway.web import static_files
from jt709c_gateway.web.access import AccessControl, is_local
from jt709c_gateway.web.api.areas import AreasApi
from jt709c_gateway.web.api.batches import BatchesApi
from jt709c_gateway.web.api.catalogue import CatalogueApi
from jt709c_gateway.web.api.command_requests import CommandRequests
from jt709c_gateway.web.api.commands import CommandsApi
from jt709c_gateway.web.api.devices import DevicesApi
from jt709c_gateway.web.api.explain import ExplainApi
from jt709c_gateway.web.api.labels import LabelsApi
from jt709c_gateway.web.api.reports import ReportsApi
from jt709c_gateway.web.api.service_info import ServiceInfoApi
from jt709c_gateway.web.app import App
from jt709c_gateway.web.basic_auth import BasicAuth
from jt709c_gateway.web.batch_giver import BatchGiver
from jt709c_gateway.web.command_rights import CommandRights
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.htpasswd import UserFile
from jt709c_gateway.web.http import SharedResponse
from jt709c_gateway.web.live_events import LiveEvents
from jt709c_gateway.web.monitoring import make_site
from jt709c_gateway.web.page_url import page_url
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from jt709c_gateway.web.router import Route, Routes
from jt709c_gateway.web.settings import EVERYBODY, Tiles, WebSettings


class WebService(MultiService):
    """Everything behind ``--http``: connections to Redis of its own, live events, handlers.

    It binds nothing: `port` gives what does.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: WebSettings,
        layout: Partitions,
        profiles: ProfileRegistry,
        redis_time: RedisTime | None = None,
    ) -> None:
        """Without `redis_time`, which a gateway keeps, it looks at Redis's clock itself."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._settings = settings
        self._listener: TcpService | None = None
        self._redis = PartitionedWebRedis(reactor, layout, settings.gateway, settings.redis_timeout)
        self._redis.setServiceParent(self)  # type: ignore[no-untyped-call]
        if redis_time is None:
            # The workers log a wrong clock of the host.
            redis_time = RedisTime(reactor, says=False)
            keeping = ClockSync(reactor, redis_time, self._redis.first.redis, settings.gateway_ttl / 3)
            keeping.setServiceParent(self)  # type: ignore[no-untyped-call]
        self._now = redis_time.seconds
        self._fleet = DeviceTable(self._redis)
        self._users = self._basic_auth(profiles)
        access = AccessControl(
            self._users,
            settings.web_users == EVERYBODY,
            frozenset(settings.web_host),
            settings.web_commands,
        )
        self._live = LiveEvents(reactor, self._redis, self._fleet, self._now, access.is_current)
        self._live.setServiceParent(self)  # type: ignore[no-untyped-call]
        self._giver = BatchGiver(reactor, self._redis, settings.gateway)
        self._giver.setServiceParent(self)  # type: ignore[no-untyped-call]
        #: All routes of the API.
        self.routes = self._routes(profiles)
        tiles: Tiles | None = settings.web_tiles
        self._app = App(
            access,
            Routes(self.routes),
            static_files.load(),
            None if tiles is None else tiles.source,
            self._is_local,
        )

    def _basic_auth(self, profiles: ProfileRegistry) -> BasicAuth | None:
        users = self._settings.web_users
        if not isinstance(users, UserFile):
            return None
        names = {name for one in profiles.profiles.values() for name in one.commands}
        return BasicAuth(self._reactor, users, {*CATALOGUE, *names})

    def startService(self) -> None:
        """Start, and log mistakes in the users' roles."""
        super().startService()  # type: ignore[no-untyped-call]
        if self._users is not None:
            self._users.log_roles()

    def reread(self) -> None:
        """Reload the user file if it has changed."""
        if self._users is not None:
            self._users.reread()

    def warn_of_plain_text(self) -> None:
        """Log a warning if passwords or the page can leave this host without TLS."""
        given = {"web_users": self._settings.web_users, "web_commands": self._settings.web_commands}
        names = [name for name, value in given.items() if value]
        port = None if self._listener is None else self._listener.port
        if not names or port is None or is_local(port.getHost()):
            return
        if isinstance(port.factory, TLSMemoryBIOFactory):
            return
        options = " and ".join("--" + name.replace("_", "-") for name in names)
        self.log.warn(
            "{options} beyond loopback without TLS (--http {address}): passwords and the page can be "
            "read in transit; bind it to loopback, behind a proxy with TLS",
            options=options,
            address=self._settings.http,
        )

    def log_url(self) -> None:
        """Log where the page is, for people to open."""
        port = None if self._listener is None else self._listener.port
        if port is not None:
            self.log.info("status page at {url}", url=page_url(port, self._settings.web_host))

    def _routes(self, profiles: ProfileRegistry) -> Sequence[Route]:
        settings, redis, fleet = self._settings, self._redis, self._fleet
        devices_api = DevicesApi(redis, fleet, SharedResponse(self._reactor), self._now, settings.track_max)
        commands_api = CommandsApi(redis, self._now)
        catalogue = CatalogueApi(profiles, redis.queries, settings.allow_raw)
        key = (settings.command_keys or {}).get(settings.web_command_key or "")
        command_requests = CommandRequests(
            redis,
            commands_api,
            CommandRights(redis, commands_api),
            profiles,
            key,
            settings.static_password is not None,
            self._now,
        )
        labels = LabelsApi(redis, fleet, SharedResponse(self._reactor))
        info = ServiceInfoApi(settings, self._now, lambda: self.routes)
        reports = ReportsApi(self._reactor, redis, fleet, self._now)
        batches = BatchesApi(command_requests, self._giver)
        reading = (info, devices_api, reports, self._live, commands_api, catalogue, ExplainApi())
        apis = (*reading, labels, AreasApi(redis), command_requests, batches)
        return [route for api in apis for route in api.routes()]

    def port(
        self,
        registry: CollectorRegistry,
        readiness: Callable[[], dict[str, Any]],
        refresh: Callable[[], Any] = lambda: None,
    ) -> TcpService:
        """Build the listener for page, API and monitoring (`make_site`); the caller starts it."""
        description = self._settings.http or ""
        site = make_site(self._reactor, registry, readiness, refresh, self._app)
        endpoint = listening_endpoint(self._reactor, description)
        self._listener = TcpService(endpoint, site, f"--http {description}")
        return self._listener

    def _is_local(self) -> bool:
        port = None if self._listener is None else self._listener.port
        return port is not None and is_local(port.getHost())

    def use(self, connectors: Sequence[RedisConnector]) -> None:
        """Set the connectors to Redis; of several servers, each has every so-many-th partition."""
        self._redis.use(connectors)
