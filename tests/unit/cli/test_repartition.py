"""`jt709c repartition` as a process, against real servers and a Redis Cluster."""

import json
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.repartition.stores import Store
from tests.support import ROOT, RedisClient, RedisError, ValkeyServer
from tests.support.cli import Running, run
from tests.support.partitioned import PartitionedCluster
from tests.support.repartition import DEVICES, after_passing, content, fill, keys_of, misplaced, store

#: What `fill` stores as passwords of locks.
SECRET = re.compile(r"pass[0-9]")


class ProcessCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = self.new_server()
        self.clients = [self.client(self.server)]

    def new_server(self, *options: str) -> ValkeyServer:
        server = ValkeyServer(*options).start()
        self.addCleanup(server.discard)
        return server

    def client(self, server: ValkeyServer) -> RedisClient:
        client = server.client()
        self.addCleanup(client.close)
        return client

    def store(self, count: int, clients: list[RedisClient] | None = None, prefix: str = "jt709c") -> Store:
        return store(clients or self.clients, prefix, count)

    def filled(self, count: int) -> Any:
        """Fill the server, and return what is there after a move."""
        fill(self.store(count), self.clients)
        return after_passing(content(self.store(count), self.clients))

    def repartition(self, *options: str, url: str | None = None, **environment: str) -> str:
        """Run it, check that it has ended well, and return its output."""
        ended = run("repartition", "--redis", url or self.server.url, *options, **environment)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIsNone(SECRET.search(ended.stdout + ended.stderr))
        return ended.stdout

    def refused(self, *options: str, url: str | None = None, **environment: str) -> str:
        """Run it, and return the last line of the error, which is no traceback."""
        ended = run("repartition", "--redis", url or self.server.url, *options, **environment)
        self.assertEqual((ended.returncode, ended.stdout), (2, ""))
        self.assertNotIn("Traceback", ended.stderr)
        return ended.stderr.splitlines()[-1].removeprefix("jt709c: ")

    def check(self, wanted: Any, after: Store, clients: list[RedisClient] | None = None) -> None:
        """Check that all is there once, where it belongs."""
        found = content(after, clients or self.clients)
        for key, value in wanted.items():
            if key == ("reply", b"ward"):
                # A delivered outcome sets the time for which the list is kept.
                self.assertEqual(found[key][0], value[0])
            else:
                self.assertEqual(found[key], value, key)
        self.assertEqual(misplaced(after, clients or self.clients), [])


