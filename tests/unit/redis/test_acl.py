"""The users of etc/redis-acl.conf: what each may and may not do, on a real server.

Most of the gateway's own rights are proved elsewhere: the tests of commands run it as its user
(`GuardedServer`, `BenchTestCase`) and fail when the server has denied it anything.
"""

import ast
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import jt709c_gateway
from jt709c_gateway.config.values import prefix as read_prefix
from jt709c_gateway.protocol.events import KINDS
from jt709c_gateway.redis.keys import Keys
from tests.support import ROOT, RedisClient
from tests.support.acl import (
    COMMANDER,
    GATEWAY,
    READER,
    GuardedServer,
    denials,
    is_denied,
    log_in,
    password_of,
    rules_of,
    user_lines,
)

DEVICE = "794308010679"
#: Prefixes that the file is adapted to with sed; the last two are hash tags of Redis Cluster.
PREFIXES = ("jt709c", "fleet-2", "{jt709c}", "{eu.west}:locks")

#: What a service may do, one command a line; P stands for the prefix and D for a device.
ALLOWED = {
    READER: """
        PING
        CLIENT SETNAME dashboard
        CLIENT SETINFO LIB-NAME redis-py
        XRANGE P:events - +
        XREVRANGE P:events + - COUNT 1
        XLEN P:events
        XREAD COUNT 1 STREAMS P:events 0
        XGROUP CREATE P:events billing 0
        XGROUP CREATECONSUMER P:events billing one
        XREADGROUP GROUP billing one COUNT 1 STREAMS P:events >
        XPENDING P:events billing
        XCLAIM P:events billing one 0 1-1
        XAUTOCLAIM P:events billing one 0 0
        XACK P:events billing 1-1
        XINFO STREAM P:events
        XINFO GROUPS P:events
        XINFO CONSUMERS P:events billing
        HGETALL P:device:D
        HMGET P:device:D seen lock_state
        HGET P:imei 867284063211238
        HMGET P:label:D name group
        SMEMBERS P:labels
        ZRANGE P:devices 0 -1
        ZRANGEBYSCORE P:devices -inf +inf
        ZSCORE P:devices D
        HGETALL P:session:D
        TTL P:session:D
        EXISTS P:session:D
        XRANGE P:history:D - +
        XRANGE P:malformed - +
        GET P:partitions
        GET P:{0}:partitions
        TIME
        SUBSCRIBE P:event:lock:D
        SUBSCRIBE P:event:location:D P:event:alarm:D
        PSUBSCRIBE P:event:*
        PSUBSCRIBE P:event:*:*
        PSUBSCRIBE P:event:lock:*
    """,
    COMMANDER: """
        PING
        CLIENT SETNAME dispatch
        RPUSH P:commands {"id":"o1"}
        HGETALL P:command:o1
        HGET P:command:o1 state
        HMGET P:command:o1 state reason
        TTL P:command:o1
        ZREVRANGE P:commands:recent 0 -1
        ZSCORE P:devices D
        LRANGE P:reply:dispatch 0 -1
        BLPOP P:reply:dispatch 0.01
        LPOP P:reply:dispatch
        HGET P:imei 867284063211238
        HMGET P:label:D name group
        SMEMBERS P:labels
        HGETALL P:session:D
        XRANGE P:history:D - +
        GET P:{0}:partitions
        SUBSCRIBE P:event:command:D
        PSUBSCRIBE P:event:command:*
    """,
}

