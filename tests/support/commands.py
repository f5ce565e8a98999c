"""Support for tests of commands: a daemon shared by a class, fake locks and a client that pushes commands."""

import itertools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.model import ENDED
from jt709c_gateway.protocol import jt709, jt808
from jt709c_gateway.protocol.framing import Framer
from tests.support import PATIENCE, RedisClient, ValkeyServer, wait_until
from tests.support.acl import GuardedServer
from tests.support.daemon import Daemon, Lock
from tests.vectors import location

PASSWORD = "483920"
UNLOCKED = jt709.STATUS_FIX | jt709.STATUS_MOTOR
_devices = itertools.count(794308020001)
_ids = itertools.count(1)


def new_device() -> str:
    """Return the id of a lock that no other test has."""
    return str(next(_devices))


def new_id() -> str:
    """Return a command id that no other test has."""
    return f"command-{next(_ids)}"


def lock_event(code: int = 0x01, password: str = PASSWORD, result: int = 0) -> bytes:
    """Return a lock event item: by default, opened with a password."""
    return b"\x0b\x08" + bytes([code]) + password.encode() + bytes([result])


def card_event(card: int = 6437449) -> bytes:
    """Return a lock event item: opened with an RFID card."""
    return b"\x0b\x06\x22" + card.to_bytes(4, "big") + b"\x00"


