"""Commands whose ttl ends before they are written have their outcome within a second, however many."""

import json
import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.commands.lifecycle import CommandExecution
from jt709c_gateway.commands.model import Command
from jt709c_gateway.commands.serialization import PUBLIC_FIELDS, to_hash, to_queue_entry
from tests.support import ValkeyServer
from tests.support.acl import GATEWAY, rules_of
from tests.support.command_bench import START, BenchTestCase
from tests.support.commands import CommandClient, check_edges, new_device, new_id
from tests.support.daemon import Daemon
from tests.support.reporter import report

#: Outcomes are told so many seconds after the ttl at the latest.
PROMISED = 1.0
#: Commands of the script.
NEEDED = (
    "xadd",
    "publish",
    "hset",
    "lrem",
    "zrem",
    "rpush",
    "ltrim",
    "expire",
    "hdel",
    "lrange",
    "hmget",
    "type",
)


class EndTests(BenchTestCase):
    """What the script makes of one command, beside what the life cycle says of it."""

    def put(self, device: str | None = None, due: float = START - 1, **fields: Any) -> CommandExecution:
        """A command in the queue of its lock, as it stands in Redis."""
        created = due - 10.0
        command = Command(
            new_id(), device or new_device(), "unlock", {"password": "483920"}, 10.0, created_at=created
        )
        run = CommandExecution(command, None, secret_names=frozenset({"password"}))
        run.queued(created)
        for name, value in fields.items():
            target = command if hasattr(command, name) else run
            object.__setattr__(target, name, value)
        call, key = self.client.redis.call, self.client.key
        flat = [part for item in to_hash(run.stored()).items() for part in item]
        call("HSET", key("command", command.id), *flat)
        call("RPUSH", key("commands", "waiting", command.device), to_queue_entry(command))
        call("ZADD", key("commands", "deadlines"), due, command.id)
        return run

    def rights(self, *rules: str) -> None:
        """Change what the gateway may do."""
        self.client.redis.call("ACL", "SETUSER", f"gateway-of-{self.prefix}", *rules)

    def end(self) -> None:
        """Let the gateway see what is due."""
        self.node.pass_time(0.3)

    def history(self, device: str) -> list[dict[str, Any]]:
        """The events in a lock's history."""
        entries = self.client.redis.call("XRANGE", self.client.key("history", device), "-", "+")
        return [json.loads(flat[flat.index(b"event") + 1]) for _, flat in entries]

    def test_as_the_life_cycle_says(self) -> None:
        """Record, event, history and reply say what the life cycle would, whatever the fields hold."""
        awkward = 'a "quoted" \\/ path/to\u00e9\x7f'
        for more in (
            {},
            {"issued_by": awkward, "ttl": 0.3},
            {"attempts": 1, "serials": [7], "physical": False, "profile": "jt709", "assumed": True},
            {"attempts": 3, "name": "text", "params": {"text": awkward, "n": [1, {"a": None}]}},
        ):
            run = self.put(reply_to="me", **more)
            run.secret_names = frozenset({"password"})
            self.end()
            now = START + self.node.clock.seconds()
            command = run.command
            expected = run.deadline(max(now, run.next_deadline or now)).transitions[0].fields
            record = self.client.record(command.id)
            ended = record["ended_at"]
            self.assertEqual(record, {**to_hash({**expected, "ended_at": ended}), "holder": ""}, more)
            (event,) = [one for one in self.client.events("command") if one["data"]["id"] == command.id]
            public = {name: {**expected, "ended_at": ended}[name] for name in PUBLIC_FIELDS}
            self.assertEqual((event["data"], event["device"]), (public, command.device))
            self.assertEqual(list(event["data"]), list(PUBLIC_FIELDS))
            ours = json.loads(self.node.gateway.events.encode(command.device, "command", public))
            self.assertEqual({**ours, "id": event["id"], "received_at": event["received_at"]}, event)
            self.assertEqual(self.history(command.device), [event])
            self.assertEqual(self.client.reply("me"), public)
            left = self.client.redis.call("LLEN", self.client.key("commands", "waiting", command.device))
            self.assertEqual(left, 0)

    def test_fields_of_other_events(self) -> None:
        """An event of the script has the fields of one that the gateway encodes, in the same order."""
        run = self.put()
        self.end()
        (event,) = self.client.events("command")
        own = json.loads(self.node.gateway.events.encode(run.command.device, "command", {}))
        self.assertEqual(list(event), list(own))
        other = {name for name in own if event[name] != own[name]}
        self.assertEqual(other - {"received_at"}, {"id", "data"})

    def test_ids_differ(self) -> None:
        """No two events have the same id."""
        for _ in range(120):
            self.put()
        self.end()
        ids = [event["id"] for event in self.client.events("command")]
        self.assertEqual(len(ids), 120)
        self.assertEqual(len(set(ids)), 120)

    def test_others_stay(self) -> None:
        """What is not due, what has ended and what a gateway has in hand are left alone."""
        early, ended, held = self.put(due=START + 60), self.put(state="cancelled"), self.put()
        call, key = self.client.redis.call, self.client.key
        call("DEL", key("commands", "waiting", held.command.device))
        call("HSET", key("commands", "underway", "gw2"), held.command.id, to_queue_entry(held.command))
        call("SADD", key("gateways"), "gw2")
        call("SET", key("gateway", "gw2"), '{"run":"2-b"}')
        call("HSET", key("command", held.command.id), "holder", "gw2/2-b")
        self.end()
        self.assertEqual(self.client.events("command"), [])
        for run, state in ((early, "queued"), (ended, "cancelled"), (held, "queued")):
            self.assertEqual(self.client.state(run.command.id), state)

    def test_in_no_list(self) -> None:
        """A command that was lost out of every list ends too, and is called unwritten only if it is."""
        lost = self.put()
        doubtful = self.put(writing_at=START - 5, attempts=1)
        harmless = self.put(writing_at=START - 5, attempts=1, physical=False)
        for run in (lost, doubtful, harmless):
            self.client.redis.call("DEL", self.client.key("commands", "waiting", run.command.device))
        self.end()
        states = [self.client.state(run.command.id) for run in (lost, doubtful, harmless)]
        self.assertEqual(states, ["expired", "uncertain", "timed_out"])

    def test_lost_before_its_ttl_is_over(self) -> None:
        """A minute after it came in, what is in no list ends; what waits or is in hand does not."""
        call, key = self.client.redis.call, self.client.key
        lost, waiting, held = (self.put(due=START + 7000) for _ in range(3))
        for run in (lost, held):
            call("DEL", key("commands", "waiting", run.command.device))
        call("HSET", key("commands", "underway", "gw2"), held.command.id, to_queue_entry(held.command))
        call("HSET", key("command", held.command.id), "holder", "gw2/2-b")
        runs = (lost, waiting, held)
        for run in runs:
            call("ZADD", key("commands", "recent"), START, run.command.id)
        self.node.pass_time(55, tick=5)
        self.assertEqual([self.client.state(run.command.id) for run in runs], ["queued"] * 3)
        self.node.pass_time(10)
        self.assertEqual([self.client.state(run.command.id) for run in runs], ["failed", "queued", "queued"])
        self.assertEqual(self.client.states(lost.command.id), ["failed"])

    def test_refused_ones_hold_up_nobody(self) -> None:
        """Where a key is of another type nothing is written; others end, and this one once it is mended."""
        call = self.client.redis.call
        for name in ("history", "commands:unsettled", "commands:waiting", "reply"):
            spoiled = [self.put(reply_to="other", due=START - 5) for _ in range(60)]
            keys = [
                self.client.key(name, "other" if name == "reply" else one.command.device) for one in spoiled
            ]
            for one in keys:
                call("DEL", one)
                call("SET", one, "x")
            sound = self.put()
            self.end()
            self.assertEqual(self.client.state(sound.command.id), "expired", name)
            ids = {one.command.id for one in spoiled}
            self.assertEqual({self.client.state(one) for one in ids}, {"queued"}, name)
            self.assertEqual([e for e in self.client.events("command") if e["data"]["id"] in ids], [])
            call("DEL", *keys)
            self.end()
            for one in ids:
                self.assertEqual(self.client.states(one), ["expired"], name)

    def test_missing_right(self) -> None:
        """Without one of the rights nothing is written; with it the command ends once."""
        for command in NEEDED:
            run = self.put(reply_to="me")
            self.rights(f"-{command}")
            self.end()
            self.assertEqual(self.client.states(run.command.id), [], command)
            self.assertEqual(self.client.state(run.command.id), "queued", command)
            self.rights("reset", *rules_of(GATEWAY, self.prefix))
            self.node.blocking.client.call("AUTH", f"gateway-of-{self.prefix}", "secret-of-gateway")
            self.end()
            self.assertEqual(self.client.states(run.command.id), ["expired"], command)
            self.assertEqual(len(self.history(run.command.device)), 1, command)
        self.client.redis.call("ACL", "LOG", "RESET")

    def test_counted(self) -> None:
        """They count among the outcomes in the metrics."""
        for _ in range(3):
            self.put()
        self.end()
        self.assertEqual(self.node.gateway.counters.commands["expired"], 3)


