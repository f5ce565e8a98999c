"""Live events: what a browser hears, and what it costs the gateway when it doesn't listen."""

import json
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.web import live, sse
from jt709c_gateway.web.calls import ApiError, Call
from jt709c_gateway.web.sse import Client
from tests.acl import GuardedServer
from tests.daemon import Daemon
from tests.orders_support import FakeLock, new_device
from tests.support import RedisClient, ValkeyServer, temporary_path, wait_until
from tests.web_support import Api, Listener, basic, user_line


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
        keys = Keys("{jt709c}")
        everything = live.names(keys, (), None)
        self.assertIn("{jt709c}:event:lock:*", everything)
        self.assertNotIn("{jt709c}:event:location:*", everything)
        self.assertNotIn("{jt709c}:event:heartbeat:*", everything)
        self.assertEqual(live.names(keys, ("location",), None), {"{jt709c}:event:location:*"})
        self.assertIn("{jt709c}:event:location:5", live.names(keys, (), "5"))
        self.assertEqual(
            live.names(keys, ("lock", "alarm"), "5"), {"{jt709c}:event:lock:5", "{jt709c}:event:alarm:5"}
        )


class FakeRedis:
    """Takes subscriptions, and publishes to them."""

    connected = True

    def __init__(self) -> None:
        self.keys = Keys()
        self.names: set[str] = set()
        self.on_message: Any = None

    def listen(self, on_message: Any, subscriptions: Any, lost: Any) -> "FakeRedis":
        """It is there at once."""
        self.on_message, self.lost = on_message, lost
        return self

    def call(self, command: str, *names: str) -> Any:
        """SUBSCRIBE and its like."""
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


