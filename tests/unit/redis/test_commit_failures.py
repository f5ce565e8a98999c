"""commit.lua against a real server: what can't be written, and servers that refuse."""

from twisted.trial.unittest import SynchronousTestCase

from jt709c_gateway.redis.committer import Limits
from tests.support import RedisError, ValkeyServer, free_port, key_prefix, wait_until
from tests.support.committer import Script, Teller
from tests.unit.redis.test_commit_script import CARD, DEVICE, OTHER, ScriptCase, report
from tests.vectors import binary


class FailureTests(ScriptCase):
    def test_wrong_type(self) -> None:
        """A record that can't be written is reported by its index; the others are written."""
        self.client.call("RPUSH", self.keys.device(DEVICE), "not a hash")
        contents = self.teller.reports(report(), report(wire=OTHER), report(2), b"(794308010680,@JT)")
        duplicates, *failures = self.script.commit(contents)
        self.assertEqual(duplicates, 0)
        self.assertEqual(failures[::2], [0, 2])
        for reason in failures[1::2]:
            self.assertIn(b"WRONGTYPE", reason)
        self.assertEqual(
            self.script.hash(self.keys.device("794308010680"))["seen"], "2025-11-18T11:30:00.000000Z"
        )

    def test_written_after_repair(self) -> None:
        """A record that failed is not known: when it is sent again and can be written, it is."""
        self.client.call("RPUSH", self.keys.device(DEVICE), "not a hash")
        self.script.commit(self.teller.reports(report()))
        self.client.call("DEL", self.keys.device(DEVICE))
        self.assertEqual(self.commit(report()), 0)
        self.assertEqual(self.device()["lock_state"], "locked")

    def test_repeated_batch_with_failures(self) -> None:
        """A repeated batch is told again which of its records had failed, so that they stay unanswered."""
        self.client.call("RPUSH", self.keys.device(DEVICE), "not a hash")
        contents = self.teller.reports(report(), report(wire=OTHER), report(2))
        self.script.commit(contents, number=1)
        before = self.script.stream(self.keys.events)
        said, *failures = self.script.commit(contents, number=1)
        self.assertEqual((said, failures[::2]), (-1, [0, 2]))
        self.assertEqual(self.script.stream(self.keys.events), before)
        self.assertEqual(self.script.commit(self.teller.reports(report(3, wire=OTHER)), number=2), 0)

    def test_housekeeping(self) -> None:
        """A key of the wrong type that only housekeeping meets doesn't fail a batch that was written."""
        self.client.call("SET", self.keys.devices, "not a sorted set")
        self.script.limits = Limits(max_age_ms=1000)
        contents = self.teller.contents(b"(794308010679,@JT)")
        self.assertEqual(self.script.commit(contents, number=1)[1], 1)
        self.assertEqual(self.script.commit(contents, number=1)[0], -1)

    def test_every_record_fails(self) -> None:
        """With a stream that is none, every record is reported, and nothing is raised."""
        self.client.call("SET", self.keys.events, "not a stream")
        said = self.script.commit(self.teller.reports(*[report(serial) for serial in range(1, 101)]))
        self.assertEqual(said[1::2], list(range(100)))


class RefusalTests(SynchronousTestCase):
    """A server that takes no writes; it is our own, since its settings are changed."""

    def setUp(self) -> None:
        self.server = ValkeyServer("--maxmemory-policy", "noeviction").start()
        self.addCleanup(self.server.discard)
        self.client = self.server.client()
        self.addCleanup(self.client.close)
        self.script = Script(self.client, key_prefix())
        self.teller = Teller()
        self.contents = self.teller.contents(report(items=CARD), binary(0x0002))

    def keys(self) -> list[bytes]:
        return self.client.call("KEYS", "*")

    def refused(self, word: str) -> None:
        error = self.assertRaises(RedisError, self.script.commit, self.contents, number=1)
        self.assertIn(word, str(error))
        self.assertEqual(self.keys(), [])

    def written(self) -> None:
        self.assertEqual(self.script.commit(self.contents, number=1), 0)
        self.assertEqual(len(self.script.events()), 4)

    def test_out_of_memory(self) -> None:
        """A server without memory refuses the whole batch, and takes it whole when it has some again."""
        self.client.call("CONFIG", "SET", "maxmemory", "1kb")
        self.refused("OOM")
        self.client.call("CONFIG", "SET", "maxmemory", "0")
        self.written()

    def test_read_only(self) -> None:
        """A replica refuses the whole batch, and takes it whole when it has become a master."""
        self.client.call("REPLICAOF", "127.0.0.1", free_port())
        wait_until(lambda: self.client.call("ROLE")[0] == b"slave")
        self.refused("READONLY")
        self.client.call("REPLICAOF", "NO", "ONE")
        self.written()