class FakeLock:
    """A simulated lock over TCP, driven by the test. It records what the gateway writes."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.connection: Lock | None = None
        #: All commands that were written to it, and the number of those that a test has read.
        self.commands: list[bytes] = []
        self._seen = 0
        self._serial = 0

    def connect(self, daemon: Daemon, known: bool = True) -> "FakeLock":
        """Connect; with `known`, send a location report of a closed lock."""
        self.close()
        self.connection = daemon.lock(framer=self.framer())
        if known:
            self.report()
        return self

    def framer(self) -> Any:
        """Return the framer of the bytes from the gateway."""
        return Framer()

    @property
    def wire(self) -> bytes:
        """Its id in a binary frame."""
        return bytes.fromhex(self.device.zfill(12))

    def frame(self, message_id: int, body: bytes = b"") -> bytes:
        """Return a frame with its next serial."""
        self._serial += 1
        return jt808.encode(message_id, self.wire, self._serial, body)

    def location(
        self,
        items: bytes = b"",
        status: int = jt709.STATUS_FIX,
        at: float | None = None,
        message_id: int = 0x0200,
        alarm_bits: int = 0,
        **place: float,
    ) -> bytes:
        """Return a location report of now, or of `at` in epoch seconds; no two have the same content.

        `place` are `latitude`, `longitude` and `speed_kmh`.
        """
        moment = datetime.fromtimestamp(time.time() if at is None else at, UTC).replace(microsecond=0)
        where: dict[str, Any] = {"time": moment, "altitude_m": self._serial % 5000, **place}
        return self.frame(message_id, location(items, status=status, alarm_bits=alarm_bits, **where))

    def report(self, items: bytes = b"", status: int = jt709.STATUS_FIX, at: float | None = None) -> None:
        """Send a location report and wait until it is answered."""
        self.send(self.location(items, status, at))
        self._until_answered()

    def send(self, *frames: bytes) -> None:
        """Send frames in one go."""
        assert self.connection is not None
        self.connection.send(*frames)

    def beat(self) -> None:
        """Send a heartbeat and wait for its answer: everything written before has arrived by then."""
        self.send(self.frame(0x0002))
        self._until_answered()

    def _read(self) -> bool:
        """Read one frame; whether it is an answer to a report."""
        assert self.connection is not None
        (raw,) = self.connection.answers()
        if self._is_answer(raw):
            return True
        self.commands.append(raw)
        return False

    def _is_answer(self, raw: bytes) -> bool:
        """Whether a frame is the answer to a report, not a command."""
        return raw.startswith(b"\x7e\x80\x01")

    def _until_answered(self) -> None:
        while not self._read():
            pass

    def next_command(self) -> bytes:
        """Wait for the next command and return its bytes."""
        while self._seen == len(self.commands):
            self._read()
        self._seen += 1
        return self.commands[self._seen - 1]

    def next_unlock(self) -> int:
        """Wait for an unlock command and return its serial."""
        raw = self.next_command()
        parts = raw[1:-1].split(b",")
        assert parts[0].decode() == self.device, raw
        assert parts[3:6] == [b"ELOCK", b"1", b"1"], raw
        return int(parts[2])

    def answer(self, serial: int, *words: str) -> None:
        """Send a grouped sentence."""
        self.send(f"({self.device},1,{serial:03d},{','.join(words)})".encode())

    def say_yes(self, serial: int) -> None:
        """Accept the unlock command."""
        self.answer(serial, "ELOCK", "1", "1")

    def refuse(self, serial: int) -> None:
        """Refuse the unlock command for its wrong password."""
        self.answer(serial, "ELOCK", "1", "0", "1")

    def open(self) -> None:
        """Report that it was opened with a password."""
        self.report(lock_event(), UNLOCKED)

    def move(self) -> None:
        """Report `open` and closed again, without waiting for the answers."""
        self.send(self.location(lock_event(), UNLOCKED), self.location())

    def unlocks(self) -> list[int]:
        """Return the serials of the unlock commands that have arrived since the last call; doesn't wait."""
        if self.connection is not None:
            self.commands += [raw for raw in self.connection.answers_within(0.001) if raw[:1] == b"("]
        found = [int(raw.split(b",")[2]) for raw in self.commands[self._seen :]]
        self._seen = len(self.commands)
        return found

    def try_to(self, deed: Callable[..., None], *arguments: Any) -> None:
        """Call a function that fails when the daemon has died."""
        try:
            deed(*arguments)
        except OSError:
            self.close()

    def result(self, serial: int, message_id: int, result: int = 0) -> None:
        """Send 0x0001, the answer to a binary command."""
        body = serial.to_bytes(2, "big") + message_id.to_bytes(2, "big") + bytes([result])
        self.send(self.frame(0x0001, body))

    def close(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class CommandClient:
    """Pushes commands into Redis and reads their records, events and replies."""

    def __init__(self, server: ValkeyServer, prefix: str = "jt709c") -> None:
        self.redis: RedisClient = server.client()
        self.prefix = prefix

    def key(self, *parts: str) -> str:
        """Return a key under the prefix."""
        return ":".join((self.prefix, *parts))

    def push(self, entry: str | bytes) -> None:
        """Push an entry into the intake list unchanged."""
        self.redis.call("RPUSH", self.key("commands"), entry)

    def command(self, device: str, command: str, params: dict[str, Any] | None = None, **more: Any) -> str:
        """Push a command and return its id."""
        command_id = more.pop("id", None) or new_id()
        fields = {"id": command_id, "device": device, "command": command, "params": params or {}, **more}
        self.push(json.dumps(fields))
        return command_id

    def unlock(self, device: str, password: str = PASSWORD, **more: Any) -> str:
        """Push an unlock command and return its id."""
        return self.command(device, "unlock", {"password": password}, **more)

    def record(self, command_id: str) -> dict[str, str]:
        """Return the current record of a command."""
        flat = self.redis.call("HGETALL", self.key("command", command_id))
        texts = [item.decode() for item in flat]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def state(self, command_id: str) -> str:
        """Return the state of a command, "" when it is unknown."""
        return self.record(command_id).get("state", "")

    def wait(self, command_id: str, *states: str, timeout: float = PATIENCE) -> dict[str, str]:
        """Wait until a command is in one of these states and return its record."""

        def reached() -> dict[str, str] | None:
            record = self.record(command_id)
            return record if record.get("state") in states else None

        try:
            return wait_until(reached, timeout)
        except AssertionError:
            raise AssertionError(f"{command_id} is {self.record(command_id)}, not {states}") from None

    def wait_end(self, command_id: str, timeout: float = PATIENCE) -> dict[str, str]:
        """Wait until a command has ended and return its record."""
        return self.wait(command_id, *ENDED, timeout=timeout)

    def events(self, kind: str, device: str | None = None) -> list[dict[str, Any]]:
        """Return the published events of one kind, oldest first."""
        found = []
        for _, flat in self.redis.call("XRANGE", self.key("events"), "-", "+"):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if fields[b"kind"].decode() == kind and device in (None, fields[b"device"].decode()):
                found.append(json.loads(fields[b"event"]))
        return found

    def states(self, command_id: str) -> list[str]:
        """Return the states of a command from its events."""
        return [
            event["data"]["state"] for event in self.events("command") if event["data"]["id"] == command_id
        ]

    def reply(self, name: str, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait for an outcome under a `reply_to` name and return it."""
        found = self.redis.call("BLPOP", self.key("reply", name), timeout)
        assert found is not None, f"nothing came for {name}"
        return json.loads(found[1])

    def wait_for_none_under_way(self) -> None:
        """Wait until no gateway holds a command, which ends right after it publishes the outcome."""
        wait_until(lambda: not self.under_way(), message="a gateway still holds a command")

    def under_way(self) -> list[str]:
        """Return the ids of the commands that gateways hold."""
        names = self.redis.call("SMEMBERS", self.key("gateways"))
        keys = [self.key("commands", "underway", name.decode()) for name in names]
        return [one.decode() for key in keys for one in self.redis.call("HKEYS", key)]

    def close(self) -> None:
        """Close the connection."""
        self.redis.close()


class CommandCase(SynchronousTestCase):
    """Tests of commands, with one daemon for each class and one lock, not connected yet, for each test.

    The daemon has only the rights of its user in etc/redis-acl.conf.
    """

    options: tuple[str, ...] = ()
    transport = "tcp"

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = GuardedServer().start()
        cls.addClassCleanup(cls.server.end)
        listens = {name: name == cls.transport for name in ("tcp", "udp")}
        cls.daemon = Daemon(*cls.options, redis=cls.server.gateway_url, **listens).start()
        cls.addClassCleanup(cls.daemon.discard)

    def setUp(self) -> None:
        self.client = CommandClient(self.server)
        self.addCleanup(self.client.close)
        self.lock = FakeLock(new_device())
        self.addCleanup(self.lock.close)
        self.device = self.lock.device


#: Allowed transitions of a command's state (docs/commands.rst, States).
EDGES = {
    before: set(after.split())
    for before, after in {
        "": "queued invalid",
        # `confirmed` where the gateway wrote it but was too late to record `sent`, and its lock has moved.
        "queued": "waiting sent failed uncertain expired cancelled invalid rejected done confirmed",
        "waiting": "queued sent failed uncertain expired cancelled invalid rejected confirmed",
        "sent": "acknowledged confirmed done rejected uncertain timed_out failed waiting queued sent expired",
        "acknowledged": "confirmed unconfirmed done rejected",
        "unconfirmed": "confirmed",
        "uncertain": "confirmed",
    }.items()
}


def _reachable(before: str) -> set[str]:
    """Return all states that may follow a state, directly or not."""
    found: set[str] = set()
    new = EDGES.get(before, set())
    while new:
        found |= new
        new = set().union(*(EDGES.get(state, set()) for state in new)) - found
    return found


def check_edges(states: list[str], complete: bool = True) -> None:
    """AssertionError when a state follows one that does not allow it.

    Where the states are not `complete`, a crash may have preceded the event of one or several of them.
    """
    before = ""
    for state in states:
        allowed = EDGES.get(before, set()) if complete else _reachable(before)
        assert state in allowed, f"{before} -> {state} in {states}"
        before = state
