"""Live events for all who listen, from one subscription."""

from collections import defaultdict
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
from jt709c_gateway.web.query import device, flag, kind
from jt709c_gateway.web.redis_client import WebRedis
from jt709c_gateway.web.sse import EVENT_STREAM, Client, message

#: Clients at a time.
MAX_CLIENTS: Final = 100
#: Events a second of one kind, or of one kind of one device. With more, its subscription rests until the
#: second is over: merely to hear of every report would cost a busy gateway as much as the report itself.
MAX_RATE: Final = 300
#: Messages a second that are written to clients, all in all; with more, subscriptions rest as well.
MAX_WRITTEN: Final = 5000
#: Devices a second that are told to have been heard; those heard first come first, so each has its turn.
MAX_HEARD: Final = 1000
#: Seconds by which a report may come to Redis later than another's that was heard after it.
_OVERLAP: Final = 2.0
#: Seconds after which a client has to come again, as browsers do by themselves: it is asked anew who it is.
MAX_LIFE: Final = 3600.0
#: What comes too often to be sent to somebody who has not asked for it.
_FREQUENT: Final = frozenset({KIND_LOCATION, KIND_HEARTBEAT})
_TICK: Final = 1.0
_BEAT_EVERY: Final = 15


class _Envelope(msgspec.Struct):
    id: str | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope)


@frozen
class Interest:
    """What a client wants: the names to subscribe to, and whether to hear which devices were heard."""

    names: frozenset[str]
    devices: bool
    until: float


def names(keys: Keys, kinds: tuple[str, ...], name: str | None) -> frozenset[str]:
    """Channels for one device, patterns of one for each kind for all; no kinds are all.

    Without a device, what comes all the time is left out unless it is named.
    """
    if name is not None:
        return frozenset(keys.channel(one, name) for one in kinds or KINDS)
    escaped = Keys(glob_escape(keys.prefix))
    wanted = kinds or [one for one in KINDS if one not in _FREQUENT]
    return frozenset(escaped.channel(one, "*") for one in wanted)


def _event(payload: bytes) -> bytes:
    """The message of an event as it was published; what can't be decoded raises what msgspec does."""
    event_id = _envelope.decode(payload).id
    if b"\n" in payload or b"\r" in payload:
        # Not from a gateway, whose JSON has no line breaks: they would end the message in the middle.
        payload = msgspec.json.encode(msgspec.json.decode(payload))
    return message("event", payload, event_id if event_id and event_id.isprintable() else None)


@define(eq=False)
class _Subscribed:
    clients: set[Client] = field(factory=set)
    #: How many more may come in this second, and how many were left out.
    left: int = MAX_RATE
    skipped: int = 0