class ProcessTests(ProcessCase):
    def test_moved(self) -> None:
        """The steps are told, and the other subcommands find the new number."""
        wanted = self.filled(1)
        planned = self.repartition("--from", "1", "--to", "4", "--dry-run")
        count = len(keys_of(self.store(1), self.clients))
        self.assertTrue(
            planned.startswith(f"{count} keys can be moved: 1 allowed, 2 batch, 24 command,"), planned
        )
        ended = run("repartition", "--redis", self.server.url, "--from", "1", "--to", "4")
        self.assertEqual(ended.stdout, "the keys are in 4 partitions with the prefix jt709c\n")
        self.assertIn("copying keys: 292\n", ended.stderr)
        self.assertIsNone(SECRET.search(ended.stderr))
        self.check(wanted, self.store(4))
        listed = run("devices", "--json", "--redis", self.server.url).stdout.splitlines()
        self.assertEqual(sorted(json.loads(one)["device"] for one in listed), DEVICES)
        self.assertIn("nothing to do", self.repartition("--from", "1", "--to", "4"))

    def test_wrong_options(self) -> None:
        self.assertIn("expected another number than --from", self.refused("--from", "2", "--to", "2"))
        self.assertIn("from 1 to 256", self.refused("--from", "0", "--to", "2"))
        self.assertIn(
            "--prefix: '{x}' would keep all 2", self.refused("--from", "1", "--to", "2", "--prefix", "{x}")
        )
        self.assertIn("no keys of 2 partitions", self.refused("--from", "2", "--to", "4"))
        self.assertIn(
            "--from-prefix: 'jt709c': on a cluster",
            self.refused("--from", "1", "--to", "2", url="redis+cluster://localhost"),
        )
        self.assertIn("no move has begun", self.refused("--from", "2", "--to", "4", "--abandon"))
        self.assertIn(
            "cannot connect to Redis", self.refused("--from", "2", "--to", "4", url="redis://127.0.0.1:1")
        )

    def test_killed(self) -> None:
        """Killed as soon as a step has begun: others say what is going on, and run again it ends."""
        wanted = self.filled(1)
        for step in ("copying keys", "deleting the old keys"):
            with Running("repartition", "--redis", self.server.url, "--from", "1", "--to", "4") as running:
                while not running.notice().startswith(step):
                    self.assertIsNone(running.process.poll())
                running.process.kill()
                running.wait()
            if step == "copying keys":
                said = run("devices", "--redis", self.server.url)
                self.assertEqual(said.returncode, 2)
                self.assertIn("are being moved from 1 to 4 partitions: run jt709c repartition", said.stderr)
        self.repartition("--from", "1", "--to", "4")
        self.check(wanted, self.store(4))

    def test_several_servers(self) -> None:
        """From one server to two."""
        wanted = self.filled(1)
        servers = [self.new_server(), self.new_server()]
        url = " ".join(one.url for one in servers)
        self.repartition("--from", "1", "--to", "4", "--to-redis", url)
        others = [self.client(one) for one in servers]
        self.check(wanted, self.store(4, others), others)
        self.assertEqual(self.clients[0].call("KEYS", "*"), [b"jt709c:partitions"])

    def test_user(self) -> None:
        """The user in the documentation has the rights that are used, and no others."""
        (line,) = re.findall(r"user (jt709c-repartition .*)", (ROOT / "docs/partitions.rst").read_text())
        name, *rules = [one for one in line.split() if not one.startswith(">")]
        wanted = self.filled(2)
        client = self.clients[0]
        client.call("XGROUP", "CREATE", "jt709c:{0}:events", "g", "0")
        client.call("RPUSH", f"jt709c:{{1}}:track:{DEVICES[0]}x", *range(6000))
        client.call("ACL", "SETUSER", name, "reset", "on", ">x", *rules)
        client.call("CONFIG", "RESETSTAT")
        url = f"redis://{name}:x@127.0.0.1:{self.server.port}"
        self.repartition("--from", "2", "--to", "3", url=url)
        statistics = client.call("INFO", "commandstats").decode()
        used = set(re.findall(r"cmdstat_([a-z|_]+):", statistics)) - {
            "info",
            "config|resetstat",
            "acl|setuser",
        }
        rights = {one[1:] for one in rules if one.startswith("+")}
        self.assertLessEqual(used, rights)
        # For connections, keys that change or expire meanwhile, and members that two partitions have.
        self.assertEqual(rights - used, {"select", "wait", "hdel", "pttl", "pexpireat", "time", "zscore"})
        client.call("DEL", *client.call("KEYS", "*:track:*x"))
        self.check(wanted, self.store(3))

    def test_lacking_rights(self) -> None:
        """A user without them is told so."""
        self.filled(1)
        self.clients[0].call("ACL", "SETUSER", "u", "on", ">x", "~*", "+@read", "+@connection")
        text = self.refused("--from", "1", "--to", "2", url=f"redis://u:x@127.0.0.1:{self.server.port}")
        self.assertIn("this Redis user may not move keys", text)
        self.assertIn("docs/partitions.rst has one that may", text)


class ClusterTests(SynchronousTestCase):
    """A cluster of three primaries, each with a replica."""

    def test_there_and_back(self) -> None:
        """From a single prefix with a hash tag to several partitions, to more of them, and back."""
        cluster = PartitionedCluster(count=8).start()
        self.addCleanup(cluster.discard)

        def clients(count: int) -> list[RedisClient]:
            found = [cluster.node_of(number).client() for number in range(count)]
            for one in found:
                self.addCleanup(one.close)
            return found

        case = ProcessCase()
        at = [next(one for one in cluster.nodes if self.has(one, "{jt709c}:imei")).client()]
        self.addCleanup(at[0].close)
        single = store(at, "{jt709c}", 1)
        fill(single, at)
        wanted = after_passing(content(single, at))
        options = ("--from", "1", "--to", "4", "--from-prefix", "{jt709c}")
        self.assertIn("4 partitions", case.repartition(*options, url=cluster.url))
        case.check(wanted, store(clients(4), "jt709c", 4), clients(4))
        self.assertEqual(at[0].call("KEYS", "{jt709c}:*"), [b"{jt709c}:partitions"])
        self.assertIn("nothing to do", case.repartition(*options, url=cluster.url))
        case.repartition("--from", "4", "--to", "8", url=cluster.url)
        case.check(wanted, store(clients(8), "jt709c", 8), clients(8))
        case.repartition(
            *("--from", "8", "--to", "1", "--from-prefix", "jt709c", "--prefix", "{jt709c}"), url=cluster.url
        )
        case.check(wanted, single, at)

    def has(self, node: Any, key: str) -> bool:
        """Whether this node has the slot of a key."""
        with node.client() as client:
            try:
                client.call("EXISTS", key)
            except RedisError:
                return False
        return True
