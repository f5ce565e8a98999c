"""What the tests of the status page and its API need: asking it, checking answers against its description."""

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
from jt709c_gateway.config.options import Options
from jt709c_gateway.web.openapi import document
from jt709c_gateway.web.service import WebService
from tests.support import LOOPBACK, RedisClient
from tests.support.acl import GuardedServer
from tests.support.commands import FakeLock, new_device
from tests.support.daemon import Daemon

BASE = "/api/v1"


def web_service(*options: str) -> WebService:
    """A web service that is not started."""
    parsed = Options()
    parsed.parseOptions(["--http", "tcp:0:interface=127.0.0.1", *options])
    return WebService(Clock(), parsed.settings, load_profiles())


DESCRIPTION: dict[str, Any] = json.loads(json.dumps(document(web_service().routes)))
FROM_THE_PAGE = {"content-type": "application/json", "x-requested-with": "jt709c"}


def user_line(name: str, password: str) -> str:
    """A line of a file of users; the cost is the lowest that there is."""
    return f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}\n"


def basic(name: str, password: str) -> dict[str, str]:
    """The header of a user."""
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


@frozen
class Reply:
    """What was answered: header names in small letters; of JSON the value."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The value."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        """Field and message of an error."""
        found: dict[str, str] = self.json["error"]
        return found


def operations() -> list[tuple[str, str]]:
    """Method and path of each operation in the description."""
    return [(method.upper(), path) for path, item in DESCRIPTION["paths"].items() for method in item]


def described(method: str, path: str) -> tuple[str, dict[str, Any]]:
    """The path as described, and the operation; AssertionError when there is none."""
    for known, item in sorted(DESCRIPTION["paths"].items(), key=lambda one: "{" in one[0]):
        pattern = re.sub(r"\{[a-z]+\}", "[^/]+", known)
        if re.fullmatch(pattern, path) and method.lower() in item:
            return known, item[method.lower()]
    raise AssertionError(f"{method} {path} is not described")


def closed(schema: Any) -> Any:
    """A schema that allows no more fields than it describes."""
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
    """Raise an error of jsonschema when a value isn't as described, or has a field that isn't described."""
    whole = {**closed(schema), "components": CLOSED}
    jsonschema.Draft202012Validator(whole, format_checker=FORMATS).validate(value)


def schema_of(response: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Media type and schema of a described answer."""
    if "$ref" in response:
        response = DESCRIPTION["components"]["responses"][response["$ref"].rpartition("/")[2]]
    [(media, content)] = response["content"].items()
    return media, content["schema"]


@define
class Api:
    """Asks a daemon, as a user or as nobody. Every answer of the API has to be as it is described."""

    daemon: Daemon
    headers: Mapping[str, str] = field(factory=dict)
    #: Method, described path and status of all that was answered.
    seen: set[tuple[str, str, int]] = field(factory=set)

    def get(self, path: str, *query: tuple[str, object], **headers: str) -> Reply:
        """GET of the API."""
        return self.call("GET", path, query, headers=headers)

    def post(self, path: str, body: object, **headers: str) -> Reply:
        """POST of JSON, as the page does it; `headers` with None are left out."""
        return self.call("POST", path, body=body, headers={**FROM_THE_PAGE, **headers})

    def call(
        self,
        method: str,
        path: str,
        query: Any = (),
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Any call; `body` is bytes, or what is to be JSON."""
        target = BASE + quote(path) + ("?" + urlencode(query) if query else "")
        reply = self.fetch(method, target, body, headers)
        known, operation = described(method, path)
        self.seen.add((method, known, reply.status))
        assert str(reply.status) in operation["responses"], f"{method} {path}: {reply.status} {reply.body!r}"
        media, schema = schema_of(operation["responses"][str(reply.status)])
        assert reply.headers["content-type"].partition(";")[0] == media, reply
        assert reply.headers["cache-control"] == "no-store"
        validate(reply.json, schema)
        return reply

    def fetch(
        self,
        method: str,
        target: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Ask for anything that the server has."""
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
        """Live events."""
        return Listener(self, query, receive_buffer)


class Listener:
    """A client of the live events; `receive_buffer` is how many bytes its kernel takes in ahead of it."""

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
        """What was answered instead of events."""
        found: dict[str, str] = json.loads(self._response.read())["error"]
        return found

    def line(self) -> str:
        """The next line; `""` is the end of a message, AssertionError the end of all."""
        line = self._response.readline()
        assert line, "the live events have ended"
        return line.decode().rstrip("\n")

    def messages(self) -> Iterator[tuple[str, Any, str | None]]:
        """Messages as they come: sort, data, id. A comment is (`comment`, its text, None)."""
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
        """The data of the next message of a sort."""
        deadline = time.monotonic() + timeout
        for event, data, _ in self.messages():
            if event == what:
                return data
            assert time.monotonic() < deadline, f"no {what} came"
        raise AssertionError

    def ended(self) -> bool:
        """Read to the end; TimeoutError when there is none in time."""
        while self._response.readline():
            pass
        return True

    def close(self) -> None:
        """Hang up."""
        self._response.close()
        self.socket.close()

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ApiCase(SynchronousTestCase):
    """A gateway with no more rights than it needs; it must not be denied one."""

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
        """A parameter is refused in one line that names it, tells its length and what is right."""
        reply = self.api.get(path, (name, value))
        self.assertEqual(reply.status, 400, reply)
        self.assertEqual(reply.error["field"], name)
        for part in (name, f"text of {len(str(value))} character", right):
            self.assertIn(part, reply.error["message"])