class ManyTests(SynchronousTestCase):
    """A daemon, and thousands of commands whose ttl ends in the same second."""

    COUNT = 1000

    def test_within_a_second(self) -> None:
        """All have their outcome within a second of their ttl, and reports are answered meanwhile."""
        server = ValkeyServer().start()
        self.addCleanup(server.discard)
        client = CommandClient(server)
        self.addCleanup(client.close)
        daemon = Daemon("--events-max", "1000000", redis=server.url).start()
        self.addCleanup(daemon.discard)
        due = self.put(client)
        waits = []
        with daemon.lock() as lock:
            lock.ask(report(1))
            time.sleep(max(0.0, due - time.time()))
            for serial in range(2, 1000):
                began = time.monotonic()
                lock.ask(report(serial))
                waits.append(time.monotonic() - began)
                if not client.redis.call("ZCARD", client.key("commands", "deadlines")):
                    break
        late = [
            float(stamp.split(b"-")[0]) / 1000 - due
            for stamp, flat in client.redis.call("XRANGE", client.key("events"), "-", "+")
            if b"command" in flat
        ]
        self.assertEqual(len(late), self.COUNT)
        self.assertLess(max(late), PROMISED)
        self.assertLess(sorted(waits)[len(waits) // 2], 0.1)
        check_edges(["queued", *client.states("many-7")])

    def put(self, client: CommandClient) -> float:
        """Commands for locks that are away; when their ttl ends."""
        created, ids = time.time(), []
        for number in range(self.COUNT):
            device = str(700000000000 + number)
            command = Command(
                f"many-{number}", device, "unlock", {"password": "483920"}, 3.0, created_at=created
            )
            run = CommandExecution(command, None, secret_names=frozenset({"password"}))
            flat = [part for item in to_hash(run.stored()).items() for part in item]
            client.redis.call("HSET", client.key("command", command.id), *flat)
            client.redis.call("RPUSH", client.key("commands", "waiting", device), to_queue_entry(command))
            ids.append(command.id)
        due = time.time() + 1.0
        ranked = [part for one in ids for part in (due, one)]
        client.redis.call("ZADD", client.key("commands", "deadlines"), *ranked)
        return due
