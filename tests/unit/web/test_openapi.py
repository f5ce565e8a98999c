"""The description of the API: valid, complete, and every answer and event is as it is described."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import openapi_spec_validator
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.event_data import DATA, CommandData
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS
from jt709c_gateway.protocol import events
from jt709c_gateway.protocol.decoder import Decoder
from jt709c_gateway.protocol.envelope import Origin, wrap_all
from jt709c_gateway.protocol.framing import Framer
from jt709c_gateway.protocol.message import Message
from jt709c_gateway.web.api.commands import CommandRecord
from tests.support import wait_until
from tests.support.acl import GATEWAY, GuardedServer, rules_of
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon
from tests.support.web import (
    BASE,
    CLOSED,
    DESCRIPTION,
    Api,
    Reply,
    basic,
    described,
    operations,
    user_line,
    validate,
    web_service,
)
from tests.vectors.lines import FIELD, NOW, REAL, VENDOR, lines

AREA = {"circle": {"center": [51.5, -0.12], "radius_m": 200}}
#: For each operation: what is asked for, and whether it takes Redis. `{device}` and `{command}` are the
#: test's.
SAMPLES: dict[tuple[str, str], tuple[str, Any, bool]] = {
    ("GET", "/openapi.json"): ("/openapi.json", None, False),
    ("GET", "/config"): ("/config", None, False),
    ("GET", "/me"): ("/me", None, False),
    ("GET", "/devices"): ("/devices", None, True),
    ("GET", "/devices/{id}"): ("/devices/{device}", None, True),
    ("GET", "/devices/{id}/history"): ("/devices/{device}/history", None, True),
    ("GET", "/devices/{id}/track"): ("/devices/{device}/track", None, True),
    ("GET", "/report"): ("/report?device={device}", None, True),
    ("GET", "/devices/{id}/label"): ("/devices/{device}/label", None, True),
    ("PUT", "/devices/{id}/label"): ("/devices/{device}/label", {"name": "Truck 12"}, True),
    ("DELETE", "/devices/{id}/label"): ("/devices/{device}/label", None, True),
    ("GET", "/labels"): ("/labels", None, True),
    ("POST", "/labels"): ("/labels", {"labels": [{"device": "{device}", "name": "Truck 12"}]}, True),
    ("GET", "/areas"): ("/areas", None, True),
    ("PUT", "/areas/{name}"): ("/areas/{command}", AREA, True),
    ("GET", "/areas/{name}"): ("/areas/{command}", None, True),
    ("DELETE", "/areas/{name}"): ("/areas/{command}", None, True),
    ("GET", "/events"): ("/events", None, True),
    ("GET", "/events/live"): ("/events/live?device={device}", None, True),
    ("GET", "/commands"): ("/commands", None, True),
    ("POST", "/commands"): ("/commands", {"device": "{device}", "command": "locate"}, True),
    ("POST", "/commands/check"): ("/commands/check", {"device": "{device}", "command": "locate"}, True),
    ("GET", "/commands/{id}"): ("/commands/{command}", None, True),
    ("POST", "/batches"): (
        "/batches",
        {"id": "{command}", "devices": ["{device}"], "command": "locate"},
        True,
    ),
    ("POST", "/batches/check"): ("/batches/check", {"devices": ["{device}"], "command": "locate"}, True),
    ("GET", "/batches/{id}"): ("/batches/{command}", None, True),
    ("GET", "/catalogue"): ("/catalogue?device={device}", None, True),
    ("GET", "/explain"): ("/explain?frame=7e", None, False),
    ("POST", "/explain"): ("/explain", {"frame": "7e"}, False),
}
EVENT = {"$ref": "#/components/schemas/Event"}
#: Operations whose answer may be a second old.
CACHED = {("GET", "/devices"), ("GET", "/labels")}
#: Operations whose good answer has no end.
ENDLESS = {("GET", "/events/live")}


def server_routes() -> set[tuple[str, str]]:
    """Method and path of all that the server knows."""
    return {(route.method, route.path) for route in web_service().routes}


class DescriptionTests(SynchronousTestCase):
    def test_valid(self) -> None:
        """It is OpenAPI 3.1."""
        self.assertTrue(DESCRIPTION["openapi"].startswith("3.1."))
        openapi_spec_validator.validate(DESCRIPTION)

    def test_every_operation_and_parameter_says_what_it_is(self) -> None:
        """Each operation has a summary, and each parameter but the id of a command a description."""
        for method, path in operations():
            operation = described(method, path)[1]
            self.assertRegex(operation["summary"], r"^[A-Z][^:]{10,}[^.]$")
            for one in operation.get("parameters", ()):
                if (path, one["name"]) != ("/commands/{id}", "id"):
                    self.assertTrue(one["description"], one)
        names = [described(*one)[1]["operationId"] for one in operations()]
        self.assertEqual(len(set(names)), len(names), names)

    def test_every_answer_says_what_it_is(self) -> None:
        """Each type in an answer has a description without words of Python."""
        for name, schema in DESCRIPTION["components"]["schemas"].items():
            if schema.get("type") == "object":
                self.assertTrue(schema.get("description"), name)
                for word in ("None", "UNSET", ":class:"):
                    self.assertNotIn(word, schema["description"], name)

    def test_open_for_fields_to_come(self) -> None:
        """No answer forbids further fields; the tests allow only those described."""
        self.assertNotIn('"additionalProperties": false', json.dumps(DESCRIPTION))
        self.assertIn('"additionalProperties": false', json.dumps(CLOSED))

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
        self.known = {"{device}": lock.device, "{command}": command}
        wait_until(lambda: self.api.get(f"/commands/{command}").status == 200)

    def ask(self, operation: tuple[str, str], known: dict[str, str] | None = None, **changed: Any) -> Reply:
        path, body, _ = SAMPLES[operation]
        text = json.dumps(body)
        for name, value in (known or self.known).items():
            path, text = path.replace(name, value), text.replace(name, value)
        path, _, query = path.partition("?")
        pairs = [tuple(one.split("=")) for one in query.split("&") if one]
        headers = {"content-type": "application/json", "x-requested-with": "jt709c"}
        headers = {} if operation[0] == "GET" else headers
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
            if operation not in ENDLESS:
                self.assertIn(self.ask(operation).status, (200, 202), operation)
            bad = self.ask(operation, query=[("nonsense", 1)])
            self.assertEqual(bad.status, 400, operation)
            self.assertIn("unknown parameter", bad.error["message"])
            nobody = self.ask(operation, headers={"authorization": None})
            self.assertEqual((nobody.status, "www-authenticate" in nobody.headers), (401, True), operation)
            self.assertEqual(self.ask(operation, headers={"host": "evil.example"}).status, 403, operation)
            if "404" in described(*operation)[1]["responses"]:
                unknown = self.ask(operation, {"{device}": "5", "{command}": "nobodys"})
                self.assertEqual(unknown.status, 404, operation)
            if operation[0] in ("POST", "PUT"):
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
        batch = {"id": "once", "devices": [self.known["{device}"]], "command": "locate"}
        self.assertEqual(self.api.post("/batches", batch).status, 202)
        self.assertEqual(self.api.post("/batches", batch).status, 200)
        self.assertEqual(self.api.post("/batches", {**batch, "command": "restart"}).status, 409)

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
        return None if reply.status == 200 and operation in CACHED else reply

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
        """The server hands out this description."""
        self.assertEqual(self.api.fetch("GET", f"{BASE}/openapi.json").json, DESCRIPTION)


class EventTests(SynchronousTestCase):
    """Events are described by kind."""

    def event(self, kind: str, data: dict[str, Any], **changed: Any) -> dict[str, Any]:
        unknown = ("imei", "dialect", "serial", "clock_skew_s", "gateway", "transport", "peer", "raw")
        known = {"v": 1, "id": "gw1-1", "kind": kind, "device": "794308010001", "stored": False}
        times = {"received_at": "2026-11-22T10:15:00Z"}
        return {**dict.fromkeys(unknown), **known, **times, "data": data, **changed}

    def test_all_kinds(self) -> None:
        """Every kind has a type of its own."""
        self.assertEqual(tuple(DATA), events.KINDS)
        mapping = DESCRIPTION["components"]["schemas"]["Event"]["discriminator"]["mapping"]
        self.assertEqual(set(mapping), set(events.KINDS))

    def test_data_of_its_kind(self) -> None:
        """Data of one kind isn't data of another."""
        session = {"state": "online", "reason": "connected", "duration_s": None}
        validate(self.event("session", session), EVENT)
        for wrong in (
            self.event("password", session),
            self.event("session", {**session, "state": "asleep"}),
            self.event("session", {**session, "mood": "good"}),
            self.event("session", session, v=2),
            self.event("session", session, received_at="2026-11-22T11:15:00+01:00"),
            self.event("nonsense", {}),
        ):
            with self.assertRaises(jsonschema.ValidationError):
                validate(wrong, EVENT)

    def test_repeats_and_masked(self) -> None:
        """Fields that only some events have."""
        validate(self.event("time_request", {}, repeats=4, raw_masked=True), EVENT)

    def test_fields_of_a_command(self) -> None:
        """The record of a command has the public fields, in the API and in its events."""
        self.assertEqual(CommandData.__struct_fields__, PUBLIC_FIELDS)
        self.assertEqual(CommandRecord.__struct_fields__, (*PUBLIC_FIELDS, "time"))

    def test_events_of_the_vectors(self) -> None:
        """What the decoder makes of recorded frames is as described."""
        checked = set()
        recorded = [line.frame for file in (REAL, FIELD, VENDOR) for line in lines(file)]
        for frame in (frame for data in recorded for frame in Framer().feed_datagram(data)):
            message = Decoder().decode(frame, 0.0)
            if isinstance(message, Message):
                for event in wrap_all(message, Origin(), NOW, lambda: "1"):
                    validate(json.loads(events.to_json(event)), EVENT)
                    checked.add(event.kind)
        self.assertLess({"location", "lock", "heartbeat", "reply", "peripheral", "password"}, checked)
