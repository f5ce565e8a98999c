"""Commands that are given on the status page."""

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import ValkeyServer, temporary_path, wait_until
from tests.support.commands import PASSWORD, CommandClient, FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.signing import SECRET
from tests.support.web import FROM_THE_PAGE, Api, Reply, basic, user_line

ANNA, BEN = user_line("anna", "right"), user_line("ben", "väldigt hemligt")
MD5 = "carl:$apr1$dqk6kV2n$yYbcDVoMwFxyVfHzCiNxk0\n"
SHA = "carl:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n"


class GivingCommandsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = ValkeyServer().start()
        self.addCleanup(self.server.discard)
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)

    def users(self) -> str:
        path = temporary_path(self)
        Path(path).write_text(user_line("anna", "right"))
        return path

    def begin(self, *options: str) -> Api:
        self.daemon = Daemon("--web-users", self.users(), *options, redis=self.server.url, udp=False)
        self.addCleanup(self.daemon.discard)
        return Api(self.daemon.start(), basic("anna", "right"))

    def lock(self) -> FakeLock:
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        return lock

    def test_unlock(self) -> None:
        """A command from the page opens a lock; who gave it is in the audit trail, its password nowhere."""
        api = self.begin("--web-commands")
        self.assertTrue(api.get("/config").json["commands"])
        lock = self.lock()
        body = {"device": lock.device, "command": "unlock", "params": {"password": PASSWORD}, "ttl": 60}
        reply = api.post("/commands", body)
        self.assertEqual(reply.status, 202)
        command = reply.json["id"]
        self.assertEqual(reply.headers["location"], f"/api/v1/commands/{command}")
        lock.say_yes(lock.next_unlock())
        lock.open()
        record = self.client.wait(command, "confirmed")
        self.assertEqual((record["issued_by"], record["ttl"]), ("web:anna", "60.0"))
        seen = [api.get(path).body for path in ("/commands", f"/commands/{command}", "/events", "/devices")]
        seen.append(api.get(f"/devices/{lock.device}/history").body)
        for text in (*seen, self.daemon.log().encode(), reply.body):
            self.assertNotIn(PASSWORD.encode(), text)

    def test_for_a_lock_that_is_away(self) -> None:
        """A command for a lock that nobody has heard waits for it, and can be taken back."""
        api = self.begin("--web-commands")
        device = new_device()
        command = api.post("/commands", {"device": device, "command": "locate"}).json["id"]
        self.client.wait(command, "waiting")
        api.post("/commands", {"device": device, "command": "cancel", "params": {"id": command}})
        self.client.wait(command, "cancelled")

    def test_off(self) -> None:
        """Without --web-commands there are none."""
        api = self.begin()
        reply = api.post("/commands", {"device": "1", "command": "locate"})
        self.assertEqual(reply.status, 403)
        self.assertIn("--web-commands", reply.error["message"])
        self.assertEqual(self.client.redis.call("LLEN", "jt709c:commands"), 0)

    def refused(self, api: Api, body: Any, status: int = 400, **headers: Any) -> Reply:
        reply = api.post("/commands", body, **headers)
        self.assertEqual(reply.status, status, reply.body)
        self.assertNotIn(PASSWORD.encode(), reply.body)
        return reply

    def test_other_sites(self) -> None:
        """What another site's page can have a browser send is refused."""
        api = self.begin("--web-commands")
        body = {"device": "1", "command": "locate"}
        own = f"http://127.0.0.1:{self.daemon.http_port}"
        for headers in (
            {"x-requested-with": None},
            {"x-requested-with": "XMLHttpRequest"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
            {"origin": f"{own}.evil.example"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            self.refused(api, body, 403, **headers)
        for kind in ("text/plain", "application/x-www-form-urlencoded", None):
            self.refused(api, body, 415, **{"content-type": kind})
        self.assertEqual(self.client.redis.call("LLEN", "jt709c:commands"), 0)
        for headers in ({"origin": own}, {"sec-fetch-site": "same-origin"}, {"origin": own.upper()}):
            self.assertEqual(api.post("/commands", body, **headers).status, 202)

    def test_mistakes(self) -> None:
        """Each is refused before anything is pushed, with the field, what is wrong and what is right."""
        api = self.begin("--web-commands")
        lock = self.lock()

        def said(body: Any) -> tuple[str | None, str]:
            error = self.refused(api, body).error
            return error["field"], error["message"]

        good = {"device": lock.device, "command": "unlock", "params": {"password": PASSWORD}}
        for changed, field, right in (
            ({"device": None}, "device", "expected a device id"),
            ({"device": 5}, "device", "expected a device id"),
            ({"device": "x"}, "device", "expected a device id"),
            ({"device": "E03B60FFFF"}, "device", "has reported yet"),
            ({"command": "unlok"}, "command", "is not in profile jt709"),
            ({"command": "raw", "params": {"sentence": "(1)"}}, "command", "--allow-raw"),
            ({"params": [PASSWORD]}, "params", "is a list"),
            ({"params": {"password": f"{PASSWORD}0"}}, "params.password", "is ******"),
            ({"params": {"password": int(PASSWORD)}}, "params.password", "is a number"),
            ({"params": {"pass": PASSWORD}}, "params", "has no meaning here"),
            ({PASSWORD: 1}, None, "unknown field 4 (a name of 6 characters): expected device"),
            ({"ttl": 0}, "ttl", "seconds above 0"),
            ({"ttl": 10**400}, "ttl", "seconds above 0"),
            ({"ttl": "60"}, "ttl", "seconds above 0"),
            ({"timeout": 4000}, "timeout", "seconds from 1 to 3600"),
            ({"id": "not mine"}, "id", "1 to 64 letters, digits, '-' or '_'"),
            ({"id": ""}, "id", "1 to 64 letters"),
            ({"id": "x" * 65}, "id", "1 to 64 letters"),
            ({"id": 5}, "id", "is a number"),
            ({"issued_by": "somebody"}, "issued_by", "expected device, command"),
            ({"reply_to": "me"}, "reply_to", "expected device, command"),
            ({"params": {"password": "x" * 20_000}}, "entry", "at most 16384 bytes"),
        ):
            found = said({**good, **changed})
            self.assertEqual(found[0], field, found)
            self.assertIn(right, found[1])
        self.assertIn("missing", said({"command": "locate"})[1])
        for raw in (b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 60_000):
            reply = api.call("POST", "/commands", body=raw, headers=FROM_THE_PAGE)
            self.assertEqual(
                (reply.status, reply.error["message"]), (400, "the body: expected a JSON object in UTF-8")
            )
        self.assertEqual(self.client.redis.call("KEYS", "jt709c:command:*"), [])
        self.assertEqual(lock.unlocks(), [])

    def test_check(self) -> None:
        """A check tells mistakes, and what the lock needs and the gateway lacks; it gives no command."""
        api = self.begin("--web-commands")
        lock = self.lock()

        def check(command: str, **params: Any) -> Reply:
            body = {"device": lock.device, "command": command, "params": params}
            return api.post("/commands/check", body)

        def missing(command: str, **params: Any) -> Any:
            reply = check(command, **params)
            self.assertEqual(reply.status, 200, reply.body)
            return reply.json["missing"]

        self.assertEqual(missing("unlock"), [{"name": "password", "from": "static_password"}])
        self.assertEqual(missing("unlock", password=PASSWORD), [])
        self.assertEqual(missing("locate"), [])
        dynamic = [{"name": "password", "from": "dynamic_password"}]
        self.assertEqual(missing("unlock", method="dynamic"), dynamic)
        self.client.redis.call("SET", f"jt709c:secret:{lock.device}", PASSWORD)
        self.assertEqual(missing("unlock", method="dynamic"), [])
        self.assertEqual(missing("unlock"), [{"name": "password", "from": "static_password"}])
        reply = check("unlock", password="12,45(")
        self.assertEqual((reply.status, reply.error["field"]), (400, "params.password"))
        self.assertNotIn("12,45(", reply.error["message"])
        self.assertEqual(check("nonsense").status, 400)
        lock.beat()
        self.assertEqual(lock.unlocks(), [])
        self.assertEqual(self.client.events("command", lock.device), [])

    def test_check_with_a_static_password(self) -> None:
        """The gateway's own password is missing nowhere; without --web-commands nothing is checked."""
        path = temporary_path(self)
        Path(path).write_text(PASSWORD)
        api = self.begin("--web-commands", "--static-password-file", path)
        lock = self.lock()
        body = {"device": lock.device, "command": "unlock"}
        self.assertEqual(api.post("/commands/check", body).json["missing"], [])
        other = self.begin()
        self.assertEqual(other.post("/commands/check", body).status, 403)

    def test_signed(self) -> None:
        """Where commands have to be signed, those from the page are, with the key that was named for them."""
        keys = Path(temporary_path(self))
        keys.write_text(f'[page]\nsecret = "{SECRET.hex()}"\ncommands = ["locate", "unlock"]\n')
        keys.chmod(0o600)
        api = self.begin("--web-commands", "--command-keys", str(keys), "--web-command-key", "page")
        lock = self.lock()
        body = {"device": lock.device, "command": "unlock", "params": {"password": PASSWORD}}
        command = api.post("/commands", body).json["id"]
        lock.say_yes(lock.next_unlock())
        record = self.client.wait(command, "acknowledged")
        self.assertEqual((record["key"], record["issued_by"]), ("page", "web:anna"))
        error = self.refused(api, {"device": lock.device, "command": "seal"}, 403).error
        self.assertIn("seal is not permitted to key page", error["message"])
        self.assertNotIn(SECRET.hex(), self.daemon.log())

    def test_redis_away(self) -> None:
        """While Redis is away nothing is pushed, and that is said."""
        api = self.begin("--web-commands")
        self.server.stop()
        self.refused(api, {"device": "1", "command": "locate"}, 503)
        self.server.start()
        wait_until(lambda: api.get("/devices").status == 200)
        self.assertEqual(self.redis_client().call("LLEN", "jt709c:commands"), 0)

    def redis_client(self) -> Any:
        client = self.server.client()
        self.addCleanup(client.close)
        return client
