"""Live events over real connections."""

import json
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web import live_events
from tests.support import ValkeyServer, temporary_path, wait_until
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.web import Api, ApiCase, Listener, basic, user_line


class DaemonTests(ApiCase):
    """A real gateway, real browsers' connections."""

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
        # Locks of other tests may still be going.
        messages = (one for one in everything.messages() if one[1]["device"] == lock.device)
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
        if skipped["reason"] == "redis":
            # On a busy machine the server may have ended a subscription that was read too slowly.
            skipped = slow.next("skipped", 30)
        self.assertGreater(skipped["count"], 2000)
        self.assertEqual(skipped["reason"], "slow")

    def memory(self) -> int:
        with open(f"/proc/{self.daemon.pid}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))

    def test_many_clients(self) -> None:
        """As many as is said; one more is told so, and comes in when one has gone."""
        clients = [self.listen(("kind", "lock")) for _ in range(live_events.MAX_CLIENTS)]
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