#: What neither service may, and the reasons for having users at all.
FORBIDDEN = """
    FLUSHALL
    FLUSHDB
    CONFIG GET *
    CONFIG SET appendonly no
    ACL LIST
    KEYS *
    SCAN 0
    EVAL return(1) 0
    EVALSHA 0000000000000000000000000000000000000000 0
    SCRIPT LOAD return(1)
    FUNCTION LIST
    MONITOR
    SHUTDOWN
    CLIENT LIST
    CLIENT KILL TYPE normal
    INFO
    REPLICAOF NO ONE
    GET P:secret:D
    SET P:secret:D 1
    DEL P:secret:D
    GET another:key
    LRANGE P:commands 0 -1
    LPOP P:commands
    LREM P:commands 0 x
    DEL P:commands
    BLPOP P:commands 0.01
    LMOVE P:commands P:reply:dispatch LEFT RIGHT
    LRANGE P:commands:waiting:D 0 -1
    RPUSH P:commands:waiting:D x
    LPOP P:commands:waiting:D
    DEL P:commands:waiting:D
    LRANGE P:commands:intake:gw1 0 -1
    HGETALL P:commands:underway:gw1
    HGETALL P:commands:unsettled:D
    RPUSH P:commands:route:gw1 D
    LRANGE P:commands:invalid 0 -1
    ZADD P:commands:deadlines 1 o1
    HSET P:command:o1 state done
    DEL P:command:o1
    HSET P:device:D lock_state locked
    HSET P:session:D gateway gw2
    HSET P:label:D name x
    SADD P:labels D
    HSET P:imei 867284063211238 D
    ZADD P:devices 1 D
    XADD P:events * kind lock
    XTRIM P:events MAXLEN 0
    XDEL P:events 1-1
    DEL P:events
    XADD P:history:D * kind lock
    PUBLISH P:event:lock:D {}
    PUBLISH P:event:command:D {}
    GET P:gateway:gw1
    DEL P:gateway:gw1
    SADD P:gateways gw9
    GET P:recent:D
    SET P:commit:gw1:boot 9
"""
#: What the one may not, though the other may.
DENIED = {
    READER: """
        RPUSH P:commands {"id":"o1"}
        HGETALL P:command:o1
        ZREVRANGE P:commands:recent 0 -1
        BLPOP P:reply:dispatch 0.01
        RPUSH P:reply:dispatch {}
        XGROUP DESTROY P:events billing
        XGROUP SETID P:events billing 0
        SUBSCRIBE another:channel
        PSUBSCRIBE *
    """,
    COMMANDER: """
        LPUSH P:commands {"id":"o1"}
        RPUSH P:reply:dispatch {}
        DEL P:reply:dispatch
        XRANGE P:events - +
        XREADGROUP GROUP billing one STREAMS P:events >
        SUBSCRIBE P:event:password:D
        PSUBSCRIBE P:event:*
        PSUBSCRIBE *
    """,
}
#: What the gateway may not either.
FORBIDDEN_GATEWAY = """
    FLUSHALL
    CONFIG GET *
    ACL LIST
    KEYS *
    EVAL return(1) 0
    SCRIPT FLUSH
    GET another:key
    SET another:key 1
    PUBLISH another:channel {}
    SUBSCRIBE another:channel
    PSUBSCRIBE *
    SHUTDOWN
"""

#: Rights of the gateway that no command name in its code shows, and why it has them.
BESIDES = {
    "SCRIPT|LOAD": "SCRIPT with its word",
    "HELLO": "for another client library",
    "WAIT": "--durability",
    "WAITAOF": "--durability",
}
#: Commands in the code that go to a server of the gateway's own, as its user `default`.
EMBEDDED_ONLY = {"INFO"}
#: What the gateway does without when its user may not.
OPTIONAL = {"CONFIG"}


def commands(table: str, prefix: str) -> list[list[str]]:
    """The commands of a table."""
    text = re.sub(r"\bP:", f"{prefix}:", table)
    text = re.sub(r"(?<=[ :])D(?=[ \n])", DEVICE, text)
    return [line.split() for line in text.splitlines() if line.strip()]


class ServiceTests(SynchronousTestCase):
    """Reader and commander, under every prefix."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.servers = {prefix: GuardedServer(prefix=prefix).start() for prefix in PREFIXES}

    @classmethod
    def tearDownClass(cls) -> None:
        for server in cls.servers.values():
            server.discard()

    def each(self, user: str) -> Any:
        """Prefix, client of this user, and data that there are, for every server."""
        for prefix, server in self.servers.items():
            with server.client() as admin:
                admin.call("FLUSHALL")
                admin.call("XADD", f"{prefix}:events", "1-1", "kind", "lock", "device", DEVICE, "event", "{}")
                admin.call("RPUSH", f"{prefix}:reply:dispatch", "1", "2", "3")
                admin.call("RPUSH", f"{prefix}:commands:waiting:{DEVICE}", "x")
            with server.client_of(user) as client:
                yield prefix, client

    def allowed(self, user: str) -> None:
        for prefix, client in self.each(user):
            for command in commands(ALLOWED[user], prefix):
                self.assertFalse(is_denied(client, command), f"{user} can't {command}")
                if command[0] == "SUBSCRIBE":
                    # A reply for each channel; the first has been read.
                    for _ in command[2:]:
                        client.read()
                if command[0].endswith("SUBSCRIBE"):
                    client.call("RESET")
                    log_in(client, user, password_of(user))

    def denied(self, user: str) -> None:
        for prefix, client in self.each(user):
            for command in commands(FORBIDDEN + DENIED[user], prefix):
                self.assertTrue(is_denied(client, command), f"{user} may {command}")

    def test_reader_may(self) -> None:
        """Follow events by all ways, keep consumer groups, read what is known of devices."""
        self.allowed(READER)

    def test_reader_may_not(self) -> None:
        """Give commands, read passwords, write anything of the gateway's, or rule the server."""
        self.denied(READER)

    def test_commander_may(self) -> None:
        """Push commands, take outcomes, read and hear what becomes of them."""
        self.allowed(COMMANDER)

    def test_commander_may_not(self) -> None:
        """Take back what waits but by cancel, read passwords, make events, or rule the server."""
        self.denied(COMMANDER)

    def test_gateway_may_not(self) -> None:
        """The gateway keeps to its prefix, and can't rule the server either."""
        for prefix, client in self.each(GATEWAY):
            for command in commands(FORBIDDEN_GATEWAY, prefix):
                self.assertTrue(is_denied(client, command), f"{GATEWAY} may {command}")

    def test_another_prefix(self) -> None:
        """What was adapted to one prefix opens nothing under another."""
        for prefix, server in self.servers.items():
            other = next(one for one in PREFIXES if one != prefix)
            for user in (GATEWAY, READER, COMMANDER):
                with server.client_of(user) as client:
                    for command in commands("XLEN P:events\nRPUSH P:commands {}\nHGETALL P:imei", other):
                        self.assertTrue(is_denied(client, command), f"{user} may {command}")

    def test_every_kind_of_event(self) -> None:
        """A reader may follow each kind of event by its pattern, and so may the gateway for its page."""
        for user in (READER, GATEWAY):
            for prefix, client in self.each(user):
                for kind in KINDS:
                    pattern = Keys(prefix).channel(kind, "*")
                    self.assertFalse(is_denied(client, ["PSUBSCRIBE", pattern]), f"{user}: {kind}")