class FakeFleet:
    """Locks by when they were heard."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}

    async def heard_since(self, after: float, most: int) -> list[tuple[float, str]]:
        """As `Fleet` has it."""
        return sorted((at, name) for name, at in self.heard.items() if at > after)[:most]


class FanOutTests(SynchronousTestCase):
    """The events for all clients, second by second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.redis: Any = FakeRedis()
        fleet: Any = None
        self.live = live.Live(self.clock, self.redis, fleet, self.clock.seconds)
        self.live.startService()

    def listen(self, *kinds: str) -> FakeRequest:
        request: Any = FakeRequest()
        request.uri = b"/x?" + b"&".join(b"kind=%b" % kind.encode() for kind in kinds)
        self.successResultOf(Deferred.fromCoroutine(self.live.open(Call(request))))
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
        self.assertEqual(taken, live.MAX_RATE + 1)
        self.assertEqual(self.redis.publish("lock"), 1)
        self.assertEqual(len(request.written), live.MAX_RATE + 1)
        self.clock.advance(1)
        self.assertEqual(self.skipped(request), [{"count": 1, "reason": "rate"}])
        self.assertEqual(self.redis.publish("location"), 1)

    def test_all_in_all(self) -> None:
        """Many clients don't get more written than is said."""
        requests = [self.listen("location", "lock", "alarm") for _ in range(50)]
        for kind in ("location", "lock", "alarm"):
            self.redis.publish(kind, 200)
        written = sum(len(request.written) for request in requests)
        self.assertEqual(written, live.MAX_WRITTEN)
        self.clock.advance(1)
        self.assertEqual(self.skipped(requests[0]), [{"count": 500, "reason": "rate"}])

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

    def test_odd_messages(self) -> None:
        """What isn't an event, or would end the message in the middle, does no harm."""
        request = self.listen("lock")
        for payload in (b"{", b"\xff", b'{"id":\n"a\\nb","x":"c"}', b'{"id":5}', b"[]"):
            self.redis.on_message("jt709c:event:lock:*", "x", payload)
        self.assertEqual(request.written, [b'event: event\ndata: {"id":"a\\nb","x":"c"}\n\n'])

    def test_heard(self) -> None:
        """Each lock that was heard is told once, also when its report came late, and none is left out."""
        fleet = FakeFleet()
        self.live._fleet = fleet  # type: ignore[assignment]

        def news() -> list[str]:
            return self.successResultOf(Deferred.fromCoroutine(self.live._news()))

        self.live._heard_from = 100.0
        self.assertEqual(news(), [])
        fleet.heard = {"a": 101.0, "b": 102.0}
        self.assertEqual(news(), ["a", "b"])
        self.assertEqual(news(), [])
        fleet.heard |= {"late": 101.5, "b": 103.0}
        self.assertEqual(news(), ["late", "b"])
        # More than can be told at a time; twenty are heard at each moment.
        fleet.heard |= {f"lock{number}": 110.0 + number // 20 for number in range(3 * live.MAX_HEARD + 50)}
        told: list[str] = []
        while some := news():
            self.assertLessEqual(len(some), live.MAX_HEARD)
            told += some
        self.assertEqual(len(told), len(set(told)))
        self.assertEqual(set(told), {name for name in fleet.heard if name.startswith("lock")})
        self.assertLessEqual(len(self.live._told), live.MAX_HEARD)

    def test_heard_at_once(self) -> None:
        """When more than can be told were heard at one moment, it goes on all the same."""
        fleet = FakeFleet()
        self.live._fleet = fleet  # type: ignore[assignment]
        fleet.heard = {f"lock{number}": 5.0 for number in range(live.MAX_HEARD + 5)}
        self.assertEqual(len(self.successResultOf(Deferred.fromCoroutine(self.live._news()))), live.MAX_HEARD)
        fleet.heard["new"] = 6.0
        self.assertEqual(self.successResultOf(Deferred.fromCoroutine(self.live._news())), ["new"])

    def test_stopped(self) -> None:
        """When the gateway stops it says goodbye to all, and takes nobody in."""
        request = self.listen("lock")
        self.live.stopService()
        self.assertTrue(request.finished)
        late: Any = FakeRequest()
        late.uri = b"/x"
        self.failureResultOf(Deferred.fromCoroutine(self.live.open(Call(late))), ApiError)


class DaemonTests(SynchronousTestCase):
    """A real gateway, real browsers' connections."""

    server: GuardedServer
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = GuardedServer().start()
        cls.daemon = Daemon("--gateway", "gw1", redis=cls.server.gateway_url).start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.daemon.discard()
        cls.server.end()
        super().tearDownClass()

    def setUp(self) -> None:
        self.api = Api(self.daemon)
        self.redis: RedisClient = self.server.client()
        self.addCleanup(self.redis.close)

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def listen(self, *query: tuple[str, object], **more: Any) -> Listener:
        """A client, once the gateway is subscribed for it."""
        listener = self.api.listen(*query, **more)
        self.addCleanup(listener.close)
        wait_until(lambda: self.subscriptions() > 0)
        return listener

    def subscriptions(self) -> int:
        patterns: int = self.redis.call("PUBSUB", "NUMPAT")
        return patterns + len(self.redis.call("PUBSUB", "CHANNELS"))

    def test_events(self) -> None:
        """An event comes as it is published, with its id; positions only for those who ask."""
        everything, locations = self.listen(), self.listen(("kind", "location"))
        wait_until(lambda: self.redis.call("PUBSUB", "NUMPAT") == 12)
        lock = self.lock()
        lock.open()
        messages = everything.messages()
        found = [next(messages) for _ in range(2)]
        self.assertEqual([event["kind"] for _, event, _ in found], ["session", "lock"])
        self.assertEqual([event["id"] for _, event, _ in found], [event_id for _, _, event_id in found])
        located = next(locations.messages())[1]
        self.assertEqual((located["kind"], located["device"]), ("location", lock.device))
        stored = self.redis.call("XREVRANGE", f"jt709c:history:{lock.device}", "+", "-", "COUNT", 1)
        self.assertEqual(found[1][1], json.loads(stored[0][1][5]))

    def test_of_one_lock(self) -> None:
        """All events of one lock, by its id or its IMEI, and none of another's."""
        one, other = self.lock(), self.lock()
        self.redis.call("HSET", "jt709c:imei", "867284063211238", one.device)
        listeners = [self.listen(("device", name)) for name in (f"0{one.device}", "867284063211238")]
        wait_until(lambda: len(self.redis.call("PUBSUB", "CHANNELS")) == 13)
        other.report()
        one.report()
        for listener in listeners:
            event = listener.next("event")
            self.assertEqual((event["device"], event["kind"]), (one.device, "location"))

    def test_devices(self) -> None:
        """Those who ask hear which locks were heard, once a second, as the list of devices has them."""
        with self.listen(("devices", 1), ("kind", "registration")) as listener:
            locks = [self.lock() for _ in range(3)]
            found: dict[str, Any] = {}
            while not {lock.device for lock in locks} <= set(found):
                heard = listener.next("devices")["devices"]
                found |= {one["device"]: one for one in heard}
            self.assertEqual(
                found[locks[0].device], self.api.get(f"/devices/{locks[0].device}").json["device"]
            )
            locks[1].open()
            changed = listener.next("devices")["devices"]
            self.assertEqual(
                [(one["device"], one["lock_state"]) for one in changed], [(locks[1].device, "unlocked")]
            )

    def test_head(self) -> None:
        """Who only wants to know what there is doesn't listen."""
        reply = self.api.fetch("HEAD", "/api/v1/events/live")
        self.assertEqual((reply.status, reply.headers["content-type"][:17]), (200, "text/event-stream"))

    def test_nobody(self) -> None:
        """When the last one has gone, the gateway is subscribed to nothing."""
        listener = self.listen(("kind", "location"))
        listener.close()
        wait_until(lambda: self.subscriptions() == 0)

    def test_slow_client(self) -> None:
        """One that doesn't read costs a bounded amount of memory; the others get everything."""
        slow = self.listen(("kind", "reply"), receive_buffer=4096)
        quick = self.listen(("kind", "reply"))
        before = self.memory()
        event = {"v": 1, "id": "x", "kind": "reply", "device": "1", "raw": "7e" * 4000}
        for number in range(4000):
            self.redis.call("PUBLISH", "jt709c:event:reply:1", json.dumps({**event, "serial": number}))
            if number % 100 == 99:
                # So that none is left out for coming too often.
                last = None
                while last is None or last["serial"] < number:
                    last = quick.next("event")
                time.sleep(0.35)
        self.assertLess(self.memory() - before, 24 << 20)
        skipped = slow.next("skipped", 30)
        self.assertGreater(skipped["count"], 2000)
        self.assertEqual(skipped["reason"], "slow")

    def memory(self) -> int:
        with open(f"/proc/{self.daemon.pid}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))

    def test_many_clients(self) -> None:
        """As many as is said; one more is told so, and comes in when one has gone."""
        clients = [self.listen(("kind", "lock")) for _ in range(live.MAX_CLIENTS)]
        refused = self.api.listen()
        self.addCleanup(refused.close)
        self.assertEqual((refused.status, refused.headers["retry-after"]), (503, "30"))
        self.assertIn("expected fewer than 100", refused.error()["message"])
        self.lock().open()
        for client in clients:
            self.assertEqual(client.next("event")["kind"], "lock")
        clients.pop().close()
        wait_until(lambda: self.admitted(), message="no place has become free")
        self.assertEqual(self.redis.call("PUBSUB", "NUMSUB"), [])
        self.assertLessEqual(self.redis.call("PUBSUB", "NUMPAT"), 12)

    def admitted(self) -> bool:
        client = self.api.listen(("kind", "lock"))
        client.close()
        return client.status == 200


class OutageTests(SynchronousTestCase):
    def start(self, *options: str) -> Api:
        self.server = ValkeyServer().start()
        self.addCleanup(self.server.discard)
        self.daemon = Daemon(*options, redis=self.server.url)
        self.addCleanup(self.daemon.discard)
        return Api(self.daemon.start())

    def test_redis_comes_back(self) -> None:
        """Whoever listens is told that something may be missing, and hears what comes afterwards."""
        api = self.start()
        with api.listen() as listener:
            wait_until(lambda: self.patterns() == 11)
            self.server.restart()
            self.assertEqual(listener.next("skipped"), {"count": 0, "reason": "redis"})
            wait_until(lambda: self.patterns() == 11)
            self.daemon.wait_ready()
            lock = FakeLock(new_device()).connect(self.daemon)
            self.addCleanup(lock.close)
            self.assertEqual(listener.next("event")["device"], lock.device)

    def patterns(self) -> int:
        with self.server.client() as client:
            found: int = client.call("PUBSUB", "NUMPAT")
            return found

    def test_gateway_stops(self) -> None:
        """A gateway that is stopped ends what is live in good order, and is not kept by it."""
        api = self.start()
        with api.listen() as listener:
            began = time.monotonic()
            self.daemon._process.terminate()  # type: ignore[union-attr]
            self.assertTrue(listener.ended())
            self.assertEqual(self.daemon.stop(), 0)
            self.assertLess(time.monotonic() - began, 8)
        self.assertNotIn("Traceback", self.daemon.log())

    def test_users(self) -> None:
        """With users, live events are theirs alone."""
        users = Path(temporary_path(self))
        users.write_text(user_line("anna", "right"))
        api = self.start("--web-users", str(users))
        with api.listen() as refused:
            self.assertEqual(refused.status, 401)
        with Api(self.daemon, basic("anna", "right")).listen() as admitted:
            self.assertEqual(admitted.status, 200)
