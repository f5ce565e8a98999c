"""The status page and its API, for a gateway or for the process that looks after several."""

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.application.service import MultiService
from twisted.internet.endpoints import serverFromString

from jt709c_gateway import __version__
from jt709c_gateway.commands.profiles import ProfileSet
from jt709c_gateway.commands.stored import iso
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.starting import RedisWay
from jt709c_gateway.transport.listen import TcpService

from . import assets
from .app import App
from .calls import Answer, Call, Shared, json_answer
from .fleet import Fleet
from .gate import Gate, is_local
from .link import WebRedis
from .live import Live
from .reading import Reading
from .routing import Route, Routes
from .site import make_site

_MAX_ZOOM = 19


class WebService(MultiService):
    """Everything behind ``--http``: connections to Redis of its own, live events, handlers.

    It binds nothing: `port` gives what does.
    """

    def __init__(self, reactor: Any, settings: dict[str, Any], profiles: ProfileSet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reactor = reactor
        self._settings = settings
        self._listener: TcpService | None = None
        keys = Keys(settings["prefix"])
        self._redis = WebRedis(reactor, keys, settings["redis_timeout"])
        self._redis.setServiceParent(self)  # type: ignore[no-untyped-call]
        fleet = Fleet(self._redis, keys)
        self._live = Live(reactor, self._redis, fleet, time.time)
        self._live.setServiceParent(self)  # type: ignore[no-untyped-call]
        reading = Reading(self._redis, fleet, Shared(reactor), time.time, settings.get("track_max", 300))
        users = None
        self.routes = Routes(
            [
                Route("GET", "/config", self._config),
                Route("GET", "/devices", reading.devices),
                Route("GET", "/devices/{id}", reading.device),
                Route("GET", "/devices/{id}/history", reading.history),
                Route("GET", "/devices/{id}/track", reading.track),
                Route("GET", "/events", reading.events),
                Route("GET", "/events/live", self._live.open),
            ]
        )
        self._app = App(Gate(users), self.routes, assets.load(), None, self._is_local)

    def port(
        self,
        registry: CollectorRegistry,
        readiness: Callable[[], dict[str, Any]],
        refresh: Callable[[], Any] = lambda: None,
    ) -> TcpService:
        """What listens for browsers, and for those who watch (`make_site`); it is for the caller to start."""
        description = self._settings["http"]
        site = make_site(registry, readiness, refresh, self._app)
        endpoint = serverFromString(self._reactor, description)  # type: ignore[no-untyped-call]
        self._listener = TcpService(endpoint, site, description)
        return self._listener

    def _is_local(self) -> bool:
        port = None if self._listener is None else self._listener.port
        return port is not None and is_local(port.getHost())

    def use(self, way: RedisWay) -> None:
        """Say where Redis is."""
        self._redis.use(way)

    async def _config(self, call: Call) -> Answer:
        """GET /config: what the page has to know beforehand."""
        call.only()
        settings = self._settings
        return json_answer(
            {
                "gateway": settings["gateway"],
                "version": __version__,
                "prefix": settings["prefix"],
                "tiles": {"url": None, "attribution": "", "max_zoom": _MAX_ZOOM},
                "orders": False,
                "user": call.user,
                "server_time": iso(time.time()),
            }
        )
