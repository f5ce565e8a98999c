"""The status page and its API, for a gateway or for the process that looks after several."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory

from jt709c_gateway import __version__
from jt709c_gateway.commands.profiles import ProfileRegistry
from jt709c_gateway.gateway.clock_sync import ClockSync
from jt709c_gateway.redis.command_store import CommandStore
from jt709c_gateway.redis.connector import RedisConnector
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.redis_time import RedisTime
from jt709c_gateway.transport.backlog import listening_endpoint
from jt709c_gateway.transport.listeners import TcpService
from jt709c_gateway.util.timestamps import iso
from jt709c_gateway.web import static_files
from jt709c_gateway.web.access import AccessControl, is_local
from jt709c_gateway.web.api.catalogue import CatalogueApi
from jt709c_gateway.web.api.command_requests import CommandRequests
from jt709c_gateway.web.api.commands import CommandsApi
from jt709c_gateway.web.api.devices import DevicesApi
from jt709c_gateway.web.api.explain import ExplainApi
from jt709c_gateway.web.app import App
from jt709c_gateway.web.basic_auth import BasicAuth
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.htpasswd import UserFile
from jt709c_gateway.web.http import ApiRequest, Response, SharedResponse, json_response
from jt709c_gateway.web.live_events import LiveEvents
from jt709c_gateway.web.monitoring import make_site
from jt709c_gateway.web.redis_client import WebRedis
from jt709c_gateway.web.router import Route, Routes
from jt709c_gateway.web.settings import EVERYBODY, Tiles, WebSettings

_MAX_ZOOM = 19


class WebService(MultiService):
    """Everything behind ``--http``: connections to Redis of its own, live events, handlers.

    It binds nothing: `port` gives what does.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        settings: WebSettings,
        profiles: ProfileRegistry,
        redis_time: RedisTime | None = None,
    ) -> None:
        """Without `redis_time`, which a gateway keeps, it looks at Redis's clock itself."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._settings = settings
        self._listener: TcpService | None = None
        keys = Keys(settings.prefix)
        self._redis = WebRedis(reactor, keys, settings.redis_timeout)
        self._redis.setServiceParent(self)  # type: ignore[no-untyped-call]
        if redis_time is None:
            # The workers say it in the log when the host's clock is wrong.
            redis_time = RedisTime(reactor, says=False)
            keeping = ClockSync(reactor, redis_time, self._redis, settings.gateway_ttl / 3)
            keeping.setServiceParent(self)  # type: ignore[no-untyped-call]
        self._now = redis_time.seconds
        self._store = CommandStore(self._redis, keys, settings.gateway)
        self._fleet = DeviceTable(self._store)
        self._live = LiveEvents(reactor, self._redis, self._fleet, self._now)
        self._live.setServiceParent(self)  # type: ignore[no-untyped-call]
        #: All of the API; `openapi.json` describes it.
        self.routes = self._routes(profiles)
        tiles: Tiles | None = settings.web_tiles
        self._users = self._who_has_a_password()
        self._app = App(
            AccessControl(self._users, settings.web_users == EVERYBODY, frozenset(settings.web_host)),
            Routes(self.routes),
            static_files.load(),
            None if tiles is None else tiles.source,
            self._is_local,
        )

    def _who_has_a_password(self) -> BasicAuth | None:
        users = self._settings.web_users
        return BasicAuth(self._reactor, users) if isinstance(users, UserFile) else None

    def reread(self) -> None:
        """Read the file of users again, if it has changed."""
        if self._users is not None:
            self._users.reread()

    def warn_of_plain_text(self) -> None:
        """Say in the log when passwords, or what the page shows, leave this host without TLS."""
        given = {"web_users": self._settings.web_users, "web_commands": self._settings.web_commands}
        names = [name for name, value in given.items() if value]
        port = None if self._listener is None else self._listener.port
        if not names or port is None or is_local(port.getHost()):
            return
        if isinstance(port.factory, TLSMemoryBIOFactory):
            return
        options = " and ".join("--" + name.replace("_", "-") for name in names)
        self.log.warn(
            "{options} beyond loopback without TLS (--http {address}): passwords and all that the page shows "
            "can be read on the way; bind it to loopback, behind a proxy with TLS",
            options=options,
            address=self._settings.http,
        )

    def _routes(self, profiles: ProfileRegistry) -> list[Route]:
        settings, redis, fleet = self._settings, self._redis, self._fleet
        reading = DevicesApi(redis, fleet, SharedResponse(self._reactor), self._now, settings.track_max)
        book = CommandsApi(redis, fleet, self._now)
        catalogue = CatalogueApi(profiles, self._store, settings.allow_raw)
        key = (settings.command_keys or {}).get(settings.web_command_key or "")
        issuing = CommandRequests(redis, self._store, book, profiles, settings.web_commands, key, self._now)
        explaining = ExplainApi()
        return [
            Route("GET", "/openapi.json", self._openapi),
            Route("GET", "/config", self._config),
            Route("GET", "/devices", reading.devices),
            Route("GET", "/devices/{id}", reading.device),
            Route("GET", "/devices/{id}/history", reading.history),
            Route("GET", "/devices/{id}/track", reading.track),
            Route("GET", "/events", reading.events),
            Route("GET", "/events/live", self._live.open),
            Route("GET", "/commands", book.commands),
            Route("POST", "/commands", issuing.issue),
            Route("GET", "/commands/{id}", book.command),
            Route("GET", "/catalogue", catalogue.catalogue),
            Route("GET", "/explain", explaining.get),
            Route("POST", "/explain", explaining.post),
        ]

    def port(
        self,
        registry: CollectorRegistry,
        readiness: Callable[[], dict[str, Any]],
        refresh: Callable[[], Any] = lambda: None,
    ) -> TcpService:
        """What listens for browsers, and for those who watch (`make_site`); it is for the caller to start."""
        description = self._settings.http or ""
        site = make_site(self._reactor, registry, readiness, refresh, self._app)
        endpoint = listening_endpoint(self._reactor, description)
        self._listener = TcpService(endpoint, site, description)
        return self._listener

    def _is_local(self) -> bool:
        port = None if self._listener is None else self._listener.port
        return port is not None and is_local(port.getHost())

    def use(self, way: RedisConnector) -> None:
        """Say where Redis is."""
        self._redis.use(way)

    async def _config(self, call: ApiRequest) -> Response:
        """GET /config: what the page has to know beforehand."""
        call.only()
        settings = self._settings
        tiles: Tiles | None = settings.web_tiles
        return json_response(
            {
                "gateway": settings.gateway,
                "version": __version__,
                "prefix": settings.prefix,
                "tiles": {
                    "url": None if tiles is None else tiles.url,
                    "attribution": settings.web_tiles_attribution,
                    "max_zoom": _MAX_ZOOM,
                },
                "commands": settings.web_commands and call.user is not None,
                "user": call.user,
                "server_time": iso(self._now()),
            }
        )

    async def _openapi(self, call: ApiRequest) -> Response:
        """GET /openapi.json: this API, for programs."""
        call.only()
        return Response(files(__package__).joinpath("openapi.json").read_bytes())
