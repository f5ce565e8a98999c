"""Commands that are given again on the status page under the id that they had: an answer can be lost."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ValkeyServer, temporary_path, wait_until
from tests.support.commands import PASSWORD, CommandClient, FakeLock, new_device, new_id
from tests.support.daemon import Daemon
from tests.support.masters import LORA, OPEN, FakeMaster, new_master, new_sublock
from tests.support.signing import SECRET
from tests.support.web import Api, Reply, basic, user_line


class RepeatingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ValkeyServer().start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def begin(self, *options: str) -> Api:
        users = temporary_path(self)
        Path(users).write_text(user_line("anna", "right") + user_line("ben", "also right"))
        self.daemon = Daemon(
            "--web-users", users, "--web-commands", *options, redis=self.server.url, udp=False
        )
        self.addCleanup(self.daemon.discard)
        return Api(self.daemon.start(), basic("anna", "right"))

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def unlock(self, lock: FakeLock) -> dict[str, Any]:
        return {
            "id": new_id(),
            "device": lock.device,
            "command": "unlock",
            "params": {"password": PASSWORD},
        }

    def given(self, api: Api, body: dict[str, Any], status: int) -> Reply:
        reply = api.post("/commands", body)
        self.assertEqual(reply.status, status, reply.body)
        if status < 400:
            self.assertEqual(reply.json["id"], body["id"])
            self.assertEqual(reply.headers["location"], f"/api/v1/commands/{body['id']}")
        self.assertNotIn(PASSWORD.encode(), reply.body)
        return reply

    def test_again(self) -> None:
        """Given again it is told as it stands, in each of its states, and is written once."""
        api, lock = self.begin(), self.lock()
        body = self.unlock(lock)
        self.given(api, body, 202)
        serial = lock.next_unlock()
        self.assertEqual(self.given(api, body, 200).json["command"]["state"], "sent")
        lock.say_yes(serial)
        lock.open()
        self.client.wait(body["id"], "confirmed")
        self.assertEqual(self.given(api, {**body, "ttl": 60}, 200).json["command"]["state"], "confirmed")
        lock.beat()
        self.assertEqual(lock.unlocks(), [])
        self.assertEqual(self.client.record(body["id"])["attempts"], "1")

    def test_at_once(self) -> None:
        """Given ten times at once, it is written once."""
        api, lock = self.begin(), self.lock()
        body = self.unlock(lock)
        with ThreadPoolExecutor(10) as pool:
            replies = list(pool.map(lambda _: api.post("/commands", body), range(10)))
        self.assertLessEqual({reply.status for reply in replies}, {200, 202})
        lock.say_yes(lock.next_unlock())
        lock.open()
        self.client.wait(body["id"], "confirmed")
        wait_until(lambda: self.client.redis.call("LLEN", self.client.key("commands")) == 0)
        lock.beat()
        self.assertEqual(lock.unlocks(), [])

    def test_not_taken_in_yet(self) -> None:
        """Of two commands with one id that come at once, one is given and the other is refused."""
        api = self.begin()
        body = self.unlock(self.lock())
        bodies = [body, {**body, "command": "locate", "params": {}}]
        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(lambda one: api.post("/commands", one), bodies))
        self.assertEqual(sorted(reply.status for reply in replies), [202, 409])
        winner = bodies[[reply.status for reply in replies].index(202)]
        record = wait_until(lambda: self.client.record(body["id"]))
        self.assertEqual(record["command"], winner["command"])

    def test_another(self) -> None:
        """The id of another command is refused, whatever makes it another, and that one goes its way."""
        api, lock, other = self.begin(), self.lock(), self.lock()
        body = {"id": new_id(), "device": lock.device, "command": "text", "params": {"text": "one"}}
        self.given(api, body, 202)
        wait_until(lambda: self.client.record(body["id"]))
        ben = Api(self.daemon, basic("ben", "also right"))
        for asking, changed, differs in (
            (api, {"device": other.device}, "device"),
            (api, {"command": "locate", "params": {}}, "command"),
            (api, {"params": {"text": "two"}}, "params"),
            (api, {"max_speed_kmh": 5}, "conditions"),
            (ben, {}, "issued_by"),
        ):
            error = self.given(asking, {**body, **changed}, 409).error
            self.assertEqual(error["field"], "id")
            self.assertIn(f"differs in {differs}: expected an id of its own", error["message"])
        self.given(api, body, 200)
        pushed = self.client.unlock(other.device, issued_by="night shift")
        self.client.wait(pushed, "sent")
        self.given(api, {**self.unlock(other), "id": pushed}, 409)

    def test_names(self) -> None:
        """A lock's IMEI and its id are one lock; a sub-lock's command is known by what its master is told."""
        api, lock = self.begin(), self.lock()
        imei = "860000000000017"
        self.client.redis.call("HSET", self.client.key("imei"), imei, lock.device)
        body = self.unlock(lock)
        self.given(api, {**body, "device": imei}, 202)
        self.client.wait(body["id"], "sent")
        self.given(api, body, 200)
        self.given(api, {**body, "device": imei}, 200)
        master, sublock = FakeMaster(new_master()), new_sublock()
        master.connect(self.daemon)
        self.addCleanup(master.close)
        master.hear(sublock, LORA, OPEN)
        wait_until(lambda: self.client.redis.call("EXISTS", self.client.key("peripheral", sublock)))
        for_sublock = {"id": new_id(), "device": sublock, "command": "unlock"}
        self.given(api, for_sublock, 202)
        wait_until(lambda: self.client.record(for_sublock["id"]))
        found = self.given(api, for_sublock, 200).json["command"]
        self.assertEqual((found["device"], found["peripheral"]), (master.device, sublock))
        self.given(api, {**for_sublock, "device": lock.device, "params": {"password": PASSWORD}}, 409)

    def test_signed(self) -> None:
        """Signed anew each time it is still one command."""
        keys = temporary_path(self)
        Path(keys).write_text(f'[page]\nsecret = "{SECRET.hex()}"\ncommands = ["unlock"]\n')
        Path(keys).chmod(0o600)
        api = self.begin("--command-keys", keys, "--web-command-key", "page")
        lock = self.lock()
        body = self.unlock(lock)
        self.assertEqual(self.given(api, body, 202).json, {"id": body["id"]})
        serial = lock.next_unlock()
        self.assertEqual(self.given(api, body, 200).json["command"]["key"], "page")
        lock.say_yes(serial)
        lock.open()
        self.client.wait(body["id"], "confirmed")
        lock.beat()
        self.assertEqual(lock.unlocks(), [])
