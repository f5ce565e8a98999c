"""Support for tests of the status page and its API: requests, checked against the API's description."""

import base64
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import bcrypt
import jsonschema
from attrs import define, field, frozen
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.profiles import load_profiles
from jt709c_gateway.config.option_parser import Options
from jt709c_gateway.configured_parts import partition_layout
from jt709c_gateway.web.openapi import document
from jt709c_gateway.web.service import WebService
from tests.support import LOOPBACK, RedisClient
from tests.support.acl import GuardedServer
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon

BASE = "/api/v1"


def web_service(*options: str) -> WebService:
    """Return a web service that is not started."""
    parsed = Options()
    parsed.parseOptions(["--http", "tcp:0:interface=127.0.0.1", *options])
    settings = parsed.settings
    return WebService(Clock(), settings, partition_layout(settings), load_profiles())


DESCRIPTION: dict[str, Any] = json.loads(json.dumps(document(web_service().routes)))
FROM_THE_PAGE = {"content-type": "application/json", "x-requested-with": "jt709c"}


def user_line(name: str, password: str) -> str:
    """Return a line of a users file, with the lowest cost."""
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


def basic(name: str, password: str) -> dict[str, str]:
    """Return the authorization header of a user."""
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@frozen
class Reply:
    """An answer: its status, lower-case header names and body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The decoded JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        """Return field and message of an error."""
        found: dict[str, str] = self.json["error"]
        return found


def operations() -> list[tuple[str, str]]:
    """Return method and path of each operation in the description."""
    return [(method.upper(), path) for path, item in DESCRIPTION["paths"].items() for method in item]


def described(method: str, path: str) -> tuple[str, dict[str, Any]]:
    """Return the described path and operation; AssertionError when there is none."""
    for known, item in sorted(DESCRIPTION["paths"].items(), key=lambda one: "{" in one[0]):
        pattern = re.sub(r"\{[a-z]+\}", "[^/]+", known)
        if re.fullmatch(pattern, path) and method.lower() in item:
            return known, item[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


def closed(schema: Any) -> Any:
    """Return a schema that allows only the fields it describes."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else {}
    return {**more, **{name: closed(one) for name, one in schema.items()}}


CLOSED = closed(DESCRIPTION["components"])
FORMATS = jsonschema.FormatChecker(formats=())
_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@FORMATS.checks("date-time")
def is_time_in_utc(value: object) -> bool:
    """All times of the API are in UTC."""
    return not isinstance(value, str) or _UTC.fullmatch(value) is not None


def validate(value: Any, schema: Mapping[str, Any]) -> None:
    """Raise an error of jsonschema when a value differs from its schema, or has an undescribed field."""
    whole = {**closed(schema), "components": CLOSED}
    jsonschema.Draft202012Validator(whole, format_checker=FORMATS).validate(value)


def content_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the described forms of an answer by their media types."""
    if "$ref" in response:
        response = DESCRIPTION["components"]["responses"][response["$ref"].rpartition("/")[2]]
    found: dict[str, Any] = response["content"]
    return found


@define
class Api:
    """Sends requests to a daemon, as a user or anonymously, and checks every answer against the
    description."""

    daemon: Daemon
    headers: Mapping[str, str] = field(factory=dict)
    #: Method, described path and status of all answers.
    seen: set[tuple[str, str, int]] = field(factory=set)

    def get(self, path: str, *query: tuple[str, object], **headers: str) -> Reply:
        """Send a GET to the API."""
        return self.call("GET", path, query, headers=headers)

    def post(self, path: str, body: object, **headers: str) -> Reply:
        """Send a POST of JSON, as the page does; `headers` with None are omitted."""
        return self.call("POST", path, body=body, headers={**FROM_THE_PAGE, **headers})

    def call(
        self,
        method: str,
        path: str,
        query: Any = (),
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send any request; `body` is bytes, or a value to send as JSON."""
        target = BASE + quote(path) + ("?" + urlencode(query) if query else "")
        reply = self.fetch(method, target, body, headers)
        known, operation = described(method, path)
        self.seen.add((method, known, reply.status))
        assert str(reply.status) in operation["responses"], f"{method} {path}: {reply.status} {reply.body!r}"
        content = content_of(operation["responses"][str(reply.status)])
        media = reply.headers["content-type"].partition(";")[0]
        assert media in content, reply
        assert reply.headers["cache-control"] == "no-store"
        if media == "application/json":
            validate(reply.json, content[media]["schema"])
        return reply

    def fetch(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a GET for any path of the server."""
        sent = {name.replace("_", "-"): value for name, value in {**self.headers, **(headers or {})}.items()}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(LOOPBACK, self.daemon.http_port, timeout=30)
        try:
            connection.request(
                method, target, data, {name: value for name, value in sent.items() if value is not None}
            )
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, found, response.read())
        finally:
            connection.close()

    def listen(self, *query: tuple[str, object], receive_buffer: int | None = None) -> "Listener":
        """Open the stream of live events."""
        return Listener(self, query, receive_buffer)


class Listener:
    """A client of the live events; `receive_buffer` limits the bytes that its kernel reads ahead."""

    def __init__(self, api: Api, query: Any, receive_buffer: int | None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect((LOOPBACK, api.daemon.http_port))
        target = f"{BASE}/events/live" + ("?" + urlencode(query) if query else "")
        head = "".join(f"{name}: {value}\r\n" for name, value in api.headers.items())
        self.socket.sendall(f"GET {target} HTTP/1.1\r\nhost: localhost\r\n{head}\r\n".encode())
        self._response = http.client.HTTPResponse(self.socket)
        self._response.begin()
        self.status = self._response.status
        self.headers = {name.lower(): value for name, value in self._response.getheaders()}
        if self.status == 200:
            assert self.headers["content-type"].startswith("text/event-stream")
            self.line()

    def error(self) -> dict[str, str]:
        """Return the answer sent instead of events."""
        found: dict[str, str] = json.loads(self._response.read())["error"]
        return found

    def line(self) -> str:
        """Return the next line; `""` ends a message, AssertionError at the end of the stream."""
        line = self._response.readline()
        assert line, "the live events have ended"
        return line.decode().rstrip("\n")

    def messages(self) -> Iterator[tuple[str, Any, str | None]]:
        """Yield messages: type, data, id. A comment is (`comment`, its text, None)."""
        fields: dict[str, str] = {}
        while True:
            line = self.line()
            if line.startswith(":"):
                yield "comment", line[1:].strip(), None
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                yield fields["event"], json.loads(fields["data"]), fields.get("id")
                fields = {}

    def next(self, what: str, timeout: float = 15.0) -> Any:
        """Return the data of the next message of a type."""
        deadline = time.monotonic() + timeout
        for event, data, _ in self.messages():
            if event == what:
                return data
            assert time.monotonic() < deadline, f"no {what} came"
        raise AssertionError

    def ended(self) -> bool:
        """Read to the end; TimeoutError when it does not come in time."""
        while self._response.readline():
            pass
        return True

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self.socket.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ApiCase(SynchronousTestCase):
    """A gateway with only the rights it needs; the tests fail when Redis denies it one."""

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

    def assert_bad(self, path: str, name: str, value: object, right: str) -> None:
        """Check that a parameter is refused in one line with its name, its length and the expected value."""
        reply = self.api.get(path, (name, value))
        self.assertEqual(reply.status, 400, reply)
        self.assertEqual(reply.error["field"], name)
        for part in (name, f"text of {len(str(value))} character", right):
            self.assertIn(part, reply.error["message"])