class FileTests(SynchronousTestCase):
    """The file itself."""

    def test_included(self) -> None:
        """The file as it is, comments and all, can be included in the server's configuration."""
        server = GuardedServer("--include", str(ROOT / "etc" / "redis-acl.conf"))
        self.addCleanup(server.discard)
        server._options = server._options[2:]
        server.start()
        with server.client() as admin:
            admin.call("AUTH", READER, "change-me-reader")

    def test_reloaded(self) -> None:
        """A running server takes a changed ACL file with ACL LOAD, and the gateway's new password counts."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        path = server.directory / "users.acl"
        path.write_text(user_lines().replace(password_of(GATEWAY), "another"))
        with server.client() as admin:
            admin.call("ACL", "LOAD")
            log_in(admin, GATEWAY, "another")

    def test_prefixes_without_patterns(self) -> None:
        """No prefix that the gateway takes has a character that means something in a pattern."""
        for prefix in PREFIXES:
            self.assertEqual(read_prefix(prefix), prefix)
        for character in "*?[]\\^ \t\"'&/":
            self.assertRaises(ValueError, read_prefix, f"a{character}b")


class GatewayTests(SynchronousTestCase):
    """The gateway's rights are what its code uses: not less, and not more."""

    def used(self, known: set[str]) -> set[str]:
        """Every name of a command in the modules and scripts with which the gateway speaks to Redis."""
        root = Path(jt709c_gateway.__file__).parent
        found: set[str] = set()
        # `jt709c repartition` is no gateway: docs/partitions.rst has its user.
        ours = [path for path in root.rglob("*") if "repartition" not in str(path.relative_to(root))]
        for path in [one for one in ours if one.suffix == ".lua"]:
            found.update(re.findall(r"call(?:\(|, ?)'([A-Z]+)'", path.read_text()))
        for folder in ("redis", "gateway", "web"):
            for path in [one for one in ours if one.suffix == ".py" and one.is_relative_to(root / folder)]:
                for node in ast.walk(ast.parse(path.read_text())):
                    if isinstance(node, ast.Constant) and node.value in known:
                        found.add(node.value)
        return found - EMBEDDED_ONLY - OPTIONAL

    def test_commands(self) -> None:
        """Each command in the code is allowed, and nothing is that no code uses."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        with server.client() as admin:
            known = {name.decode().upper() for name in admin.call("COMMAND", "LIST")}
        allowed = {rule[1:].upper() for rule in rules_of(GATEWAY) if rule.startswith("+")}
        allowed |= {name.partition("|")[0] for name in allowed}
        used = self.used(known)
        self.assertIn("EVALSHA", used)
        self.assertIn("BLMOVE", used)
        self.assertEqual(used - allowed, set(), "etc/redis-acl.conf lacks these commands")
        self.assertEqual(allowed - used - BESIDES.keys(), set(), "no code uses these commands any more")

    def test_denials_are_noticed(self) -> None:
        """A denial is found by what the other tests look at, also one inside a script."""
        server = GuardedServer().start()
        self.addCleanup(server.discard)
        with server.client() as admin, server.client_of(GATEWAY) as client:
            script = admin.call("SCRIPT", "LOAD", "return redis.pcall('FLUSHALL')")
            self._try(client, "EVALSHA", script, 0)
            self.assertEqual(len(denials(admin, GATEWAY)), 1)
        self.assertRaises(AssertionError, server.end)

    def _try(self, client: RedisClient, *command: Any) -> None:
        try:
            client.call(*command)
        except Exception as error:
            self.assertIn("ACL failure", str(error))
