"""openapi.json and the server: each has what the other has, and answers are as they are described."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import Any

from openapi_spec_validator import validate
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.config.options import Options
from jt709c_gateway.web.service import WebService
from tests.acl import GATEWAY, GuardedServer, rules_of
from tests.daemon import Daemon
from tests.orders_support import FakeLock, new_device
from tests.support import wait_until
from tests.web_support import BASE, DESCRIPTION, Api, Reply, basic, described, operations, user_line

#: For each operation: what is asked for, and whether it takes Redis. `{device}` and `{command}` are the
#: test's.
SAMPLES: dict[tuple[str, str], tuple[str, Any, bool]] = {
    ("GET", "/openapi.json"): ("/openapi.json", None, False),
    ("GET", "/config"): ("/config", None, False),
    ("GET", "/devices"): ("/devices", None, True),
    ("GET", "/devices/{id}"): ("/devices/{device}", None, True),
    ("GET", "/devices/{id}/history"): ("/devices/{device}/history", None, True),
    ("GET", "/devices/{id}/track"): ("/devices/{device}/track", None, True),
    ("GET", "/events"): ("/events", None, True),
    ("GET", "/events/live"): ("/events/live?device={device}", None, True),
    ("GET", "/commands"): ("/commands", None, True),
    ("POST", "/commands"): ("/commands", {"device": "{device}", "command": "locate"}, True),
    ("GET", "/commands/{id}"): ("/commands/{order}", None, True),
    ("GET", "/catalogue"): ("/catalogue?device={device}", None, True),
    ("GET", "/explain"): ("/explain?frame=7e", None, False),
    ("POST", "/explain"): ("/explain", {"frame": "7e"}, False),
}
#: Operations whose good answer has no end.
ENDLESS = {("GET", "/events/live")}


def server_routes() -> set[tuple[str, str]]:
    """Method and path of all that the server knows."""
    options = Options()
    options.parseOptions(["--http", "tcp:0:interface=127.0.0.1"])
    service = WebService(Clock(), options.settings, load_profiles())
    return {(route.method, route.path) for route in service.routes}


class DescriptionTests(SynchronousTestCase):
    def test_valid(self) -> None:
        """It is OpenAPI 3.1."""
        self.assertTrue(DESCRIPTION["openapi"].startswith("3.1."))
        validate(DESCRIPTION)

    def test_both_ways(self) -> None:
        """It describes every route of the server, and no other."""
        self.assertEqual(set(operations()), server_routes())
        self.assertEqual([one["url"] for one in DESCRIPTION["servers"]], [BASE])

    def test_samples(self) -> None:
        """Every operation is tried below."""
        self.assertEqual(set(SAMPLES), set(operations()))

    def test_parameters_in_paths(self) -> None:
        """Each argument in a path is described."""
        for method, path in operations():
            parameters = described(method, path)[1].get("parameters", ())
            known = {one["name"] for one in parameters if one["in"] == "path"}
            self.assertEqual(known, set(re.findall(r"\{([a-z]+)\}", path)), path)


class AnswerTests(SynchronousTestCase):
    """Every operation with every answer that is described; `Api.call` checks each against its schema."""

    def setUp(self) -> None:
        self.server = GuardedServer().start()
        self.addCleanup(self.server.discard)
        self.daemon = Daemon("--web-commands", redis=self.server.gateway_url)
        self.addCleanup(self.daemon.discard)
        users = self.daemon.directory / "users"
        users.write_text(user_line("anna", "right"))
        self.daemon._options += ("--web-users", str(users))
        self.daemon.start()
        self.api = Api(self.daemon, basic("anna", "right"))
        lock = FakeLock(new_device()).connect(self.daemon)
        self.addCleanup(lock.close)
        command = self.api.post("/commands", {"device": lock.device, "command": "locate"}).json["id"]
        self.known = {"{device}": lock.device, "{order}": command}
        wait_until(lambda: self.api.get(f"/commands/{command}").status == 200)

    def ask(self, operation: tuple[str, str], known: dict[str, str] | None = None, **changed: Any) -> Reply:
        path, body, _ = SAMPLES[operation]
        text = json.dumps(body)
        for name, value in (known or self.known).items():
            path, text = path.replace(name, value), text.replace(name, value)
        path, _, query = path.partition("?")
        pairs = [tuple(one.split("=")) for one in query.split("&") if one]
        headers = {"content-type": "application/json", "x-requested-with": "jt709c"} if body else {}
        data = None if body is None else changed.get("body", text.encode())
        return self.api.call(
            operation[0],
            path,
            [*pairs, *changed.get("query", ())],
            data,
            {**headers, **changed.get("headers", {})},
        )

    def test_all(self) -> None:
        """Good answers and each error, but those that the test of the other three has."""
        for operation in SAMPLES:
            path = operation[1]
            if operation not in ENDLESS:
                self.assertIn(self.ask(operation).status, (200, 202), operation)
            bad = self.ask(operation, query=[("nonsense", 1)])
            self.assertEqual(bad.status, 400, operation)
            self.assertIn("unknown parameter", bad.error["message"])
            nobody = self.ask(operation, headers={"authorization": None})
            self.assertEqual((nobody.status, "www-authenticate" in nobody.headers), (401, True), operation)
            self.assertEqual(self.ask(operation, headers={"host": "evil.example"}).status, 403, operation)
            if "{id}" in path:
                unknown = self.ask(operation, {"{device}": "5", "{order}": "nobodys"})
                self.assertEqual(unknown.status, 404, operation)
            if operation[0] == "POST":
                self.assertEqual(self.ask(operation, body=b"x" * 70_000).status, 413)
                self.assertEqual(self.ask(operation, headers={"content-type": "text/plain"}).status, 415)
        self.again()
        self.refused_by_redis()
        self.without_redis()
        self.too_many()
        declared = {
            (method, path, int(status))
            for method, path in SAMPLES
            for status in described(method, path)[1]["responses"]
        }
        # What needs no Redis has no such answers, but may have too many checks of passwords.
        idle = {
            (*one, status) for one, (_, _, redis) in SAMPLES.items() if not redis for status in (502, 503)
        }
        endless = {(*one, 200) for one in ENDLESS}
        self.assertEqual(declared - self.api.seen - idle - endless, set())

    def again(self) -> None:
        """A command that is given again under its id, and another one under the same."""
        body = {"id": "once", "device": self.known["{device}"], "command": "locate"}
        self.assertEqual(self.api.post("/commands", body).status, 202)
        wait_until(lambda: self.api.get("/commands/once").status == 200)
        self.assertEqual(self.api.post("/commands", body).status, 200)
        self.assertEqual(self.api.post("/commands", {**body, "command": "unlock"}).status, 409)

    def refused_by_redis(self) -> None:
        """A user of Redis that may read nothing."""
        with self.server.client() as admin:
            admin.call("ACL", "SETUSER", GATEWAY, "resetkeys")
            try:
                for operation, (_, _, needs_redis) in SAMPLES.items():
                    if needs_redis:
                        refused = wait_until(lambda one=operation: self.not_cached(one))
                        self.assertEqual(refused.status, 502, operation)
                        self.assertIn("Redis refused the request: ", refused.error["message"])
            finally:
                admin.call("ACL", "SETUSER", GATEWAY, "reset", *rules_of(GATEWAY))

    def not_cached(self, operation: tuple[str, str]) -> Reply | None:
        """An answer that isn't one of a moment ago."""
        reply = self.ask(operation)
        return None if reply.status == 200 and operation == ("GET", "/devices") else reply

    def without_redis(self) -> None:
        """Redis is away."""
        self.server.stop()
        try:
            asked = [one for one, (_, _, needs_redis) in SAMPLES.items() if needs_redis]
            with ThreadPoolExecutor(len(asked)) as pool:
                for reply in pool.map(lambda one: wait_until(lambda: self.not_cached(one)), asked):
                    self.assertEqual((reply.status, reply.headers["retry-after"]), (503, "5"))
        finally:
            self.server.start()
        wait_until(lambda: self.ask(("GET", "/devices")).status == 200)

    def too_many(self) -> None:
        """Too many wrong passwords."""
        wrong = basic("anna", "wrong")
        wait_until(lambda: self.ask(("GET", "/config"), headers=wrong).status == 429)
        for operation in SAMPLES:
            refused = self.ask(operation, headers=wrong)
            self.assertEqual(refused.status, 429, operation)
            self.assertGreater(int(refused.headers["retry-after"]), 0)

    def test_itself(self) -> None:
        """The server hands out the file in the package."""
        reply = self.api.fetch("GET", f"{BASE}/openapi.json")
        self.assertEqual(
            reply.json, json.loads(files("jt709c_gateway.web").joinpath("openapi.json").read_text())
        )
