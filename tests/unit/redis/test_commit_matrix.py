"""Every key of the commit script x every right x every wrong type: a record is written once or not at all.

Each case commits the records of a scene under one hindrance, and again when it is gone. Streams, histories
and channels then have what they have without a hindrance: nothing twice, and no alarm lost.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis.commit_records import DeviceState, EventsRecord, PeripheralState
from jt709c_gateway.redis.keys import Keys
from jt709c_gateway.redis.scripts import COMMIT
from tests.support import RedisClient, RedisError, key_prefix, shared_server
from tests.support.acl import GATEWAY, log_in, password_of, rules_of
from tests.support.committer import NOW, Script, Teller
from tests.unit.redis.test_commit_script import CARD, DEVICE, FENCE, LOW_BATTERY, report
from tests.vectors import binary

Records = list[Any]
IMEI = "861234567890121"
ISO = "2025-11-18T11:30:00.000000Z"
#: Commands of the commit script, and those that commands have it carry out.
COMMANDS = sorted({*re.findall(rb"call(?:\(|, )'([A-Z]+)'", COMMIT.source), b"LPUSH", b"LREM"})
#: How a key of each type is made.
MAKE: dict[str, tuple[str, ...]] = {
    "string": ("SET", "x"),
    "list": ("RPUSH", "x"),
    "set": ("SADD", "x"),
    "zset": ("ZADD", "0", "x"),
    "hash": ("HSET", "x", "x"),
    "stream": ("XADD", "*", "x", "x"),
}


def command_record(keys: Keys) -> EventsRecord:
    """A command that ends: what a gateway has carried out for it."""
    end = [
        ("HSET", keys.command("o1"), "state", "done"),
        ("EXPIRE", keys.command("o1"), 60),
        ("HDEL", keys.under_way("gw1"), "o1"),
        ("ZREM", keys.deadlines, "o1"),
        ("ZADD", keys.recent_commands, "1", "o1"),
        ("HSET", keys.unsettled(DEVICE), "o1", "1 gw1"),
        ("RPUSH", keys.reply("me"), "{}"),
        ("LTRIM", keys.reply("me"), -9, -1),
        ("LPUSH", keys.invalid, "{}"),
        ("HINCRBY", keys.device(DEVICE), "wrong_passwords", 1),
    ]
    return EventsRecord(device=DEVICE, events=[("command", '{"id":"c"}')], commands=end)


class Scenes:
    """Records, and those that have been committed before them."""

    def __init__(self, keys: Keys, call: Callable[..., Any]) -> None:
        self.keys, self.call = keys, call
        self.teller = Teller()

    def position(self) -> tuple[Records, Records]:
        """A position like most, and one that begins an alarm and ends another."""
        before = self.teller.contents(report(1, alarm_bits=FENCE))
        return before, self.teller.contents(report(2, alarm_bits=FENCE), report(3, alarm_bits=LOW_BATTERY))

    def first(self) -> tuple[Records, Records]:
        """A lock comes, opens and is heard for the first time."""
        return [], self.teller.contents(report(1, items=CARD, alarm_bits=LOW_BATTERY), binary(0x0002))

    def moved(self) -> tuple[Records, Records]:
        """A lock comes that another gateway had, whose gateway lives."""
        self.call("SET", self.keys.gateway("gw2"), "{}")
        return Teller("gw2").contents(report(1)), self.teller.contents(report(2))

    def gone(self) -> tuple[Records, Records]:
        """Its link ends."""
        return self.teller.contents(report(1)), self.teller.leaves()

    def named(self) -> tuple[Records, Records]:
        """It says its IMEI, under which commands wait."""
        self.call("RPUSH", self.keys.waiting(IMEI), json.dumps({"id": "w1"}), json.dumps({"id": "w2"}))
        said = f"({DEVICE},1,001,VERSION,1,JT709C_20200101,{IMEI})".encode()
        peripheral = PeripheralState(
            peripheral="0123456789", type="jt126", time=None, lock_state="locked", battery_percent=90
        )
        made = EventsRecord(
            device=DEVICE,
            fingerprint="f" * 16,
            seen=ISO,
            seen_at=NOW.timestamp(),
            events=[("reply", '{"id":"r"}')],
            state=DeviceState(
                dialect="jt709", imei=IMEI, firmware="v1", secret="998877", peripheral=peripheral
            ),
        )
        return self.teller.contents(report(1)), [*self.teller.contents(said), made]

    def command(self) -> tuple[Records, Records]:
        """A command ends."""
        return self.teller.contents(report(1)), [command_record(self.keys)]


SCENES = ("position", "first", "moved", "gone", "named", "command")


class World:
    """A prefix of its own, a user with the gateway's rights, and ears on all channels."""

    def __init__(self, admin: RedisClient, gateway: RedisClient, scene: str) -> None:
        self.prefix = key_prefix()
        self.admin = admin
        self.script = Script(gateway, self.prefix)
        self.before, self.records = getattr(Scenes(self.script.keys, admin.call), scene)()
        if self.before:
            assert self.script.commit(self.before) == 0
        self.heard: Counter[str] = Counter()

    def commit(self, records: Records, ears: RedisClient) -> Records:
        """Commit records; those that were refused. Nothing is told of these."""
        kept = self.kept()
        try:
            reply = self.script.commit(records)
        except RedisError:
            refused = set(range(len(records)))
        else:
            refused = set(reply[1::2] if isinstance(reply, list) else [])
        published = self.listen(ears)
        if len(refused) == len(records):
            assert not published, published
            assert self.kept() == kept, "what was refused is in a stream"
        return [one for index, one in enumerate(records) if index in refused]

    def listen(self, ears: RedisClient) -> Counter[str]:
        """What was published since the last look, by kind."""
        found: Counter[str] = Counter()
        ears._socket.sendall(b"PING\r\n")
        while (message := ears.read())[0] != b"pong":
            if message[0] == b"pmessage" and message[2].startswith(f"{self.prefix}:".encode()):
                found[message[2].decode().split(":")[2]] += 1
        self.heard += found
        return found

    def kept(self) -> Counter[tuple[str, str]]:
        """What is in the streams, by stream and kind."""
        found: Counter[tuple[str, str]] = Counter()
        for key in (self.script.keys.events, self.script.keys.history(DEVICE)):
            if self.admin.call("TYPE", key) == b"stream":
                for _, flat in self.admin.call("XRANGE", key, "-", "+"):
                    if b"kind" in flat:
                        found[key.removeprefix(self.prefix), flat[flat.index(b"kind") + 1].decode()] += 1
        return found

    def discard(self) -> None:
        """Remove what it has left."""
        if names := self.admin.call("KEYS", f"{self.prefix}:*"):
            self.admin.call("DEL", *names)


class MatrixTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.admin = shared_server().client()
        self.addCleanup(self.admin.close)
        self.ears = shared_server().client()
        self.addCleanup(self.ears.close)
        self.ears.call("PSUBSCRIBE", "test*:event:*")
        self.user = f"matrix-{key_prefix()}"
        self.admin.call("ACL", "SETUSER", self.user, *self.rules())
        self.gateway = log_in(shared_server().client(), self.user, password_of(GATEWAY))
        self.addCleanup(self.gateway.close)

    def rules(self) -> list[str]:
        """The gateway's commands, for all keys and channels."""
        rules = [rule for rule in rules_of(GATEWAY) if rule[0] not in "~&"]
        return ["reset", *rules, "~*", "&*"]

    @contextmanager
    def rights(self, *rules: str) -> Iterator[None]:
        """Within, the user's rights are changed."""
        self.admin.call("ACL", "SETUSER", self.user, *rules)
        try:
            yield
        finally:
            self.admin.call("ACL", "SETUSER", self.user, *self.rules()[1:])

    def world(self, scene: str) -> World:
        """A scene that is about to be played."""
        world = World(self.admin, self.gateway, scene)
        world.listen(self.ears)
        world.heard.clear()
        return world

    def undisturbed(self, scene: str) -> tuple[Any, Any, dict[str, str]]:
        """What a scene leaves without any hindrance, and its keys with their types."""
        world = self.world(scene)
        self.assertEqual(world.commit(world.records, self.ears), [])
        names = [one.decode() for one in self.admin.call("KEYS", f"{world.prefix}:*")]
        types = {one.removeprefix(world.prefix): self.admin.call("TYPE", one).decode() for one in names}
        left = world.kept(), world.heard
        world.discard()
        return *left, types

    def check(self, scene: str, what: str, hindrance: Callable[[World], Any]) -> int:
        """Commit under a hindrance and again without; how many records it hindered."""
        kept, heard, _ = self.expected[scene]
        world = self.world(scene)
        try:
            with hindrance(world):
                left = world.commit(world.records, self.ears)
            if left:
                self.assertEqual(world.commit(left, self.ears), [], what)
            self.assertEqual(world.kept(), kept, what)
            self.assertEqual(world.heard, heard, what)
        except AssertionError as error:
            raise AssertionError(f"{scene}, {what}: {error}") from error
        finally:
            world.discard()
        return len(left)

    @contextmanager
    def spoiled(self, name: str, kind: str) -> Iterator[None]:
        """Within, a key is of another type."""
        kept = self.admin.call("DUMP", name)
        self.admin.call("DEL", name)
        command, *rest = MAKE[kind]
        self.admin.call(command, name, *rest)
        try:
            yield
        finally:
            self.admin.call("DEL", name)
            if kept is not None:
                self.admin.call("RESTORE", name, 0, kept)

    def each_scene(self) -> Iterator[str]:
        self.expected = {}
        for scene in SCENES:
            self.expected[scene] = self.undisturbed(scene)
            yield scene

    def test_every_command(self) -> None:
        """Without the right to one of the script's commands."""
        hindered: Counter[str] = Counter()
        for scene in self.each_scene():
            for command in (one.decode() for one in COMMANDS):
                hindered[command] += self.check(
                    scene, f"-{command}", lambda _, c=command: self.rights(f"-{c}")
                )
        for command in ("XADD", "PUBLISH", "APPEND", "HSET", "ZADD", "RPUSH", "GET", "HMGET", "LTRIM"):
            self.assertGreater(hindered[command], 0, command)

    def test_every_key(self) -> None:
        """Without the right to a key that the scene has, at all or to write it."""
        hindered: Counter[str] = Counter()
        for scene in self.each_scene():
            names = self.expected[scene][2]
            for name in sorted(names):
                for mode in ("", "%R"):
                    others = [f"~*{one}" for one in names if one != name]
                    rules = ["resetkeys", *others, *([f"%R~*{name}"] if mode else [])]
                    hindered[name] += self.check(scene, f"{mode}{name}", lambda _, r=rules: self.rights(*r))
        for name in (":events", f":device:{DEVICE}", f":history:{DEVICE}", f":track:{DEVICE}", ":devices"):
            self.assertGreater(hindered[name], 0, name)

    def test_every_channel(self) -> None:
        """Without the right to publish events of a kind."""
        hindered: Counter[str] = Counter()
        for scene in self.each_scene():
            for kind in KINDS:
                rules = ["resetchannels", *(f"&*:event:{one}:*" for one in KINDS if one != kind)]
                hindered[kind] += self.check(scene, f"channel {kind}", lambda _, r=rules: self.rights(*r))
        for kind in ("location", "alarm", "lock", "session", "command"):
            self.assertGreater(hindered[kind], 0, kind)

    def test_every_type(self) -> None:
        """With each key that the scene has of each other type."""
        hindered: Counter[str] = Counter()
        for scene in self.each_scene():
            for name, right in sorted(self.expected[scene][2].items()):
                for kind in MAKE.keys() - {right}:
                    hindered[name] += self.check(
                        scene, f"{name} a {kind}", lambda w, n=name, k=kind: self.spoiled(w.prefix + n, k)
                    )
        for name in (":events", f":device:{DEVICE}", f":history:{DEVICE}", f":track:{DEVICE}", ":devices"):
            self.assertGreater(hindered[name], 0, name)
