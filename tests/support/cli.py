"""Support for tests of the command line: the command as a process, and made-up devices in Redis."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support import RedisClient, wait_until
from tests.support.acl import GuardedServer
from tests.support.cli_server import ForkedCommands

COMMAND = [sys.executable, "-m", "jt709c_gateway.cli.main"]
DEVICE = "794308010679"
#: Seconds that a command may take on a busy machine.
TIMEOUT = 60


@cache
def _forked() -> ForkedCommands:
    return ForkedCommands()


def run(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command and wait for its end, in a process forked from one that has imported it already."""
    return _forked().run(arguments, stdin, {**os.environ, **environment}, TIMEOUT)


class Running:
    """The command as a process whose output is read line by line; it is killed when it takes too long."""

    def __init__(self, *arguments: str, stdin: int = subprocess.DEVNULL, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        self._limit = threading.Timer(TIMEOUT, self.process.kill)
        self._limit.start()

    def line(self) -> str:
        """Return the next line of standard output."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def notice(self) -> str:
        """Return the next line of standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def wait(self) -> int:
        """Wait for its end and return the exit status."""
        return self.process.wait(TIMEOUT)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._limit.cancel()
        self.process.kill()
        self.process.communicate()


def iso(epoch: float) -> str:
    """Format a time as in events and hashes."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def put_device(
    redis: RedisClient,
    device: str,
    seen: float,
    *,
    session: Sequence[str] = (),
    prefix: str = "jt709c",
    **state: Any,
) -> None:
    """Store a device as the gateway does; `session` is gateway, transport, peer when it is online."""
    values = {"seen": iso(seen), "dialect": "jt709", "alarms": [], **state}
    fields = [
        part
        for name, value in values.items()
        for part in (name, json.dumps(value) if isinstance(value, dict | list) else value)
    ]
    redis.call("HSET", f"{prefix}:device:{device}", *fields)
    redis.call("ZADD", f"{prefix}:devices", f"{seen:.3f}", device)
    if session:
        names = ("gateway", "transport", "peer")
        pairs = [part for pair in zip(names, session, strict=True) for part in pair]
        redis.call("HSET", f"{prefix}:session:{device}", "token", "t", *pairs, "since", iso(seen))


def event(kind: str, device: str = DEVICE, event_id: str | None = None, **data: Any) -> str:
    """Return an event's JSON as the gateway publishes it."""
    named = {} if event_id is None else {"id": event_id}
    return json.dumps(
        {
            "v": 1,
            **named,
            "kind": kind,
            "device": device,
            "received_at": "2026-11-22T10:15:00.123456Z",
            "stored": False,
            "data": data,
        }
    )


class WithRedis(SynchronousTestCase):
    """Tests with their own server, empty before each test."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.server.discard()

    def setUp(self) -> None:
        self.redis = self.server.client()
        self.addCleanup(self.redis.close)
        self.redis.call("FLUSHALL")

    def start(self, *arguments: str, user: str | None = None) -> Running:
        """Start the command with this server, as `default` or another user."""
        url = self.server.url if user is None else self.server.url_of(user)
        running = Running(*arguments, JT709C_REDIS=url)
        self.addCleanup(running.__exit__)
        return running

    def publish(self, kind: str, device: str = DEVICE, event_id: str | None = None, **data: Any) -> None:
        """Publish an event; an event with an id is added to the stream as well, as by the gateway."""
        text = event(kind, device, event_id, **data)
        if event_id is not None:
            self.store(text)
        self.redis.call("PUBLISH", f"jt709c:event:{kind}:{device}", text)

    def store(self, text: str) -> None:
        """Add an event to the stream only."""
        known = json.loads(text)
        fields = ("kind", known["kind"], "device", known["device"], "event", text)
        self.redis.call("XADD", "jt709c:events", "*", *fields)

    def taken_command(self) -> dict[str, Any]:
        """Return the next command of the intake list."""
        found: dict[str, Any] = json.loads(wait_until(lambda: self.redis.call("LPOP", "jt709c:commands")))
        return found
