"""Live events: one client at its own speed, and the fan-out second by second."""

import json
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.partitions import Partitions
from jt709c_gateway.web import event_feeds, live_events, sse
from jt709c_gateway.web.device_table import DeviceTable
from jt709c_gateway.web.http import ApiError, ApiRequest
from jt709c_gateway.web.partitioned_redis import PartitionedWebRedis, WebPartition
from jt709c_gateway.web.seen_devices import SeenDevices
from jt709c_gateway.web.sse import Client


class FakeRequest:
    """What a client of live events needs of a request."""

    method = b"GET"

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producer: Any = None
        self.finished = False

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Pass over it."""

    def notifyFinish(self) -> Any:
        """Never."""
        return Deferred()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Note it."""
        self.producer = producer

    def unregisterProducer(self) -> None:
        """Forget it."""
        self.producer = None

    def write(self, data: bytes) -> None:
        """Note it."""
        self.written.append(data)

    def finish(self) -> None:
        """Note it."""
        self.finished = True


class ClientTests(SynchronousTestCase):
    """One client, at the speed at which it reads."""

    def setUp(self) -> None:
        self.request = FakeRequest()
        self.left: list[Client] = []
        self.client = Client(self.request, self.left.append)
        self.client.begin()
        self.request.written.clear()

    def told(self) -> list[bytes]:
        found, self.request.written = self.request.written, []
        return found

    def test_written_at_once(self) -> None:
        """Who reads gets what comes."""
        self.client.send(b"1")
        self.client.send(b"2")
        self.assertEqual(self.told(), [b"1", b"2"])

    def test_slow(self) -> None:
        """Who doesn't read gets what there was room for, later, and how much there was not."""
        self.client.pauseProducing()
        for number in range(sse.MAX_WAITING + 7):
            self.client.send(b"%d" % number)
        self.client.beat()
        self.client.report()
        self.assertEqual(self.told(), [])
        self.client.resumeProducing()
        self.assertEqual(self.told(), [b"%d" % number for number in range(sse.MAX_WAITING)])
        self.client.report()
        self.assertEqual(self.told(), [b'event: skipped\ndata: {"count":7,"reason":"slow"}\n\n'])
        self.client.report()
        self.assertEqual(self.told(), [])

    def test_bytes_are_bounded(self) -> None:
        """Long messages are bounded by their bytes."""
        self.client.pauseProducing()
        for _ in range(20):
            self.client.send(b"x" * 100_000)
        self.client.resumeProducing()
        self.assertEqual(len(self.told()), sse.MAX_BYTES // 100_000)

    def test_slow_again(self) -> None:
        """What waits is sent as long as it is read."""
        self.client.pauseProducing()
        for number in range(10):
            self.client.send(b"%d" % number)

        def stop_at_three(data: bytes) -> None:
            self.request.written.append(data)
            if len(self.request.written) == 3:
                self.client.pauseProducing()

        self.request.write = stop_at_three  # type: ignore[method-assign]
        self.client.resumeProducing()
        self.assertEqual(self.told(), [b"0", b"1", b"2"])
        self.client.send(b"10")
        self.client.resumeProducing()
        self.assertEqual(self.told(), [b"3", b"4", b"5"])

    def test_end(self) -> None:
        """It is ended once, and gets nothing afterwards."""
        self.client.end()
        self.client.end()
        self.client.send(b"1")
        self.assertEqual((self.told(), self.request.finished, self.left), ([], True, [self.client]))

    def test_gone(self) -> None:
        """A connection that is lost is not ended once more."""
        self.client.stopProducing()
        self.client.end()
        self.assertEqual((self.request.finished, self.left), (False, [self.client]))


class NamesTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Patterns for kinds, channels for a device; what comes all the time only for those who name it."""
        fleet = Partitions("{jt709c}")
        everything = event_feeds.names(fleet, (), None)
        self.assertIn("{jt709c}:event:lock:*", everything)
        self.assertNotIn("{jt709c}:event:location:*", everything)
        self.assertNotIn("{jt709c}:event:heartbeat:*", everything)
        self.assertEqual(event_feeds.names(fleet, ("location",), None), {"{jt709c}:event:location:*"})
        self.assertIn("{jt709c}:event:location:5", event_feeds.names(fleet, (), "5"))
        self.assertEqual(
            event_feeds.names(fleet, ("lock", "alarm"), "5"),
            {"{jt709c}:event:lock:5", "{jt709c}:event:alarm:5"},
        )


class FakeRedis:
    """Takes subscriptions, and publishes to them."""

    connected = True

    def __init__(self) -> None:
        self.keys = Keys()
        self.names: set[str] = set()
        self.on_message: Any = None

    def listen(self, on_message: Any, subscriptions: Any, ready: Any, lost: Any) -> "FakeRedis":
        """It is there at once."""
        self.on_message, self.ready, self.lost = on_message, ready, lost
        return self

    def call(self, command: str, *names: str) -> Any:
        """SUBSCRIBE and its like; no label has changed."""
        if command == "ZRANGEBYSCORE":
            return succeed([])
        if command.endswith("UNSUBSCRIBE"):
            self.names -= set(names)
        elif command.endswith("SUBSCRIBE"):
            self.names |= set(names)
        return succeed(None)

    def publish(self, kind: str, count: int = 1) -> int:
        """Events of a kind, as long as there is a subscription to it; how many were taken."""
        taken = 0
        for number in range(count):
            name = f"jt709c:event:{kind}:*"
            if name in self.names:
                taken += 1
                self.on_message(name, f"jt709c:event:{kind}:1", b'{"v":1,"id":"x-%d"}' % number)
        return taken


class FakeRows:
    """Locks by when they were heard."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}

    async def changed_since(self, key: str, after: float, most: int) -> list[tuple[float, str]]:
        """As `DeviceRows` has it."""
        return sorted((at, name) for name, at in self.heard.items() if at > after)[:most]


class FanOutTests(SynchronousTestCase):
    """The events for all clients, second by second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.redis: Any = FakeRedis()
        store: Any = None
        web = PartitionedWebRedis(self.clock, Partitions("jt709c"), "gw", 5.0)
        web.servers = web.partitions = [WebPartition(0, self.redis, store)]
        self.live = live_events.LiveEvents(self.clock, web, DeviceTable(web), self.clock.seconds)
        self.live.startService()

    def listen(self, *kinds: str) -> FakeRequest:
        request: Any = FakeRequest()
        request.uri = b"/x?" + b"&".join(b"kind=%b" % kind.encode() for kind in kinds)
        self.successResultOf(Deferred.fromCoroutine(self.live.live(ApiRequest(request))))
        request.written.clear()
        return request

    def skipped(self, request: FakeRequest) -> list[dict[str, Any]]:
        text = b"".join(request.written).decode()
        return [
            json.loads(one.partition("data: ")[2]) for one in text.split("\n\n") if "event: skipped" in one
        ]

    def test_subscribed_while_somebody_listens(self) -> None:
        """To what its clients want, once for all of them, and to nothing without any."""
        first, second = self.listen("lock"), self.listen("lock", "alarm")
        self.assertEqual(self.redis.names, {"jt709c:event:lock:*", "jt709c:event:alarm:*"})
        self.redis.publish("lock")
        self.assertEqual(first.written, second.written)
        self.assertEqual(len(first.written), 1)
        second.producer.stopProducing()
        self.assertEqual(self.redis.names, {"jt709c:event:lock:*"})
        first.producer.stopProducing()
        self.assertEqual((self.redis.names, self.live.clients), (set(), 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_too_many(self) -> None:
        """Of a kind that comes too often some are left out, which is told, and not listened to."""
        request = self.listen("location", "lock")
        taken = self.redis.publish("location", 10_000)
        self.assertEqual(taken, live_events.MAX_RATE + 1)
        self.assertEqual(self.redis.publish("lock"), 1)
        self.assertEqual(len(request.written), live_events.MAX_RATE + 1)
        self.clock.advance(1)
        self.assertEqual(self.skipped(request), [{"count": 1, "reason": "rate"}])
        self.assertEqual(self.redis.publish("location"), 1)

    def test_all_in_all(self) -> None:
        """Many clients don't get more written than is said, and what can't be is not listened to."""
        requests = [self.listen("location", "lock", "alarm") for _ in range(50)]
        heard = [self.redis.publish(kind, 200) for kind in ("location", "lock", "alarm")]
        self.assertEqual(heard, [live_events.MAX_WRITTEN // 50 + 1, 1, 1])
        written = sum(len(request.written) for request in requests)
        self.assertEqual(written, live_events.MAX_WRITTEN)
        self.clock.advance(1)
        self.assertEqual(self.skipped(requests[0]), [{"count": 3, "reason": "rate"}])

    def test_beats_and_lives(self) -> None:
        """Every fifteen seconds there is a sign of life; after an hour a client has to come again."""
        request = self.listen("lock")
        self.clock.pump([1] * 30)
        self.assertEqual(request.written.count(b": still here\n\n"), 2)
        self.clock.pump([1] * 3571)
        self.assertTrue(request.finished)

    def test_redis_lost(self) -> None:
        """When Redis was away nobody knows what was missed, but that something may have been."""
        request = self.listen("lock")
        self.redis.lost("x")
        self.clock.advance(1)
        self.assertEqual(self.skipped(request), [{"count": 0, "reason": "redis"}])

    def test_told_again_when_redis_is_back(self) -> None:
        """What was published before it was listened to again is missing too, also to who came meanwhile."""
        first = self.listen("lock")
        self.redis.connected = False
        self.redis.lost("x")
        self.clock.advance(1)
        first.written.clear()
        second = self.listen("lock")
        self.clock.advance(1)
        self.assertEqual((self.skipped(first), self.skipped(second)), ([], []))
        self.redis.connected = True
        self.redis.ready()
        self.clock.advance(1)
        for request in (first, second):
            self.assertEqual(self.skipped(request), [{"count": 0, "reason": "redis"}])

    def test_gap_at_the_start(self) -> None:
        """The first connection takes a moment: what is published in it was missed, and that is told."""
        request = self.listen("lock")
        self.redis.ready()
        self.clock.advance(1)
        self.assertEqual([one["reason"] for one in self.skipped(request)], ["redis"])
        self.clock.advance(1)
        self.assertEqual(len(self.skipped(request)), 1)

    def test_odd_messages(self) -> None:
        """What isn't an event, or would end the message in the middle, does no harm."""
        request = self.listen("lock")
        for payload in (b"{", b"\xff", b'{"id":\n"a\\nb","x":"c"}', b'{"id":5}', b"[]"):
            self.redis.on_message("jt709c:event:lock:*", "x", payload)
        self.assertEqual(request.written, [b'event: event\ndata: {"id":"a\\nb","x":"c"}\n\n'])

    def test_stopped(self) -> None:
        """When the gateway stops it says goodbye to all, and takes nobody in."""
        request = self.listen("lock")
        self.live.stopService()
        self.assertTrue(request.finished)
        late: Any = FakeRequest()
        late.uri = b"/x"
        self.failureResultOf(Deferred.fromCoroutine(self.live.live(ApiRequest(late))), ApiError)


class SeenDevicesTests(SynchronousTestCase):
    """The locks that were heard, time after time."""

    def setUp(self) -> None:
        self.rows: Any = FakeRows()
        self.seen = SeenDevices(self.rows, "jt709c:devices", live_events.MAX_HEARD)

    def news(self) -> list[str]:
        return self.successResultOf(Deferred.fromCoroutine(self.seen.devices()))

    def test_heard(self) -> None:
        """Each lock that was heard is told once, also when its report came late, and none is left out."""
        rows, news = self.rows, self.news
        self.seen.since = 100.0
        self.assertEqual(news(), [])
        rows.heard = {"a": 101.0, "b": 102.0}
        self.assertEqual(news(), ["a", "b"])
        self.assertEqual(news(), [])
        rows.heard |= {"late": 101.5, "b": 103.0}
        self.assertEqual(news(), ["late", "b"])
        # More than can be told at a time; twenty are heard at each moment.
        rows.heard |= {
            f"lock{number}": 110.0 + number // 20 for number in range(3 * live_events.MAX_HEARD + 50)
        }
        told: list[str] = []
        while some := news():
            self.assertLessEqual(len(some), live_events.MAX_HEARD)
            told += some
        self.assertEqual(len(told), len(set(told)))
        self.assertEqual(set(told), {name for name in rows.heard if name.startswith("lock")})
        self.assertLessEqual(len(self.seen.returned), live_events.MAX_HEARD)

    def test_heard_at_once(self) -> None:
        """When more than can be told were heard at one moment, it goes on all the same."""
        self.rows.heard = {f"lock{number}": 5.0 for number in range(live_events.MAX_HEARD + 5)}
        self.assertEqual(len(self.news()), live_events.MAX_HEARD)
        self.rows.heard["new"] = 6.0
        self.assertEqual(self.news(), ["new"])
