"""The API over several partitions: the same answers as from one store, and what is missing is said."""

import json
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.partitions import Partitions
from tests.support import PATIENCE, ValkeyServer, temporary_path, wait_until
from tests.support.daemon import Daemon
from tests.support.fleets import StoredFleet, device, two_servers
from tests.support.web import Api, Listener, basic, user_line

LOCKS = 700
#: Milliseconds at which the events begin.
BEGUN = 1_764_000_000_000


def pages(api: Api, path: str, what: str, *query: tuple[str, object]) -> list[Any]:
    """All entries of a list, page after page."""
    found: list[Any] = []
    more: list[tuple[str, object]] = []
    while True:
        answer = api.get(path, *query, *more).json
        assert "partitions_away" not in answer
        found += answer[what]
        if answer["next"] is None:
            return found
        more = [("cursor", answer["next"])]


class SameAsOneStoreTests(SynchronousTestCase):
    """The same fleet in one store, and in four partitions."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = ValkeyServer().start()
        cls.addClassCleanup(cls.server.discard)
        cls.apis: dict[str, Api] = {}
        now = time.time()
        with cls.server.client() as client:
            for layout in (Partitions("one"), Partitions("many", 4)):
                fleet = StoredFleet(layout, [client])
                for number in range(LOCKS):
                    # Ten at a time were seen at the same moment.
                    fleet.lock(number, now - 5000 + number // 10 + 0.125)
                for number in range(900):
                    kind = "alarm" if number % 300 == 0 else "lock"
                    fleet.event(number % 90, f"{BEGUN + number // 3}-{number % 3}", kind)
                for number in range(250):
                    fleet.command(number % 40, f"c{number}", now - 1000 + number // 2)
        for prefix, options in (("one", ()), ("many", ("--partitions", "4"))):
            daemon = Daemon("--prefix", prefix, *options, redis=cls.server.url, udp=False).start()
            cls.addClassCleanup(daemon.discard)
            cls.apis[prefix] = Api(daemon)

    def assert_same(self, path: str, what: str, *query: tuple[str, object]) -> list[Any]:
        one, many = (pages(self.apis[prefix], path, what, *query) for prefix in ("one", "many"))
        for entry in many:
            if "entry" in entry:
                entry["entry"] = entry["entry"].partition(":")[0]
        self.assertEqual(many, one)
        return many

    def test_devices(self) -> None:
        """All locks in the same order, with pages of any length, also among those seen at one moment."""
        for limit in (97, 200, 20_000):
            found = self.assert_same("/devices", "devices", ("limit", limit))
            self.assertEqual(len(found), LOCKS)
        whole = self.apis["many"].get("/devices", ("limit", 5)).json
        self.assertEqual((whole["total"], len(whole["devices"])), (LOCKS, 5))

    def test_seen_since(self) -> None:
        """Those seen since a moment, and how many there are."""
        since = time.time() - 5000 + LOCKS // 10 - 5
        answers = [self.apis[one].get("/devices", ("seen_since", since)).json for one in ("one", "many")]
        self.assertEqual(answers[0]["total"], answers[1]["total"])
        self.assertEqual(answers[0]["devices"], answers[1]["devices"])

    def test_events(self) -> None:
        """The events of all partitions by their time, forward through every page."""
        self.assertEqual(len(self.assert_same("/events", "entries", ("limit", 70))), 900)
        self.assertEqual(len(self.assert_same("/events", "entries", ("kind", "alarm"), ("limit", 2))), 3)
        since = (BEGUN + 200) / 1000
        self.assertEqual(len(self.assert_same("/events", "entries", ("since", since))), 300)
        self.assertEqual(len(self.assert_same("/events", "entries", ("device", device(7)), ("limit", 4))), 10)
        self.assertEqual(len(self.assert_same(f"/devices/{device(7)}/history", "entries", ("limit", 4))), 10)

    def test_events_of_the_same_id(self) -> None:
        """Streams give ids of their own, so several partitions may have the same."""
        layout = Partitions("many", 4)
        numbers = {layout.number(device(number)): number for number in range(50)}
        with self.server.client() as client:
            for number in numbers.values():
                StoredFleet(layout, [client]).event(number, f"{BEGUN + 5000}-7")
        since = ("since", (BEGUN + 5000) / 1000)
        self.addCleanup(self.remove, layout, f"{BEGUN + 5000}-7")
        for limit in (1, 3, 100):
            found = pages(self.apis["many"], "/events", "entries", since, ("limit", limit))
            self.assertEqual([one["entry"] for one in found], [f"{BEGUN + 5000}-7:{k}" for k in (3, 2, 1, 0)])

    def remove(self, layout: Partitions, entry: str) -> None:
        with self.server.client() as client:
            for keys in layout:
                client.call("XDEL", keys.events, entry)

    def test_commands(self) -> None:
        """The commands of all partitions, the last accepted first; one by its id."""
        for query in ((), (("device", device(3)),), (("device", f"86728406{3:07d}"),)):
            for limit in (7, 1000):
                self.assert_same("/commands", "commands", *query, ("limit", limit))
        self.assertEqual(len(self.assert_same("/commands", "commands")), 250)
        for number in range(8):
            found = self.apis["many"].get(f"/commands/c{number}").json["command"]
            self.assertEqual(found["device"], device(number))
        self.assertEqual(self.apis["many"].get("/commands/none").status, 404)

    def test_names(self) -> None:
        """A lock by its id and by its IMEI, which may be in another partition."""
        for number in range(8):
            for name in (device(number), "0" + device(number), f"86728406{number:07d}"):
                found = self.apis["many"].get(f"/devices/{name}").json["device"]
                self.assertEqual(found["device"], device(number))
        self.assertEqual(self.apis["many"].get("/devices/867284069999999").status, 404)


class OneServerAwayTests(SynchronousTestCase):
    """Four partitions on two servers, of which one is stopped."""

    def setUp(self) -> None:
        path = temporary_path(self)
        Path(path).write_text(user_line("anna", "right"))
        self.servers, daemon = two_servers("--web-users", path, "--web-commands")
        for server in self.servers:
            self.addCleanup(server.discard)
        self.addCleanup(daemon.discard)
        self.layout = Partitions("jt709c", 4)
        self.clients = [server.client() for server in self.servers]
        fleet = StoredFleet(self.layout, self.clients)
        now = time.time()
        for number in range(40):
            fleet.lock(number, now - 100 + number)
            fleet.event(number, f"{BEGUN + number}-0")
            fleet.command(number, f"c{number}", now - 100 + number)
        self.api = Api(daemon.start(), basic("anna", "right"))
        self.here = [number for number in range(40) if self.layout.number(device(number)) % 2 == 0]
        self.gone = [number for number in range(40) if number not in self.here]

    def stop_second(self) -> None:
        self.servers[1].kill()
        # From then on nobody waits for it.
        wait_until(lambda: self.get("/devices").get("partitions_away") == [1, 3])

    def get(self, path: str, *query: tuple[str, object]) -> Any:
        """Return the answer to a GET."""
        return self.api.get(path, *query).json

    def test_lists(self) -> None:
        """Every list has what is there, and names the partitions that are missing."""
        self.assertEqual(self.get("/devices")["total"], 40)
        self.assertNotIn("partitions_away", self.get("/devices"))
        self.stop_second()
        devices = self.get("/devices", ("limit", 1000))
        self.assertEqual(
            [one["device"] for one in devices["devices"]], [device(one) for one in self.here[::-1]]
        )
        self.assertEqual((devices["total"], devices["partitions_away"]), (len(self.here), [1, 3]))
        events = self.get("/events")
        self.assertEqual(events["partitions_away"], [1, 3])
        self.assertLessEqual(
            {device(one) for one in self.here}, {e["event"]["device"] for e in events["entries"]}
        )
        commands = self.get("/commands")
        self.assertEqual([one["id"] for one in commands["commands"]], [f"c{one}" for one in self.here[::-1]])
        self.assertEqual(commands["partitions_away"], [1, 3])

    def test_single(self) -> None:
        """A lock or a command that is there is shown as ever; of others it is said who is away."""
        self.stop_second()
        here, gone = device(self.here[0]), device(self.gone[0])
        for path in (f"/devices/{here}", f"/devices/{here}/history", f"/devices/{here}/track"):
            reply = self.api.get(path)
            self.assertEqual((reply.status, "partitions_away" in reply.json), (200, False), path)
        number = self.layout.number(gone)
        for path in (f"/devices/{gone}", f"/devices/{gone}/history", f"/devices/{gone}/track"):
            reply = self.api.get(path)
            self.assertEqual((reply.status, reply.json["partitions_away"]), (503, [number]), path)
            self.assertIn(f"partition {number} of Redis is away", reply.error["message"])
        self.assertEqual(self.get(f"/commands/c{self.here[0]}")["command"]["device"], here)
        # Nobody knows whether these exist.
        for name in (f"c{self.gone[0]}", "none"):
            reply = self.api.get(f"/commands/{name}")
            self.assertEqual((reply.status, reply.json["partitions_away"]), (503, [1, 3]))

    def test_commands(self) -> None:
        """Commands for locks that are there are given; those for others are refused, not lost."""
        self.stop_second()
        here, gone = device(self.here[0]), device(self.gone[0])
        accepted = self.api.post("/commands", {"id": "mine", "device": here, "command": "locate", "ttl": 600})
        self.assertEqual(accepted.status, 202)
        record = self.layout.keys_of(here).command("mine")
        wait_until(lambda: self.clients[0].call("HGET", record, "state") == b"waiting")
        again = self.api.post("/commands", {"id": "mine", "device": here, "command": "locate", "ttl": 600})
        self.assertEqual((again.status, again.json["command"]["state"]), (200, "waiting"))
        refused = self.api.post("/commands", {"device": gone, "command": "locate"})
        self.assertEqual((refused.status, refused.json["partitions_away"]), (503, [self.layout.number(gone)]))

    def test_unknown_lock(self) -> None:
        """A command for a lock that nobody knows waits in its partition."""
        unknown = next(
            str(n) for n in range(794_308_900_000, 794_308_900_100) if self.layout.number(str(n)) == 3
        )
        reply = self.api.post("/commands", {"device": unknown, "command": "locate", "ttl": 600})
        self.assertEqual(reply.status, 202)
        record = self.layout.keys[3].command(reply.json["id"])
        wait_until(lambda: self.clients[1].call("HGET", record, "state") == b"waiting")

    def test_same_id(self) -> None:
        """An id stands for one command of a device: that of the same lock is the one that is repeated."""
        one, other = (device(numbers[0]) for numbers in (self.here, self.gone))
        body = {"id": "same", "command": "locate", "ttl": 600}
        self.assertEqual(self.api.post("/commands", {**body, "device": one}).status, 202)
        wait_until(lambda: self.api.get("/commands/same").status == 200)
        conflict = self.api.post("/commands", {**body, "device": other})
        self.assertEqual((conflict.status, "differs in device" in conflict.error["message"]), (409, True))
        fleet = StoredFleet(self.layout, self.clients)
        fleet.command(self.gone[0], "same", time.time() - 50)
        again = self.api.post("/commands", {**body, "device": one})
        self.assertEqual((again.status, again.json["command"]["device"]), (200, one))
        self.assertEqual(self.get("/commands/same")["command"]["device"], one)

    def test_fast(self) -> None:
        """Who asks for the others doesn't wait for what has been away for some time."""
        self.stop_second()
        began = time.monotonic()
        for path in ("/devices", "/events", "/commands"):
            self.assertEqual(self.get(path, ("limit", 3))["partitions_away"], [1, 3])
        self.assertLess(time.monotonic() - began, 1.5)

    def test_all_away(self) -> None:
        """When all are away that is an error, not an empty fleet."""
        for server in self.servers:
            server.kill()
        reply = self.api.get("/devices")
        self.assertEqual((reply.status, reply.json["partitions_away"]), (503, [0, 1, 2, 3]))

    def told_away(self, listener: Listener, numbers: list[int]) -> None:
        """Wait until a listener is told that exactly these are away."""
        while listener.next("partitions", PATIENCE)["partitions_away"] != numbers:
            pass

    def test_live(self) -> None:
        """Who listens is told which partitions go away and when they are back, and hears both servers."""
        with self.api.listen(("kind", "lock"), ("devices", 1)) as listener:
            for server in self.servers:
                with server.client() as client:
                    wait_until(lambda client=client: client.call("PUBSUB", "NUMPAT") == 1)  # type: ignore[misc]
                    event = {"v": 1, "id": f"x-{server.port}"}
                    client.call("PUBLISH", "jt709c:event:lock:5", json.dumps(event))
                self.assertEqual(listener.next("event"), event)
            self.servers[1].kill()
            self.told_away(listener, [1, 3])
            with self.api.listen() as late:
                self.assertEqual(late.next("partitions"), {"partitions_away": [1, 3]})
            devices = self.layout.keys_of(device(self.here[0])).devices
            self.clients[0].call("ZADD", devices, time.time() + 1, device(self.here[0]))
            heard = listener.next("devices")["devices"]
            self.assertEqual([one["device"] for one in heard], [device(self.here[0])])
            self.servers[1].start()
            self.told_away(listener, [])
            self.assertEqual(listener.next("skipped"), {"count": 0, "reason": "redis"})
