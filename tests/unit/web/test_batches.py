"""Commands that are given to many locks at once."""

import json
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.web.api.batch_body import NewBatch
from jt709c_gateway.web.api.command_requests import NewCommand
from tests.support import ValkeyServer, temporary_path, wait_until
from tests.support.commands import PASSWORD, CommandClient, FakeLock, new_device, new_id
from tests.support.daemon import Daemon
from tests.support.signing import SECRET
from tests.support.web import Api, Reply, basic, user_line


class FieldsTests(SynchronousTestCase):
    def test_fields_of_commands(self) -> None:
        """A batch takes each field that a single command takes."""
        own = set(NewBatch.__struct_fields__) - {"devices", "group"}
        self.assertEqual(own, set(NewCommand.__struct_fields__) - {"device"})


class BatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ValkeyServer().start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def begin(self, *options: str) -> Api:
        users = temporary_path(self)
        Path(users).write_text(user_line("anna", "right") + user_line("ben", "also right"))
        self.options = ("--gateway", "gw1", "--web-users", users, "--web-commands", *options)
        return self.start()

    def start(self) -> Api:
        self.daemon = Daemon(*self.options, redis=self.server.url, udp=False)
        self.addCleanup(self.daemon.discard)
        return Api(self.daemon.start(), basic("anna", "right"))

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def seen(self, count: int) -> list[str]:
        """Put locks into Redis that have reported and are away."""
        devices = [new_device() for _ in range(count)]
        for device in devices:
            key = self.client.key("device", device)
            self.client.redis.call("HSET", key, "dialect", "jt709", "seen", "2026-01-01T00:00:00Z")
        return devices

    def body(self, *devices: str, **more: Any) -> dict[str, Any]:
        params = {"password": PASSWORD}
        return {"id": new_id(), "devices": devices, "command": "unlock", "params": params, "ttl": 600, **more}

    def given(self, api: Api, body: dict[str, Any], status: int) -> Reply:
        reply = api.post("/batches", body)
        self.assertEqual(reply.status, status, reply.body)
        self.assertNotIn(PASSWORD.encode(), reply.body)
        return reply

    def complete(self, api: Api, batch: str) -> dict[str, Any]:
        """Wait until a batch has been given and taken in."""

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = api.get(f"/batches/{batch}").json
            return found if not found["is_being_given"] and not found["unrecorded"] else None

        return wait_until(ended)

    def test_check(self) -> None:
        """It says how many would get the command and names the others, and those that are unlike."""
        api, lock = self.begin(), self.lock()
        away, waits, empty = self.seen(3)
        self.client.redis.call("HDEL", self.client.key("device", empty), "dialect")
        self.client.redis.call(
            "HSET", self.client.key("device", empty), "dialect", "sentence", "firmware", "x"
        )
        self.client.redis.call("RPUSH", self.client.key("commands", "waiting", waits), "{}")
        fast = {"time": "2026-01-01T00:00:00Z", "speed_kmh": 61.5}
        self.client.redis.call("HSET", self.client.key("device", waits), "location", json.dumps(fast))
        unknown = new_device()
        body = self.body(lock.device, away, waits, unknown, empty, "00" + away, "E03B60000B")
        reply = api.post("/batches/check", body)
        self.assertEqual(reply.status, 200, reply.body)
        found = reply.json
        self.assertEqual((found["count"], found["physical"]), (3, True))
        odd = {one["device"]: one["problems"] for one in found["odd"]}
        self.assertEqual(odd, {away: ["offline"], waits: ["offline", "moving", "command_waits"]})
        left_out = [(one["device"], one["problems"]) for one in found["left_out"]]
        expected = [(unknown, ["unknown"]), (empty, ["no_profile"]), (away, ["repeated"])]
        self.assertEqual(left_out, [*expected, ("E03B60000B", ["refused"])])
        self.assertEqual(lock.unlocks(), [])
        without = api.post("/batches/check", {**body, "params": {}}).json
        self.assertEqual(without["count"], 0)
        self.assertIn("it needs password", without["left_out"][0]["message"])

    def test_mistakes(self) -> None:
        """A wrong field is named, and nothing is given."""
        api, (device,) = self.begin(), self.seen(1)
        for changes, field in (
            ({"devices": []}, "devices"),
            ({"devices": ["1"] * 1001}, "devices"),
            ({"devices": [device, "12-3"]}, "devices"),
            ({"devices": [new_device()]}, "devices"),
            ({"devices": None}, "devices"),
            ({"group": "north"}, "devices"),
            ({"devices": None, "group": "north"}, "group"),
            ({"id": "x" * 41}, "id"),
            ({"ttl": 0}, "ttl"),
            ({"command": "Unlock"}, "command"),
            ({"nonsense": 1}, None),
        ):
            reply = self.given(api, {**self.body(device), **changes}, 400)
            self.assertEqual(reply.error["field"], field, (changes, reply.error))
        self.assertEqual(api.get("/batches/nothing").status, 404)
        self.assertEqual(api.get("/commands").json["commands"], [])

    def test_given_and_repeated(self) -> None:
        """Each lock gets one command; the same again gives none, and another under its id is refused."""
        api, lock, away = self.begin(), self.lock(), self.seen(1)[0]
        unknown = new_device()
        body = self.body(lock.device, away, unknown)
        reply = self.given(api, body, 202)
        self.assertEqual(reply.headers["location"], f"/api/v1/batches/{body['id']}")
        self.assertEqual((reply.json["count"], reply.json["issued_by"]), (2, "web:anna"))
        self.assertEqual([one["device"] for one in reply.json["left_out"]], [unknown])
        lock.say_yes(lock.next_unlock())
        lock.open()
        self.client.wait(f"{body['id']}-{lock.device}", "confirmed")
        found = self.complete(api, body["id"])
        self.assertEqual(found["states"], {"waiting": 1, "confirmed": 1})
        listed = api.get("/commands", ("batch", body["id"])).json["commands"]
        self.assertEqual({one["device"] for one in listed}, {lock.device, away})
        self.assertEqual(self.given(api, body, 200).json["states"], found["states"])
        ben = Api(self.daemon, basic("ben", "also right"))
        for asking, changes, differs in (
            (ben, {}, "issued_by"),
            (api, {"devices": [lock.device]}, "devices"),
            (api, {"command": "seal", "params": {}}, "command"),
            (api, {"ttl": 60}, "params or times"),
        ):
            error = self.given(asking, {**body, **changes}, 409).error
            self.assertIn(f"differs in {differs}: expected an id of its own", error["message"])
        lock.beat()
        self.assertEqual(lock.unlocks(), [])
        cancelled = self.client.command(away, "cancel", {"id": f"{body['id']}-{away}"})
        self.client.wait_end(cancelled)
        problems = self.complete(api, body["id"])["problems"]
        self.assertEqual([(one["device"], one["state"]) for one in problems], [(away, "cancelled")])
        self.assertNotIn(PASSWORD, self.daemon.log())

    def test_group(self) -> None:
        """A group stands for the locks that have it in their label when the batch is given."""
        api, devices = self.begin(), self.seen(3)
        for device, group in zip(devices, ("north", "south", "north"), strict=True):
            self.client.redis.call("HSET", self.client.key("label", device), "group", group)
            self.client.redis.call("SADD", self.client.key("labels"), device)
        body = {**self.body(), "devices": None, "group": "north"}
        self.given(api, body, 202)
        self.complete(api, body["id"])
        given = api.get("/commands", ("batch", body["id"])).json["commands"]
        self.assertEqual({one["device"] for one in given}, {devices[0], devices[2]})
        self.client.redis.call("HSET", self.client.key("label", devices[1]), "group", "north")
        self.assertEqual(self.given(api, body, 200).json["count"], 2)

    def test_a_crash_doubles_nothing(self) -> None:
        """When the gateway dies half-way, that shows what was not given; given again, none gets it twice."""
        api = self.begin()
        lock, devices = self.lock(), self.seen(40)
        body = self.body(lock.device, *devices)
        self.given(api, body, 202)
        lock.next_unlock()
        wait_until(lambda: api.get(f"/batches/{body['id']}").json["unrecorded"] < 35)
        self.daemon.kill()
        api = self.start()
        # What the dead gateway said holds for 15 seconds.
        self.client.redis.call("DEL", self.client.key("giving", body["id"]))
        found = api.get(f"/batches/{body['id']}").json
        self.assertEqual(found["count"], 41)
        self.assertGreater(found["unrecorded"], 0)
        self.assertFalse(found["is_being_given"])
        self.assertIn(None, {one["state"] for one in found["problems"]})
        lock.connect(self.daemon)
        self.assertTrue(self.given(api, body, 200).json["is_being_given"])
        self.given(api, body, 200)
        found = self.complete(api, body["id"])
        self.client.wait(f"{body['id']}-{lock.device}", "uncertain")
        self.assertEqual(found["states"]["waiting"], 40)
        self.assertEqual(lock.unlocks(), [])
        for device in devices:
            self.assertEqual(
                self.client.redis.call("LLEN", self.client.key("commands", "waiting", device)), 1
            )

    def test_rate(self) -> None:
        """Twenty commands a second, and what is not given yet when the gateway is stopped is told."""
        api, devices = self.begin(), self.seen(60)
        begun = time.monotonic()
        body = self.body(*devices)
        self.given(api, body, 202)
        wait_until(lambda: api.get(f"/batches/{body['id']}").json["unrecorded"] <= 30)
        self.assertGreater(time.monotonic() - begun, 29 / 20)
        self.assertEqual(self.daemon.stop(), 0)
        api = self.start()
        found = api.get(f"/batches/{body['id']}").json
        self.assertFalse(found["is_being_given"])
        self.assertGreater(found["unrecorded"], 0)

    def test_partitions_and_signed(self) -> None:
        """In partitions, and signed with the key of the page."""
        keys = temporary_path(self)
        Path(keys).write_text(f'page = "{SECRET.hex()}"\n')
        Path(keys).chmod(0o600)
        api = self.begin("--partitions", "4", "--command-keys", keys, "--web-command-key", "page")
        locks = [self.lock() for _ in range(4)]
        body = self.body(*[one.device for one in locks])
        self.given(api, body, 202)
        for lock in locks:
            lock.say_yes(lock.next_unlock())
            lock.open()
        wait_until(lambda: api.get(f"/batches/{body['id']}").json["states"] == {"confirmed": 4})
        given = api.get("/commands", ("batch", body["id"])).json["commands"]
        self.assertEqual({one["key"] for one in given}, {"page"})