class LiveEvents(Service):
    """Passes on events. It is subscribed to what its clients want, and to nothing while there are none."""

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
        self._resting: set[str] = set()
        #: From when on to look for what was heard, and what of that has been told.
        self._heard_from = 0.0
        self._told: dict[str, float] = {}
        self._reading = False
        #: Whether a client may have missed something, because there was no connection, or not yet.
        self._deaf = True
        #: Names of what Redis refused, so that each is told once.
        self._complained: set[str] = set()

    @property
    def clients(self) -> int:
        """How many listen."""
        return len(self._clients)

    async def open(self, call: ApiRequest) -> Response | None:
        """GET /events/live: what happens from now on."""
        call.only("device", "kind", "devices")
        name: str | None = call.one("device", device)
        kinds = call.many("kind", kind)
        wants_devices: bool = call.one("devices", flag, False)
        if name is not None:
            name = await self._fleet.resolve(name)
        if call.gone:
            return None
        if call.request.method == b"HEAD":
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
        client = Client(call.request, self._left)
        self._clients[client] = interest
        for one in interest.names:
            self._subscribed[one].clients.add(client)
        client.begin()
        self._listen()
        return None

    def _listen(self) -> None:
        if self._connection is None:
            # None still where it isn't known yet where Redis is: the next tick tries again.
            self._connection = self._redis.listen(self._message, self._subscriptions, self._ready, self._lost)
            self._subscriptions.connection = self._connection
        self._subscribe()
        if not self._ticking.running:
            self._heard_from, self._told = self._wall() - _OVERLAP, {}
            self._ticking.start(_TICK, now=False)

    def _subscribe(self) -> None:
        self._subscriptions.set_names(self._subscribed.keys() - self._resting)

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
            if subscription not in self._resting:
                self._resting.add(subscription)
                self._subscribe()
            return
        subscribed.left -= 1
        self._writes_left -= len(subscribed.clients)
        try:
            data = _event(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            # Nobody but a gateway should publish here.
            return
        for client in list(subscribed.clients):
            client.send(data)

    def _refused(self, name: str, failure: Any) -> None:
        if not failure.check(txredisapi.ConnectionError) and name not in self._complained:
            # The names of devices that somebody asks for may be many.
            self._complained = {*self._complained, name} if len(self._complained) < 100 else {name}
            self.log.warn(
                "Redis does not let the status page listen to {name}: {reason}",
                name=name,
                reason=failure.getErrorMessage(),
            )

    def _ready(self) -> None:
        self._subscriptions.ready()
        if self._deaf:
            # Once more: what was published until now was not heard, and who reads it again now finds Redis.
            self._deaf = False
            self._tell_gap()

    def _lost(self, reason: str) -> None:
        self._deaf = True
        self._tell_gap()

    def _tell_gap(self) -> None:
        for client in self._clients:
            client.skip(0, "redis")

    def _tick_safely(self) -> None:
        try:
            self._tick()
        except Exception:
            self.log.failure("looking after live events failed")

    def _tick(self) -> None:
        self._ticks += 1
        self._writes_left = MAX_WRITTEN
        for subscribed in self._subscribed.values():
            subscribed.left = MAX_RATE
            if subscribed.skipped:
                for client in subscribed.clients:
                    client.skip(subscribed.skipped, "rate")
                subscribed.skipped = 0
        if self._resting:
            self._resting.clear()
            self._subscribe()
        if self._connection is None or not self._connection.connected:
            self._deaf = True
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
            telling = defer.Deferred.fromCoroutine(self._tell_heard())
            telling.addErrback(lambda failure: self.log.failure("reading what was heard failed", failure))

    async def _tell_heard(self) -> None:
        """Tell which devices were heard since the last time, to all who want to know."""
        before = self._heard_from, self._told
        try:
            news = await self._news()
            if not news:
                return
            found = await self._fleet.summaries(news)
        except txredisapi.RedisError:
            # Redis is away; what was heard meanwhile comes when it is back.
            self._heard_from, self._told = before
            return
        finally:
            self._reading = False
        data = message("devices", msgspec.json.encode({"devices": found}))
        for client, interest in list(self._clients.items()):
            if interest.devices:
                client.send(data)

    async def _news(self) -> list[str]:
        """The devices that were heard since the last time, those heard first first; at most `MAX_HEARD`."""
        heard = await self._fleet.heard_since(self._heard_from, MAX_HEARD)
        if not heard:
            return []
        last = heard[-1][0]
        if len(heard) == MAX_HEARD:
            # There are more, some of which may have been heard at the same moment as the last one.
            heard = [one for one in heard if one[0] < last] or heard
            self._heard_from = heard[-1][0]
        else:
            self._heard_from = max(self._heard_from, last - _OVERLAP)
        news = [name for at, name in heard if self._told.get(name) != at]
        self._told = {name: at for at, name in heard if at > self._heard_from}
        return news

    def stopService(self) -> None:
        """Say goodbye to all."""
        super().stopService()  # type: ignore[no-untyped-call]
        for client in list(self._clients):
            client.end()
