"""Forwards live events from one Redis connection to all clients."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import txredisapi
from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.protocol.events import KIND_HEARTBEAT, KIND_LOCATION, KINDS
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.pubsub import PING_EVERY, Subscriptions, glob_escape, keep_alive
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest, Response
from jt709c_gateway.web.query import DEVICE, KIND, Parameter, flag
from jt709c_gateway.web.redis_client import WebRedis
from jt709c_gateway.web.router import Result, Route
from jt709c_gateway.web.sse import EVENT_STREAM, Client, message

#: Maximum number of clients.
MAX_CLIENTS: Final = 100
#: Maximum events per second and subscription. Above it, the subscription is paused until the second is over:
#: only receiving every report would cost as much as processing it.
MAX_RATE: Final = 300
#: Maximum messages per second to all clients together; above it, subscriptions are paused too.
MAX_WRITTEN: Final = 5000
#: Maximum device updates per second; those seen first are sent first, so that none starves.
MAX_HEARD: Final = 1000
#: Seconds by which the commit of a report may be overtaken by that of a later one.
_OVERLAP: Final = 2.0
#: Seconds after which a client must reconnect, as browsers do by themselves, and authenticate again.
MAX_LIFE: Final = 3600.0
#: Frequent kinds, which are sent only on request.
_FREQUENT: Final = frozenset({KIND_LOCATION, KIND_HEARTBEAT})
_TICK: Final = 1.0
_BEAT_EVERY: Final = 15
_WITH_DEVICES: Final = Parameter(
    "devices", flag, "1: also the locks that were seen.", {"enum": ["0", "1"], "default": "0"}, False
)


class _Envelope(msgspec.Struct):
    id: str | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope)


@frozen
class Interest:
    """The subscriptions of a client, and whether it receives device updates."""

    names: frozenset[str]
    devices: bool
    until: float


def names(keys: Keys, kinds: tuple[str, ...], name: str | None) -> frozenset[str]:
    """The channels of one device, or one pattern per kind for all devices; no kinds means all.

    Without a device, frequent kinds are only included if they are named.
    """
    if name is not None:
        return frozenset(keys.channel(one, name) for one in kinds or KINDS)
    escaped = Keys(glob_escape(keys.prefix))
    wanted = kinds or [one for one in KINDS if one not in _FREQUENT]
    return frozenset(escaped.channel(one, "*") for one in wanted)


def _event(payload: bytes) -> bytes:
    """Convert a published event to a message; raise an error of msgspec if it is invalid."""
    event_id = _envelope.decode(payload).id
    if b"\n" in payload or b"\r" in payload:
        # Not from a gateway, whose JSON has no line breaks: they would split the message.
        payload = msgspec.json.encode(msgspec.json.decode(payload))
    return message("event", payload, event_id if event_id and event_id.isprintable() else None)


@define(eq=False)
class _Subscribed:
    clients: set[Client] = field(factory=set)
    #: How many more may be forwarded in this second, and how many were skipped.
    left: int = MAX_RATE
    skipped: int = 0


class LiveEvents(Service):
    """Subscribes to the events that its clients request, and forwards them."""

    log = Logger()

    def __init__(self, reactor: Any, redis: WebRedis, fleet: DeviceTable, wall: Any) -> None:
        self._reactor = reactor
        self._redis = redis
        self._fleet = fleet
        self._wall = wall
        self._clients: dict[Client, Interest] = {}
        self._subscribed: dict[str, _Subscribed] = defaultdict(_Subscribed)
        self._subscriptions = Subscriptions(self._refused)
        self._connection: Any = None
        self._ticking = task.LoopingCall(self._tick_safely)
        self._ticking.clock = reactor
        self._ticks = 0
        self._writes_left = MAX_WRITTEN
        self._paused: set[str] = set()
        #: The start of the next search for seen devices, and those already sent of that time.
        self._seen_from = 0.0
        self._sent: dict[str, float] = {}
        self._reading = False
        #: Whether clients may have missed events, because there was no connection.
        self._missed_events = True
        #: Subscriptions that Redis rejected, so that each is logged once.
        self._logged: set[str] = set()

    @property
    def clients(self) -> int:
        """The number of clients."""
        return len(self._clients)

    def routes(self) -> Sequence[Route]:
        """The route to this handler."""
        stream = {200: Result(None, "An endless stream.")}
        return [Route("GET", "/events/live", self.live, stream, (DEVICE, KIND, _WITH_DEVICES))]

    async def live(self, request: ApiRequest) -> Response | None:
        """GET /events/live: events as they happen, as server-sent events.

        `event`: an event as JSON, with its id. `devices` (with `devices=1`): `{"devices": […]}`, at most once
        a second, the summaries of the locks seen since the last one. `skipped`: `{"count": n, "reason": r}`:
        events were left out because this client reads too slowly (`slow`), because a kind had too many
        (`rate`; at least so many), or because Redis was away (`redis`, count 0: the number is unknown). A
        comment every 15 seconds shows that the connection is alive. Without `device`, `location` and
        `heartbeat` come only if `kind` names them. The connection ends after an hour; browsers reconnect.
        """
        name: str | None = request.param(DEVICE)
        kinds = request.params(KIND)
        wants_devices: bool = request.param(_WITH_DEVICES)
        if name is not None:
            name = await self._fleet.resolve(name)
        if request.gone:
            return None
        if request.twisted_request.method == b"HEAD":
            return Response(b"", content_type=EVENT_STREAM)
        if not self.running or len(self._clients) >= MAX_CLIENTS:
            raise ApiError(
                503,
                f"{len(self._clients)} clients listen: expected fewer than {MAX_CLIENTS}; try again later",
                headers={"retry-after": "30"},
            )
        interest = Interest(
            names(self._redis.keys, kinds, name), wants_devices, self._reactor.seconds() + MAX_LIFE
        )
        client = Client(request.twisted_request, self._left)
        self._clients[client] = interest
        for one in interest.names:
            self._subscribed[one].clients.add(client)
        client.begin()
        self._listen()
        return None

    def _listen(self) -> None:
        if self._connection is None:
            # None while no connector is set: the next tick tries again.
            self._connection = self._redis.listen(self._message, self._subscriptions, self._ready, self._lost)
            self._subscriptions.connection = self._connection
        self._subscribe()
        if not self._ticking.running:
            self._seen_from, self._sent = self._wall() - _OVERLAP, {}
            self._ticking.start(_TICK, now=False)

    def _subscribe(self) -> None:
        self._subscriptions.set_names(self._subscribed.keys() - self._paused)

    def _left(self, client: Client) -> None:
        interest = self._clients.pop(client, None)
        if interest is None:
            return
        for one in interest.names:
            clients = self._subscribed[one].clients
            clients.discard(client)
            if not clients:
                del self._subscribed[one]
        self._subscribe()
        if not self._clients and self._ticking.running:
            self._ticking.stop()

    def _message(self, subscription: str, channel: str, payload: bytes) -> None:
        subscribed = self._subscribed.get(subscription)
        if subscribed is None:
            return
        if subscribed.left <= 0 or self._writes_left < len(subscribed.clients):
            subscribed.skipped += 1
            if subscription not in self._paused:
                self._paused.add(subscription)
                self._subscribe()
            return
        subscribed.left -= 1
        self._writes_left -= len(subscribed.clients)
        try:
            data = _event(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Not published by a gateway.
            return
        for client in list(subscribed.clients):
            client.send(data)

    def _refused(self, name: str, failure: Any) -> None:
        if not failure.check(txredisapi.ConnectionError) and name not in self._logged:
            # Bounded: clients may request any number of devices.
            self._logged = {*self._logged, name} if len(self._logged) < 100 else {name}
            self.log.warn(
                "Redis rejected the subscription of the status page to {name}: {reason}",
                name=name,
                reason=failure.getErrorMessage(),
            )

    def _ready(self) -> None:
        self._subscriptions.ready()
        if self._missed_events:
            # Report the gap again: events were missed until now, and Redis can be read again.
            self._missed_events = False
            self._report_gap()

    def _lost(self, reason: str) -> None:
        self._missed_events = True
        self._report_gap()

    def _report_gap(self) -> None:
        for client in self._clients:
            client.skip(0, "redis")

    def _tick_safely(self) -> None:
        try:
            self._tick()
        except Exception:
            self.log.failure("periodic task of the live events failed")

    def _tick(self) -> None:
        self._ticks += 1
        self._writes_left = MAX_WRITTEN
        for subscribed in self._subscribed.values():
            subscribed.left = MAX_RATE
            if subscribed.skipped:
                for client in subscribed.clients:
                    client.skip(subscribed.skipped, "rate")
                subscribed.skipped = 0
        if self._paused:
            self._paused.clear()
            self._subscribe()
        if self._connection is None or not self._connection.connected:
            self._missed_events = True
        if self._connection is None:
            self._listen()
        elif self._ticks % int(PING_EVERY / _TICK) == 0:
            keep_alive(self._connection)
        now = self._reactor.seconds()
        for client, interest in list(self._clients.items()):
            client.report()
            if self._ticks % _BEAT_EVERY == 0:
                client.beat()
            if now >= interest.until:
                client.end()
        if not self._reading and any(one.devices for one in self._clients.values()):
            self._reading = True
            sending = defer.Deferred.fromCoroutine(self._send_device_updates())
            sending.addErrback(lambda failure: self.log.failure("reading device updates failed", failure))

    async def _send_device_updates(self) -> None:
        """Send the summaries of devices seen since the last time."""
        before = self._seen_from, self._sent
        try:
            devices = await self._seen_devices()
            if not devices:
                return
            found = await self._fleet.summaries(devices)
        except txredisapi.RedisError:
            # Redis is not available; try again from the same time later.
            self._seen_from, self._sent = before
            return
        finally:
            self._reading = False
        data = message("devices", msgspec.json.encode({"devices": found}))
        for client, interest in list(self._clients.items()):
            if interest.devices:
                client.send(data)

    async def _seen_devices(self) -> list[str]:
        """The devices seen since the last time, earliest first; at most `MAX_HEARD`."""
        heard = await self._fleet.heard_since(self._seen_from, MAX_HEARD)
        if not heard:
            return []
        last = heard[-1][0]
        if len(heard) == MAX_HEARD:
            # There are more, possibly with the same time as the last one.
            heard = [one for one in heard if one[0] < last] or heard
            self._seen_from = heard[-1][0]
        else:
            self._seen_from = max(self._seen_from, last - _OVERLAP)
        devices = [name for at, name in heard if self._sent.get(name) != at]
        self._sent = {name: at for at, name in heard if at > self._seen_from}
        return devices

    def stopService(self) -> None:
        """Close all connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        for client in list(self._clients):
            client.end()
