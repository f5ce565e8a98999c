"""Forwards live events from Redis to all clients."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import txredisapi
from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet import defer, task
from twisted.logger import Logger

from jt709c_gateway.redis.partitioned_queries import gather
from jt709c_gateway.redis.pubsub import PING_EVERY
from jt709c_gateway.web.device_table import DeviceTable, rows
from jt709c_gateway.web.event_feeds import EventFeeds, names
from jt709c_gateway.web.http import ApiError, ApiRequest, Response
from jt709c_gateway.web.label_changes import LabelChanges
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis
from jt709c_gateway.web.query import DEVICE, KIND, Parameter, flag
from jt709c_gateway.web.roles import User
from jt709c_gateway.web.router import Result, Route
from jt709c_gateway.web.seen_devices import SeenDevices
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
#: Seconds after which a client must reconnect, as browsers do by themselves, and authenticate again.
MAX_LIFE: Final = 3600.0
_TICK: Final = 1.0
#: Seconds between two reads of streams, with sharded publish/subscribe.
_FOLLOW: Final = 0.25
_BEAT_EVERY: Final = 15
#: Ticks between two looks at labels.
_LABELS_EVERY: Final = 2
_WITH_DEVICES: Final = Parameter(
    "devices", flag, "1: also the locks that were seen.", {"enum": ["0", "1"], "default": "0"}, False
)


class _Envelope(msgspec.Struct):
    id: str | None = None


_envelope: Final = msgspec.json.Decoder(_Envelope)


@frozen
class Interest:
    """The subscriptions of a client, whether it receives device updates, and who it is."""

    names: frozenset[str]
    devices: bool
    until: float
    user: User | None


def _event(payload: bytes) -> bytes:
    """Convert a published event to a message; raise an error of msgspec if it is invalid."""
    event_id = _envelope.decode(payload).id
    if b"\n" in payload or b"\r" in payload:
        # Not from a gateway, whose JSON has no line breaks: they would split the message.
        payload = msgspec.json.encode(msgspec.json.decode(payload))
    return message("event", payload, event_id if event_id and event_id.isprintable() else None)


def _partitions(away: Sequence[int]) -> bytes:
    return message("partitions", msgspec.json.encode({"partitions_away": away}))


@define(eq=False)
class _Subscribed:
    clients: set[Client] = field(factory=set)
    #: How many more may be forwarded in this second, and how many were skipped.
    left: int = MAX_RATE
    skipped: int = 0


class LiveEvents(Service):
    """Subscribes to the events that its clients request, and forwards them.

    `is_current(user)` says whether a client is still the user that it was.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Any,
        web: PartitionedWebRedis,
        fleet: DeviceTable,
        wall: Any,
        is_current: Callable[[User | None], bool] = lambda user: True,
    ) -> None:
        self._reactor = reactor
        self._is_current = is_current
        self._web = web
        self._fleet = fleet
        self._wall = wall
        self._clients: dict[Client, Interest] = {}
        self._subscribed: dict[str, _Subscribed] = defaultdict(_Subscribed)
        self._feeds = EventFeeds(web, self._message, self._report_gap, self._refused, self._left_out)
        self._ticking = self._repeated(self._tick)
        self._following = self._repeated(self._feeds.follow)
        self._ticks = 0
        self._writes_left = MAX_WRITTEN
        self._paused: set[str] = set()
        most = max(1, MAX_HEARD // web.layout.count)
        self._seen = [SeenDevices(rows(one), one.keys.devices, most) for one in web.partitions]
        self._labels = [LabelChanges(rows(one), most) for one in web.partitions]
        self._reading = False
        #: The partitions that the clients know to be away.
        self._away: list[int] = []
        #: Subscriptions that Redis rejected, so that each is logged once.
        self._logged: set[str] = set()

    def _repeated(self, call: Callable[[], None]) -> task.LoopingCall:
        def safely() -> None:
            try:
                call()
            except Exception:
                self.log.failure("periodic task of the live events failed")

        loop = task.LoopingCall(safely)
        loop.clock = self._reactor
        return loop

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
        a second, the summaries of the locks seen since the last one. `labels`: `{"labels": […]}`, the labels
        that were written, as GET /labels has them, without `label` where it was removed. `skipped`:
        `{"count": n, "reason": r}`: events were left out because this client reads too slowly (`slow`),
        because a kind had too many (`rate`; at least so many), or because Redis was away (`redis`, count 0:
        the number is unknown). A comment every 15 seconds shows that the connection is alive. `partitions`:
        `{"partitions_away": […]}`, at the beginning if any are away, and whenever that changes. Without
        `device`, `location` and `heartbeat` come only if `kind` names them. The connection ends after an
        hour, and when the user's password or role changes; browsers reconnect.
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
        until = self._reactor.seconds() + MAX_LIFE
        interest = Interest(names(self._web.layout, kinds, name), wants_devices, until, request.user)
        client = Client(request.twisted_request, self._left)
        self._clients[client] = interest
        for one in interest.names:
            self._subscribed[one].clients.add(client)
        client.begin()
        if self._away:
            client.send(_partitions(self._away))
        self._subscribe()
        if not self._ticking.running:
            for seen in self._seen:
                seen.start(self._wall())
            for labels in self._labels:
                labels.start(self._wall())
            self._ticking.start(_TICK, now=False)
            if self._web.layout.sharded:
                self._following.start(_FOLLOW)
        return None

    def _subscribe(self) -> None:
        self._feeds.set_names(self._subscribed.keys() - self._paused)

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
        if not self._clients:
            for loop in (self._ticking, self._following):
                if loop.running:
                    loop.stop()

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

    def _report_gap(self) -> None:
        for client in self._clients:
            client.skip(0, "redis")

    def _left_out(self, count: int) -> None:
        """Tell the clients that listen to all devices that events of a stream were too many."""
        for client, interest in self._clients.items():
            if any(name.endswith("*") for name in interest.names):
                client.skip(count, "rate")

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
        self._feeds.tick(self._ticks % int(PING_EVERY / _TICK) == 0)
        self._check_partitions()
        now = self._reactor.seconds()
        for client, interest in list(self._clients.items()):
            client.report()
            if self._ticks % _BEAT_EVERY == 0:
                client.beat()
            if now >= interest.until or not self._is_current(interest.user):
                client.end()
        if not self._reading:
            self._reading = True
            sending = defer.Deferred.fromCoroutine(self._send_updates())
            sending.addErrback(lambda failure: self.log.failure("reading updates failed", failure))

    def _check_partitions(self) -> None:
        """Tell all clients when a partition goes away, or is back."""
        if not self._web.several:
            return
        for one in self._web.partitions:
            one.redis.open()
        away = self._web.away()
        if away == self._away:
            return
        self._away = away
        for client in list(self._clients):
            client.send(_partitions(away))
        # What was read before lacks what is back, or doesn't show what is missing.
        self._report_gap()

    async def _send_updates(self) -> None:
        """Send the summaries of devices seen, and the labels written, since the last time."""
        try:
            if any(one.devices for one in self._clients.values()):
                seen = await gather([one.summaries() for one in self._seen])
                self._send("devices", [summary for some in seen for summary in some])
            if self._ticks % _LABELS_EVERY == 0:
                written = await gather([one.read() for one in self._labels])
                self._send("labels", [label for some in written for label in some])
        finally:
            self._reading = False

    def _send(self, what: str, found: Sequence[msgspec.Struct]) -> None:
        if not found:
            return
        data = message(what, msgspec.json.encode({what: found}))
        for client, interest in list(self._clients.items()):
            if interest.devices or what != "devices":
                client.send(data)

    def stopService(self) -> None:
        """Close all connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        for client in list(self._clients):
            client.end()
